"""The error of one patient's expected count, from the error model that the checkpoint keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from causalms.generator.seen import error_columns
from causalms.tables import ModelError

if TYPE_CHECKING:
    from causalms.generator.model import Generator
    from causalms.generator.outcomes import Scan


def error_of_expected_count(generator: Generator, scan: Scan, arm: int, week: float) -> ModelError | None:
    """The error of a patient's count under one arm at one week; None where the generator has no error model."""
    if generator.error_model is None:
        return None
    everywhere = torch.arange(len(generator.arms), device=scan.rate.device)
    weeks = torch.full((len(generator.arms),), week, device=scan.rate.device)
    rate, state = scan.rate.expand(len(everywhere)), scan.encoded.state.expand(len(everywhere), -1)
    risk = generator.network.risk
    log_mean = risk.log_expected_count(rate, state, everywhere, weeks).double().cpu().numpy()
    size = float(risk.size(everywhere[arm : arm + 1])[0])
    last = log_mean + np.log(generator.weeks[1] / week)
    columns = error_columns(scan.covariates[None].astype(float))
    error = generator.error_model.cells(last[None], columns, arm, np.exp(log_mean[[arm]]), size)[0]
    if generator.seen is None:
        return error
    return replace(error, distances=scan.distances, seen=generator.seen.patients, usual=generator.seen.usual)
