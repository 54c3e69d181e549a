"""Lesions."""
