"""Damaged inputs of every kind, put to every verb: what is refused, what is said, and what passes in silence."""
