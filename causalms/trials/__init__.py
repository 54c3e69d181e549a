"""Trials on disk and in memory: one participants table, one grid, images that are read when asked for."""

from causalms.trials.anatomy import Anatomy, template_anatomy
from causalms.trials.space import Space, mni_space
from causalms.trials.trial import MASKS, MODALITIES, ImageSource, Trial

__all__ = ["MASKS", "MODALITIES", "Anatomy", "ImageSource", "Space", "Trial", "mni_space", "template_anatomy"]
