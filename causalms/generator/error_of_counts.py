"""The error of one patient's expected count, from the checkpoint's error model, and what missing inputs add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from causalms.generator.seen import error_columns
from causalms.stats import correction_for
from causalms.tables import ModelError

if TYPE_CHECKING:
    from causalms.generator.model import Generator
    from causalms.generator.outcomes import Scan


@torch.no_grad()
def log_means(generator: Generator, scan: Scan, week: float) -> Tensor:
    """Log expected counts (arms,) of a patient at a week: computed once, for every arm is asked about in turn."""
    if (known := scan.log_means.get(week)) is None:
        everywhere = torch.arange(len(generator.arms), device=scan.rate.device)
        weeks = torch.full((len(generator.arms),), week, device=scan.rate.device)
        rate, state = scan.rate.expand(len(everywhere)), scan.encoded.state.expand(len(everywhere), -1)
        known = scan.log_means[week] = generator.network.risk.log_expected_count(rate, state, everywhere, weeks)
    return known


def error_of_expected_count(generator: Generator, scan: Scan, arm: int, week: float) -> ModelError | None:
    """The error of a patient's count under one arm at one week; None where the generator has no error model."""
    if generator.error_model is None:
        return None
    log_mean = log_means(generator, scan, week).double().cpu().numpy()
    own = torch.tensor([arm], device=scan.rate.device)
    size = float(generator.network.risk.size(own)[0]) * float(np.exp(scan.log_size))
    last = log_mean + np.log(generator.weeks[1] / week)
    columns = error_columns(scan.covariates[None].astype(float))
    error = generator.error_model.cells(last[None], columns, arm, np.exp(log_mean[[arm]]), size)[0]
    if (correction := correction_for(generator.error_model.lacking, lacking_of(scan.missing))) is not None:
        error.log_mean[-1] = np.hypot(error.log_mean[-1], correction[0].shift_sd)  # one error of all who lack these inputs
    if generator.seen is None:
        return error
    return replace(error, distances=scan.distances, seen=generator.seen.patients, usual=generator.seen.usual)


def lacking_of(missing: Sequence[str]) -> list[str]:
    """The inputs a correction may be learned for, of those that a patient lacks: a brain mask is made where there is none."""
    return [name for name in missing if name != "brain mask"]


def correction_of_lacking(generator: Generator, state: Tensor, rate: Tensor, missing: Sequence[str]) -> tuple[float, float]:
    """What is added to the log rate and to the log size of a patient of whom inputs are missing."""
    model = generator.error_model
    found = None if model is None else correction_for(model.lacking, lacking_of(missing))
    if model is None or found is None:
        return 0.0, 0.0
    everywhere = torch.arange(len(generator.arms), device=rate.device)
    last = torch.full((len(generator.arms),), generator.weeks[1], device=rate.device)
    states = state.expand(len(everywhere), -1)
    average = float(generator.network.risk.log_expected_count(rate.expand(len(everywhere)), states, everywhere, last).mean())
    return found[0].of_log_mean(average - model.centre), found[0].log_size


def words_of_lacking(generator: Generator, missing: Sequence[str]) -> str:
    """What was done about the inputs that a patient lacks, in words."""
    lacking = lacking_of(missing)
    known = () if generator.error_model is None else generator.error_model.lacking
    found = correction_for(known, lacking)
    if not lacking:
        return ""
    if found is None:
        return "the interval is not widened for it: the checkpoint has learned no correction, train it again"
    correction, more = found
    if not (correction.shift or correction.slope or correction.log_size):
        return f"{correction.patients:,} patients without were forecast as well as with: nothing to correct"
    learned = f"mean and width corrected as learned from {correction.patients:,} patients without"
    return f"{learned} {', '.join(correction.names)} (the nearest pattern)" if more else f"{learned} the same"
