"""The treatment-conditioned diffusion model of new and enlarging T2 lesion masks."""

from __future__ import annotations

from causalms.generator.batched import masks_at_once, sample_across
from causalms.generator.configurations import ModelConfig, TrainingConfig, config
from causalms.generator.control_variate import controlled_means
from causalms.generator.forecast import MapFolder, forecast_patient, label_of_arm
from causalms.generator.kept_scans import kept_scan
from causalms.generator.model import Generator, loaded_once
from causalms.generator.noise import DiffusionNoise
from causalms.generator.sampling import SAMPLERS, one_thread
from causalms.generator.train.data import fill_cache
from causalms.generator.train.distributed import first_process
from causalms.generator.train.loop import train_generator

__all__ = [
    "SAMPLERS",
    "DiffusionNoise",
    "Generator",
    "MapFolder",
    "ModelConfig",
    "TrainingConfig",
    "config",
    "controlled_means",
    "fill_cache",
    "first_process",
    "forecast_patient",
    "kept_scan",
    "label_of_arm",
    "loaded_once",
    "masks_at_once",
    "one_thread",
    "sample_across",
    "train_generator",
]
