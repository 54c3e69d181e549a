"""Trials on disk and in memory: one participants table, one grid, images that are read when asked for."""

from causalms.trials.anatomy import template_anatomy
from causalms.trials.check import check_trial, summary_table
from causalms.trials.folder import load_trial
from causalms.trials.nifti import read_mask, write_map, write_mask
from causalms.trials.position import refuse_elsewhere
from causalms.trials.resample import resample_back, resample_trial
from causalms.trials.space import Space, mni_space
from causalms.trials.table_problems import Problem
from causalms.trials.trial import MASKS, MODALITIES, Trial
from causalms.trials.writer import TrialWriter

__all__ = [
    "MASKS",
    "MODALITIES",
    "Problem",
    "Space",
    "Trial",
    "TrialWriter",
    "check_trial",
    "load_trial",
    "mni_space",
    "read_mask",
    "refuse_elsewhere",
    "resample_back",
    "resample_trial",
    "summary_table",
    "template_anatomy",
    "write_map",
    "write_mask",
]
