"""What one patient may develop under each arm: risk maps, sampled masks and counts on the patient's own grid."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special
from tqdm import tqdm

from causalms.generator.batched import sample_across
from causalms.generator.control_variate import ControlledMean, controlled_mean, frailties
from causalms.generator.error_of_counts import words_of_lacking
from causalms.generator.model import Generator
from causalms.generator.outcomes import ExpectedOutcome, Scan
from causalms.tables import COMPARED, ModelError
from causalms.trials import NativeGrid, Space, Trial, resample_back, resample_trial, write_map, write_mask

#: Plausible generators that a prediction interval averages over.
_NODES = 41


@dataclass(frozen=True)
class Forecast:
    """One patient's forecast.

    Attributes
    ----------
    table : DataFrame
        One row an arm: expected lesions with a prediction interval of the count (:func:`prediction_interval`), expected
        volume, activity probability; mean
        sampled lesions with and without the expectation as control variate, where there are draws; ``missing``, what was not
        there and is masked in the model (empty: nothing).
    risks : dict of arm to array
        Probability that a voxel lies in a new or enlarging lesion, on the patient's own grid.
    notes : tuple of str
        What was resampled, filled in or missing, in words.
    """

    participant_id: str
    table: pd.DataFrame
    risks: dict[str, np.ndarray] = field(repr=False)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MapFolder:
    """Where risk maps are written, and whether the sampled masks are too."""

    folder: Path
    masks: bool = False


def forecast_patient(
    generator: Generator,
    trial: Trial,
    participant_id: str,
    arms: Sequence[str],
    week: float,
    draws: int = 0,
    seed: int = 0,
    level: float = 0.9,
    maps: MapFolder | None = None,
) -> Forecast:
    """Forecast one patient under several arms.

    Parameters
    ----------
    generator : Generator
    trial : Trial
        On any grid in MNI152 coordinates; resampled to the model's grid, and maps back, explicitly.
    participant_id : str
    arms : sequence of str
    week : float
        Follow-up week.
    draws : int
        Sampled masks an arm; the noise of a draw is the same for every arm.
    seed : int
    level : float
        Of the equal-tailed prediction interval of the negative-binomial count.
    maps : MapFolder, optional
        Where to write maps as NIfTI on the patient's own grid; for one whom :mod:`causalms.register` moved, also on the grid that
        the scan was taken on (``space-orig``).

    Returns
    -------
    Forecast

    Raises
    ------
    RefusalError
        If an arm or the week is outside the model's support, or the images are elsewhere than MNI152.
    InputError
        If an image cannot be read.
    """
    on_grid, own_space = resample_trial(trial, generator.space), trial.space_of(participant_id)
    home = trial.native_of(participant_id)
    scan = generator.encode(on_grid, participant_id)
    rows, risks, masks = [], {}, _sampled_masks(generator, scan, arms, week, draws, seed)
    for arm in tqdm(arms, desc=participant_id, unit="arm", disable=None, leave=False):
        expected = generator.expect(scan, arm, week, risk=True)
        error = generator.model_error(scan, arm, week)
        sampled = []
        for draw, mask in enumerate(islice(masks, draws)):
            sampled.append(generator.count(mask))
            if maps is not None and maps.masks:
                file = maps.folder / mask_name(participant_id, arm, week, draw)
                write_mask(file, resample_back(mask, generator.space, own_space), own_space)
                _write_at_home(file, mask, generator.space, home)
        if expected.risk is not None:
            risks[arm] = np.clip(resample_back(expected.risk.astype(np.float32), generator.space, own_space), 0, 1)
            if maps is not None:
                file = maps.folder / risk_name(participant_id, arm, week)
                write_map(file, risks[arm], own_space)
                _write_at_home(file, np.clip(expected.risk, 0, 1).astype(np.float32), generator.space, home)
        row = {
            "participant_id": participant_id,
            "arm": arm,
            "visit_week": week,
            "expected_net2_lesions": expected.lesions,
            **prediction_interval(expected.lesions, expected.dispersion, error, level),
            "level": level,
            "expected_net2_volume_ml": expected.volume_ml,
            "activity_probability": expected.activity_probability,
            "dispersion": expected.dispersion,
            "draws": draws,
        }
        rows.append({**row, **_sampled(participant_id, sampled, expected, seed), "missing": "; ".join(scan.missing)})
    table, notes = pd.DataFrame(rows), [*on_grid.notes]
    table = table.assign(**{f"distance_{name}": distance for name, distance in scan.distances.items()})
    outside = [f"{COMPARED[name]} {distance:.1f}" for name, distance in scan.distances.items() if distance > 1]
    if outside:
        notes.append(
            f"{participant_id}: unlike the patients that the model learned from (distance of {', '.join(outside)}; "
            "99% of them lie within 1); the forecast is an extrapolation"
        )
    if home is not None and maps is not None:
        notes.append(f"{participant_id}: maps also on the grid of the {home.image} as it was taken (space-orig)")
    if generator.error_model is None:
        notes.append("the checkpoint's own error is unknown: no prediction interval but the one given the model")
    if scan.missing:
        done = words_of_lacking(generator, scan.missing)
        notes.append(
            f"{participant_id}: not available and masked in the model: {', '.join(scan.missing)}" + f"; {done}" * bool(done)
        )
    return Forecast(participant_id, table, risks, tuple(notes))


def _sampled_masks(
    generator: Generator, scan: Scan, arms: Sequence[str], week: float, draws: int, seed: int
) -> Iterator[np.ndarray]:
    """The masks of draws 0, 1, ... of each arm in turn, a batch of them in memory at a time."""
    noise = partial(generator.noise, scan.participant_id, seed=seed)
    return sample_across(generator, ((scan, arm, week, noise(draw)) for arm in arms for draw in range(draws)))


def _write_at_home(file: Path, values: np.ndarray, space: Space, home: NativeGrid | None) -> None:
    """A map or mask of the model's grid, written on the grid that a registered patient's scan was taken on."""
    if home is None:
        return
    own = resample_back(values, space, home.in_template, through=home.through)
    write = write_mask if values.dtype == bool else write_map
    write(file.with_name(native_name(file.name)), own, home.space)


def prediction_interval(mean: float, dispersion: float, error: ModelError | None, level: float = 0.9) -> dict[str, float]:
    """Equal-tailed prediction interval of a count, over plausible generators and given this one.

    Parameters
    ----------
    mean, dispersion : float
        Of the negative-binomial law.
    error : ModelError or None
        Log-normal error of the mean; where it is unknown only the interval given the model is known.
    level : float

    Returns
    -------
    dict
        ``lower``, ``upper`` and ``se_generator`` (of the log mean), ``lower_given_model`` and ``upper_given_model``.

    Examples
    --------
    >>> wide = prediction_interval(4.0, 0.5, ModelError("m", "from 9 patients", np.array([0.4]), 0.0, 0.0))
    >>> [wide[name] for name in ("lower", "upper", "lower_given_model", "upper_given_model")]
    [0.0, 13.0, 0.0, 11.0]
    """
    size, tails = 1 / dispersion, ((1 - level) / 2, (1 + level) / 2)
    plain = _quantiles(np.array([mean]), size, tails)
    wide, spread = [np.nan, np.nan], np.nan
    if error is not None:
        spread = float(np.linalg.norm(error.log_mean))
        nodes = special.ndtri((np.arange(_NODES) + 0.5) / _NODES)
        wide = _quantiles(mean * np.exp(spread * nodes), size, tails)
    return {
        "lower": wide[0],
        "upper": wide[1],
        "se_generator": spread,
        "lower_given_model": plain[0],
        "upper_given_model": plain[1],
    }


def _quantiles(means: np.ndarray, size: float, tails: tuple[float, float]) -> list[float]:
    """Quantiles of an equal mixture of negative-binomial laws of one size."""
    probability, top = size / (size + means[:, None]), 64
    while True:
        cumulative = special.betainc(size, np.arange(1.0, top + 1), probability).mean(axis=0)
        if cumulative[-1] >= max(tails) or top > 2**20:
            return [float(np.searchsorted(cumulative, tail)) for tail in tails]
        top *= 4


def _sampled(participant_id: str, counts: list[int], expected: ExpectedOutcome, seed: int) -> dict[str, float]:
    """Means of the sampled counts and their Monte-Carlo errors; missing where there are too few draws."""
    if len(counts) < 2:
        mean_count = ControlledMean(float(np.mean(counts)) if counts else np.nan, np.nan, np.nan, np.nan, np.nan, len(counts))
    else:
        frailty = frailties(participant_id, np.arange(len(counts)), seed, 1 / expected.dispersion)
        mean_count = controlled_mean(np.asarray(counts), frailty, expected.lesions)
    return {
        "mean_sampled_lesions": mean_count.plain,
        "se_monte_carlo": mean_count.se_plain,
        "controlled_mean_lesions": mean_count.controlled,
        "se_controlled": mean_count.se_controlled,
    }


def risk_name(participant_id: str, arm: str, week: float) -> str:
    """File name of a risk map, in the manner of BIDS derivatives."""
    return f"{participant_id}_ses-w{week:02.0f}_desc-{label_of_arm(arm)}_probseg.nii.gz"


def mask_name(participant_id: str, arm: str, week: float, draw: int) -> str:
    """File name of a sampled mask, in the manner of BIDS derivatives."""
    return f"{participant_id}_ses-w{week:02.0f}_label-L_desc-{label_of_arm(arm)}Draw{draw:03d}NET2_mask.nii.gz"


def native_name(name: str) -> str:
    """The name of a map or mask on the grid of the patient's own scan, before registration.

    Examples
    --------
    >>> native_name("sub-1_ses-w48_desc-Drug_probseg.nii.gz")
    'sub-1_ses-w48_space-orig_desc-Drug_probseg.nii.gz'
    """
    participant, session, rest = name.split("_", 2)
    return f"{participant}_{session}_space-orig_{rest}"


def label_of_arm(arm: str) -> str:
    """An arm as the value of ``desc-``: letters and digits alone.

    Examples
    --------
    >>> label_of_arm("high-dose")
    'HighDose'
    """
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", arm))
