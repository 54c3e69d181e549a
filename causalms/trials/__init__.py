"""Trials on disk and in memory: one participants table, one grid, images that are read when asked for."""

from causalms.trials.bids import image_path, mask_path
from causalms.trials.check import check_trial, summary_table
from causalms.trials.folder import load_trial, net2_counts
from causalms.trials.layout import Layout
from causalms.trials.native import TEMPLATE, Deformation, NativeGrid, native_path, write_native
from causalms.trials.nifti import read_mask, read_space, read_volume, write_image, write_map, write_mask
from causalms.trials.position import Position, measure_position, refuse_elsewhere
from causalms.trials.resample import ResampledSource, resample_back, resample_image, resample_lesions, resample_trial
from causalms.trials.space import Space, mni_space
from causalms.trials.table_problems import Problem
from causalms.trials.template import template_anatomy
from causalms.trials.trial import MASKS, MODALITIES, Trial
from causalms.trials.unread import images_there
from causalms.trials.writer import TrialWriter

__all__ = [
    "MASKS",
    "MODALITIES",
    "TEMPLATE",
    "Deformation",
    "Layout",
    "NativeGrid",
    "Position",
    "Problem",
    "ResampledSource",
    "Space",
    "Trial",
    "TrialWriter",
    "check_trial",
    "image_path",
    "images_there",
    "load_trial",
    "mask_path",
    "measure_position",
    "mni_space",
    "native_path",
    "net2_counts",
    "read_mask",
    "read_space",
    "read_volume",
    "refuse_elsewhere",
    "resample_back",
    "resample_image",
    "resample_lesions",
    "resample_trial",
    "summary_table",
    "template_anatomy",
    "write_image",
    "write_map",
    "write_mask",
    "write_native",
]
