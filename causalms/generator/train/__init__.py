"""Training of the generator: from a trial to a checkpoint."""

from __future__ import annotations

from causalms.generator.train.data import fill_cache
from causalms.generator.train.distributed import first_process
from causalms.generator.train.loop import train_generator

__all__ = ["fill_cache", "first_process", "train_generator"]
