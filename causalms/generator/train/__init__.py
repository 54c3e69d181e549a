"""Training of the generator: from a trial to a checkpoint."""
