"""Calibration of place: voxel risk, lesions by region, and how much the risk map knew of where lesions came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.calibration.pairs import pair
from causalms.calibration.tests import ratio_of_means
from causalms.errors import InputError, RefusalError, UsageError
from causalms.stats import Array
from causalms.tables import REGIONS, net2_column

if TYPE_CHECKING:
    from causalms.causal import CausalModel
    from causalms.trials import Trial


@dataclass(frozen=True)
class RiskMap:
    """One patient's voxel risk beside what was observed, on one grid.

    Attributes
    ----------
    risk : array
        Probability that a voxel is in the mask of new or enlarging lesions.
    mask : bool array
        Observed mask.
    brain : bool array, optional
        Voxels that count; all unless given.
    centres : integer array (k, dimensions), optional
        Voxel of each observed lesion's centre, for :func:`place_scores`.
    """

    risk: Array
    mask: NDArray[np.bool_]
    brain: NDArray[np.bool_] | None = None
    centres: NDArray[np.intp] | None = None

    def __post_init__(self) -> None:
        shapes = [np.shape(self.risk), np.shape(self.mask), *([np.shape(self.brain)] if self.brain is not None else [])]
        if len(set(shapes)) > 1:
            raise InputError(
                f"risk map: shapes {', '.join(map(str, shapes))} of risk, mask and brain differ; resample to one grid"
            )
        inside = self.risk if self.brain is None else self.risk[self.brain]
        if not (np.isfinite(inside).all() and inside.min() >= 0 and inside.max() <= 1):
            raise InputError("risk map: found values outside 0 to 1; give probabilities")

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Voxels that count."""
        return np.ones(self.mask.shape, bool) if self.brain is None else self.brain


def risk_maps(
    model: CausalModel, trial: Trial, week: int, participants: Sequence[str] | None = None, progress: bool = False
) -> list[RiskMap]:
    """Each patient's voxel risk under the arm as randomised, with the observed mask and the centres of its lesions.

    Parameters
    ----------
    model : CausalModel
        With a mechanism that gives masks.
    trial : Trial
        On the grid of the model; patients without an observed mask at the week are left out.
    week : int
    participants : sequence of str, optional
        Everyone with an observed count unless given.
    progress : bool
    """
    from tqdm import tqdm

    from causalms.lesions import lesion_table
    from causalms.trials import template_anatomy

    people = trial.participants.set_index("participant_id")
    followed = people[people[net2_column(week)].notna()]
    chosen = followed.index if participants is None else [name for name in participants if name in followed.index]
    brain, affine = template_anatomy(trial.space).brain, trial.space.affine
    maps = []
    for participant in tqdm(chosen, desc="risk maps", unit="patient", disable=None if progress else True):
        mask = trial.mask(participant, "NET2", week)
        if mask is None:
            continue
        risk = np.clip(model.risk_map(trial, participant, str(followed.loc[participant, "arm"]), week), 0, 1).astype(np.float32)
        lesions = lesion_table(mask, affine)
        maps.append(RiskMap(risk, mask, brain | mask | (risk > 0), _central_voxels(lesions, mask, affine)))
    return maps


def _central_voxels(lesions: pd.DataFrame, mask: NDArray[np.bool_], affine: Array) -> NDArray[np.intp]:
    """The lesion voxel nearest to each lesion's centre of mass."""
    if not len(lesions):
        return np.zeros((0, 3), np.intp)
    world = lesions[["x_mm", "y_mm", "z_mm"]].to_numpy(float)
    centres = (np.linalg.inv(affine) @ np.vstack([world.T, np.ones(len(world))]))[:3].T
    voxels = np.argwhere(mask)
    apart = ((centres[:, None, :] - voxels[None, :, :]) ** 2).sum(axis=2)
    return np.asarray(voxels[apart.argmin(axis=1)])


def voxel_reliability(maps: Iterable[RiskMap], bins: int = 12, level: float = 0.95) -> pd.DataFrame:
    """Observed frequency of lesion voxels in classes of voxel risk, with intervals between patients.

    Voxels of one patient are anything but independent, so a patient is the unit: the standard error of a class is
    that of the patients' sums of observed minus expected lesion voxels, and at least that of independent voxels, because a
    class without any lesion voxel shows no variance.

    Parameters
    ----------
    maps : iterable of RiskMap
        Read one at a time.
    bins : int
        Classes of equal width in log risk from 1e-6 to 1; lower risks fall in the first.
    level : float

    Returns
    -------
    DataFrame
        ``forecast`` (mean risk of the class), ``frequency``, ``lower``, ``upper``: the band of the frequency under calibration,
        forecast plus or minus the t interval; ``level``, ``n`` (voxels), ``patients``; and ``ratio`` (observed / expected).

    Raises
    ------
    RefusalError
        With fewer than two patients.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> risks = [rng.uniform(0, 0.1, 5000) for _ in range(20)]
    >>> found = voxel_reliability(RiskMap(risk, rng.random(5000) < risk) for risk in risks)
    >>> bool(found["frequency"].between(found["lower"], found["upper"]).mean() > 0.5)
    True
    """
    if bins < 2:
        raise UsageError(f"`bins`: a reliability curve of {bins} class shows nothing; ask for at least 2")
    from scipy.stats import t

    edges = np.logspace(-6, 0, bins + 1)
    sums = []
    for one in maps:
        risk, event = one.risk[one.inside].astype(float), one.mask[one.inside].astype(float)
        place = np.clip(np.searchsorted(edges, risk, side="right") - 1, 0, bins - 1)
        sums.append([np.bincount(place, weights=w, minlength=bins) for w in (np.ones_like(risk), risk, event, risk * (1 - risk))])
    if len(sums) < 2:
        raise RefusalError(f"voxel risk of {len(sums)} patient; at least two are needed for a standard error")
    voxels, expected, observed, least = np.array(sums).transpose(1, 0, 2)
    patients = len(sums)
    count, total = voxels.sum(axis=0), expected.sum(axis=0)
    difference = observed - expected
    se = np.sqrt(np.maximum(patients * difference.var(axis=0, ddof=1), least.sum(axis=0)))
    used = count > 0
    half = t.ppf((1 + level) / 2, patients - 1) * se[used] / count[used]
    forecast = total[used] / count[used]
    return pd.DataFrame(
        {
            "forecast": forecast,
            "frequency": observed.sum(axis=0)[used] / count[used],
            "lower": np.maximum(forecast - half, 0),
            "upper": forecast + half,
            "level": level,
            "n": count[used].astype(int),
            "patients": (voxels > 0).sum(axis=0)[used],
            "ratio": observed.sum(axis=0)[used] / np.maximum(total[used], np.finfo(float).tiny),
        }
    )


def frequency_maps(maps: Iterable[RiskMap]) -> tuple[Array, Array]:
    """Expected and observed lesion frequency at every voxel, averaged over patients on one common grid, for a figure.

    Examples
    --------
    >>> found = frequency_maps([RiskMap(np.array([0.2, 0.4]), np.array([False, True]))] * 2)
    >>> [part.tolist() for part in found]
    [[0.2, 0.4], [0.0, 1.0]]
    """
    expected: Array | None = None
    observed: Array | None = None
    patients = 0
    for one in maps:
        if expected is None or observed is None:
            expected, observed = np.zeros(one.risk.shape), np.zeros(one.risk.shape)
        if one.risk.shape != expected.shape:
            raise InputError(f"risk map: grids {expected.shape} and {one.risk.shape} differ; resample all patients to one grid")
        expected += np.where(one.inside, one.risk, 0.0)
        observed += one.mask & one.inside
        patients += 1
    if expected is None or observed is None:
        raise RefusalError("no risk map was given")
    return expected / patients, observed / patients


def place_scores(maps: Iterable[RiskMap], level: float = 0.95, reference: Array | None = None) -> pd.DataFrame:
    r"""Log score of lesion places: how well the risk map, as a density over the brain, knew where lesions came.

    For a lesion centred at voxel v the score is :math:`-\log(p_v / \sum_u p_u)`; ``gain`` is what it wins, in nats a lesion,
    over a map that knows nothing, :math:`\log N` minus the score with N voxels in the brain, or over a reference map.  All are
    averaged over lesions, with the patient as the unit.

    Parameters
    ----------
    maps : iterable of RiskMap
        With ``centres``; patients without lesions say nothing of place.
    level : float
    reference : array, optional
        One map for all patients on their grid, such as the mean risk: then also ``gain over the reference map``.

    Returns
    -------
    DataFrame
        Rows ``log score of places`` and ``gain over uniform``: ``measure``, ``estimate``, ``se``, ``lower``, ``upper``,
        ``level``, ``lesions``, ``patients``.

    Examples
    --------
    >>> one = RiskMap(np.array([0.1, 0.3]), np.array([False, True]), centres=np.array([[1]]))
    >>> place_scores([one, one])[["measure", "estimate"]].round(3).values.tolist()
    [['log score of places', 0.288], ['gain over uniform', 0.405]]
    """
    from scipy.stats import t

    sums: dict[str, list[float]] = {"log score of places": [], "gain over uniform": []}
    if reference is not None:
        sums["gain over the reference map"] = []
    counts = []
    for one in maps:
        if one.centres is None or len(one.centres) == 0:
            continue
        at = tuple(np.asarray(one.centres).T)
        if not one.inside[at].all():
            raise InputError("risk map: a lesion centre lies outside the brain; check that masks and brain are on one grid")
        score = _place_score(one.risk, one.inside, at)
        sums["log score of places"].append(score.sum())
        sums["gain over uniform"].append((np.log(one.inside.sum()) - score).sum())
        if reference is not None:
            sums["gain over the reference map"].append((_place_score(reference, one.inside, at) - score).sum())
        counts.append(len(score))
    if len(counts) < 2:
        raise RefusalError(f"{len(counts)} patient with a lesion; place is judged on at least two")
    weight = np.array(counts, float)
    rows = []
    for measure, values in sums.items():
        total = np.array(values)
        mean = total.sum() / weight.sum()
        se = np.sqrt(len(weight) / (len(weight) - 1) * ((total - mean * weight) ** 2).sum()) / weight.sum()
        half = t.ppf((1 + level) / 2, len(weight) - 1) * se
        rows.append({"measure": measure, "estimate": mean, "se": se, "lower": mean - half, "upper": mean + half, "level": level})
    return pd.DataFrame(rows).assign(lesions=int(weight.sum()), patients=len(weight))


def _place_score(risk: Array, inside: NDArray[np.bool_], at: tuple[NDArray[np.intp], ...]) -> Array:
    return np.asarray(-np.log(np.maximum(risk[at], 1e-12) / max(float(risk[inside].sum()), 1e-12)))


def region_volumes(maps: Iterable[RiskMap], regions: NDArray[np.integer], voxel_ml: float, level: float = 0.95) -> pd.DataFrame:
    """Observed against expected volume of new and enlarging lesions by region, from risk maps.

    The expected volume of a region is the sum of its voxel risks.  Ratios have the patient as the unit.

    Parameters
    ----------
    maps : iterable of RiskMap
    regions : integer array
        Labels 1-4 in the order of :data:`causalms.tables.REGIONS`, 0 outside, on the grid of the maps.
    voxel_ml : float
        Volume of a voxel in mL.
    level : float

    Returns
    -------
    DataFrame
        ``region``, ``observed_ml``, ``expected_ml``, ``ratio``, ``lower``, ``upper``, ``level``, ``p_value``, ``n``.

    Examples
    --------
    >>> found = [RiskMap(np.full(4, 0.5), np.array([True, True, False, False]))] * 3
    >>> region_volumes(found, np.array([1, 1, 2, 2]), 0.064)[["region", "observed_ml", "expected_ml"]].values.tolist()[0]
    ['periventricular', 0.384, 0.192]
    """
    seen: list[Array] = []
    mean: list[Array] = []
    for one in maps:
        if one.mask.shape != regions.shape:
            raise InputError(f"risk map: grid {one.mask.shape} and regions {regions.shape} differ; resample to one grid")
        label = regions[one.inside]
        for sums, values in ((seen, one.mask[one.inside]), (mean, one.risk[one.inside])):
            of_region = np.bincount(label, weights=values.astype(float), minlength=len(REGIONS) + 1)
            sums.append(of_region[1:].astype(float))
    observed, expected = np.array(seen) * voxel_ml, np.array(mean) * voxel_ml
    rows = []
    for place, region in enumerate(REGIONS):
        y, m = observed[:, place], expected[:, place]
        row = {"region": region, "observed_ml": float(y.sum()), "expected_ml": float(m.sum()), "n": len(y)}
        rows.append(row | _ratio(y, m, level))
    return pd.DataFrame(rows)


def _ratio(seen: Array, mean: Array, level: float) -> dict[str, float]:
    """Observed / expected with a log-scale interval between patients; nothing where either is nowhere."""
    if not (seen.sum() > 0 and mean.sum() > 0 and len(seen) > 1):
        return {}
    row = ratio_of_means(seen, mean, level)
    return {"ratio": row["estimate"], "lower": row["lower"], "upper": row["upper"], "level": level, "p_value": row["p_value"]}


def region_calibration(
    draws: pd.DataFrame, participants: pd.DataFrame, week: float | None = None, by: str | None = None, level: float = 0.95
) -> pd.DataFrame:
    """Observed against expected lesions by region, from tables alone.

    Parameters
    ----------
    draws : DataFrame
        Sampled draws with counts by region (``net2_lesions_periventricular``, ...).
    participants : DataFrame
        With observed counts by region (``net2_lesions_periventricular_week48``, ...).
    week, by, level
        As for :func:`causalms.calibration.pair` and :func:`causalms.calibration.assess`.

    Returns
    -------
    DataFrame
        ``subgroup``, ``region``, ``observed``, ``expected`` (lesions), ``ratio``, ``lower``, ``upper``, ``level``,
        ``p_value``, ``n``.

    Raises
    ------
    InputError
        If draws or participants hold no counts by region.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> keys = {"trial": "T", "arm": "placebo"}
    >>> draws = pd.DataFrame({"participant_id": np.repeat(range(30), 4), "draw": np.tile(range(4), 30), **keys})
    >>> draws = draws.assign(arm_randomised="placebo", visit_week=48.0, query="interventional", query_id="q")
    >>> people = pd.DataFrame({"participant_id": range(30), **keys})
    >>> for region in REGIONS:
    ...     draws[f"net2_lesions_{region}"] = rng.poisson(1, 120)
    ...     people[f"net2_lesions_{region}_week48"] = rng.poisson(1, 30)
    >>> region_calibration(draws, people)[["region", "observed", "expected"]].values.tolist()[0]
    ['periventricular', 24, 32.75]
    """
    rows = []
    for region in REGIONS:
        pairs = pair(draws, participants, week, f"net2_lesions_{region}")
        for label, part in [*pairs.groups(), *(pairs.groups(by) if by else [])]:
            seen, mean = part.observed.astype(float), part.law.mean
            row = {"subgroup": label, "region": region, "observed": int(seen.sum()), "expected": float(mean.sum()), "n": part.n}
            rows.append(row | _ratio(seen, mean, level))
    return pd.DataFrame(rows)
