r"""Scores of one entrant on the frozen test trial, and the leaderboard that they join.

Counts are judged under every arm against the known law (:func:`causalms.benchmark.judge`); places by nats a lesion above the
frequency of lesions in the training trial, :math:`\sum_v \log p(v) - \log p_0(v)`; counterfactual masks by the change from the
mask seen, with :math:`z` the true change and :math:`\hat z` the entrant's: effectiveness
:math:`e = \sum \langle z, \hat z \rangle / \sum |z|^2` (1: made in full) and amplification
:math:`(\sum |\hat z - e z|^2 / \sum |z|^2)^{1/2}` (0: nothing else is changed).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.resources import files

import numpy as np
import pandas as pd
from scipy import ndimage

from causalms.benchmark.entrants import Entrant
from causalms.benchmark.frozen import DESIGN, WEEK, FrozenTrials, observed
from causalms.benchmark.known import KnownOutcomes, judge
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial, load_design
from causalms.tables import net2_column
from causalms.trials import Trial

#: Patients on placebo with lesions at the last visit, and arms, of the counterfactual masks; patients of the places.
COUNTERFACTUAL_PATIENTS, COUNTERFACTUAL_ARMS, PLACE_PATIENTS = 12, (-2, -1), 60
_SMOOTHING = 2.0  # voxels, 8 mm: the frequency map
_FROM_COUNTS = {
    "CRPS": "CRPS",
    "log score": "log score",
    "R2": "R2 of log rate",
    "PEHE": "PEHE",
    "activity AUC": "AUC of activity",
    "activity Brier": "Brier score of activity",
    "coverage of 90%": "coverage of 90% intervals",
    "PIT p": "PIT p-value",
}


def leaderboard() -> pd.DataFrame:
    """The committed scores: one row an entrant and measure, with intervals over patients.

    Examples
    --------
    >>> {"arm means", "negative-binomial regression"} <= set(leaderboard()["entrant"])
    True
    """
    with (files("causalms.benchmark") / "data" / "leaderboard.csv").open() as handle:
        return pd.read_csv(handle)


def score_entrant(
    entrant: Entrant, trials: FrozenTrials, seed: int = 0, progress: Callable[[str], None] = lambda _: None
) -> pd.DataFrame:
    """Fit an entrant on the training trial and score it on the test trial.

    Parameters
    ----------
    entrant : Entrant
    trials : FrozenTrials
    seed : int
        Of sampled masks and of the bootstrap.
    progress : callable
        Told each step in words.

    Returns
    -------
    DataFrame
        ``entrant``, ``measure``, ``estimate``, ``lower``, ``upper`` (95%, bootstrap over patients) and ``patients``.
        Measures that the entrant has no method for are missing.
    """
    arms, test = load_design(DESIGN).arms, trials.test
    seen = _without_outcomes(test)
    progress("fit")
    begin = time.process_time()
    entrant.fit(trials.training.subset(observed(trials.training)))
    fitted = time.process_time()
    progress("counts")
    law = entrant.counts(seen, arms, WEEK)
    counted = time.process_time()
    scores = judge(law, known_outcomes(test, arms), 200, seed)
    whole = scores[scores["arm"] == ""].set_index("measure")
    rows = [{"measure": name, **whole.loc[source].drop("arm")} for name, source in _FROM_COUNTS.items() if source in whole.index]
    ratios = scores[(scores["measure"] == "rate ratio / truth") & (scores["arm"] != arms[0])]
    # where no lesion is forecast on the reference arm there is no ratio, and that is the worst
    worst = ratios.loc[np.log(ratios["estimate"].clip(1e-3)).abs().fillna(np.inf).idxmax()]
    rows.append({"measure": "rate ratio / truth, worst arm", **worst.drop(["arm", "measure"])})
    if hasattr(entrant, "expected_map"):
        progress("places")
        rows.append(_places(entrant, trials, seen, arms, seed))
    if hasattr(entrant, "masks"):
        progress("masks")
        rows += _counterfactual_masks(entrant, test, seen, arms, seed)
    pairs = len(test) * len(arms)
    plain = {
        "CPU seconds to fit": fitted - begin,
        "CPU seconds of the counts, a patient and arm": (counted - fitted) / pairs,
        "parameters": float(getattr(entrant, "parameters", np.nan)),
    }
    rows += [{"measure": name, "estimate": value, "patients": len(test)} for name, value in plain.items()]
    table = pd.DataFrame(rows, columns=["measure", "estimate", "lower", "upper", "patients"])
    return table.assign(entrant=entrant.name)[["entrant", *table.columns]]


def known_outcomes(trial: PhantomTrial, arms: tuple[str, ...]) -> KnownOutcomes:
    """True rates and potential outcomes at the last week, patients by arms; the marker is an enhancing lesion."""
    truth = trial.truth.table.query("visit_week == @WEEK").set_index(["participant_id", "arm"])
    people = trial.participants
    log_rate, counts = (
        truth[column].unstack().loc[people["participant_id"], list(arms)].to_numpy() for column in ("log_rate", "true_lesions")
    )
    own = np.array([arms.index(arm) for arm in people["arm"]])
    marker = (people["gd_lesions"] > 0).to_numpy()
    return KnownOutcomes(arms, log_rate, counts.astype(np.int64), own, marker, trial.truth.design.counts.size)


def _without_outcomes(trial: PhantomTrial) -> Trial:
    """The test trial as an entrant sees it: no counts, no truth."""
    people = trial.participants
    kept = people.drop(columns=[column for column in people if str(column).startswith("net2_")])
    return Trial(trial.name, kept, trial.space, trial.weeks, trial.source)


def _centres(mask: np.ndarray, voxel_mm3: float) -> np.ndarray:
    """Voxel nearest to the middle of each lesion, (n, 3)."""
    labels = LesionRule.default().label(mask, voxel_mm3)
    middle = ndimage.center_of_mass(labels > 0, labels, range(1, int(labels.max()) + 1))
    return np.asarray(middle).round().astype(int).reshape(-1, 3)


def _frequency(trial: PhantomTrial) -> np.ndarray:
    """Smoothed frequency of lesion centres in the training trial, and a hundredth of it over all brains."""
    total, brain = np.zeros(trial.space.shape), np.zeros(trial.space.shape)
    for name in observed(trial):
        masks = [mask for week in trial.weeks if (mask := trial.mask(name, "NET2", week)) is not None]
        for place in _centres(masks[-1], float(trial.space.voxel_volume_mm3)) if masks else ():
            total[tuple(place)] += 1
        brain += np.asarray(trial.mask(name, "brain"), float)
    smooth = ndimage.gaussian_filter(total, _SMOOTHING)
    return np.asarray(0.99 * smooth / smooth.sum() + 0.01 * brain / brain.sum())


def _places(entrant: Entrant, trials: FrozenTrials, seen: Trial, arms: tuple[str, ...], seed: int) -> dict[str, object]:
    """Nats a lesion above the training trial's frequency map, under the arm received."""
    test, prior = trials.test, _frequency(trials.training)
    gains, lesions = [], []
    people = test.participants[test.participants[net2_column(WEEK)] > 0].head(PLACE_PATIENTS)
    for name, arm in zip(people["participant_id"], people["arm"], strict=True):
        brain = np.asarray(test.mask(name, "brain"), bool)
        centres = _centres(test.truth.potential_mask(name, arm, WEEK), float(test.space.voxel_volume_mm3))
        at = tuple(centres[brain[tuple(centres.T)]].T)
        own, common = (np.where(brain, values, 0.0) for values in (entrant.expected_map(seen, name, arm, WEEK), prior))
        gains.append(float(np.sum(np.log(np.maximum(own[at] / own.sum(), 1e-12)) - np.log(common[at] / common.sum()))))
        lesions.append(len(at[0]))
    gain, lesion = np.array(gains), np.array(lesions)

    def a_lesion(rows: np.ndarray) -> float:
        return float(gain[rows].sum() / max(lesion[rows].sum(), 1))

    return _bootstrapped("location, nats a lesion", a_lesion, len(gain), seed)


def _counterfactual_masks(
    entrant: Entrant, test: PhantomTrial, seen: Trial, arms: tuple[str, ...], seed: int
) -> list[dict[str, object]]:
    """Effectiveness and amplification of the changes from placebo's mask, and sampled over seen lesions."""
    rule, voxel = LesionRule.default(), float(test.space.voxel_volume_mm3)
    people = test.participants[(test.participants["arm"] == arms[0]) & (test.participants[net2_column(WEEK)] > 0)]
    changes, counted = [], []
    for name in people["participant_id"].head(COUNTERFACTUAL_PATIENTS):
        factual = np.asarray(test.mask(name, "NET2", WEEK), bool)
        drawn = entrant.masks(seen, name, arms[0], WEEK, 1, seed)[0]
        counted.append([int(rule.label(mask, voxel).max()) for mask in (drawn, factual)])
        parts = np.zeros(3)
        for arm in (arms[k] for k in COUNTERFACTUAL_ARMS):
            true = (test.truth.potential_mask(name, arm, WEEK).astype(float) - factual).ravel()
            if hasattr(entrant, "counterfactual"):
                mask = entrant.counterfactual(test, name, arm, WEEK, 1, seed, factual)[0]
            else:
                mask = entrant.masks(seen, name, arm, WEEK, 1, seed)[0]
            change = (mask.astype(float) - factual).ravel()
            parts += [true @ change, true @ true, change @ change]
        changes.append(parts)
    if not changes:
        return []
    products, sizes, own_sizes = np.array(changes).T

    def effectiveness(rows: np.ndarray) -> float:
        return float(products[rows].sum() / sizes[rows].sum())

    def amplification(rows: np.ndarray) -> float:
        share = effectiveness(rows)
        return float(np.sqrt(max(own_sizes[rows].sum() / sizes[rows].sum() - share**2, 0)))

    drawn_lesions, seen_lesions = np.array(counted).T
    measures: dict[str, Callable[[np.ndarray], float]] = {
        "counterfactual effectiveness": effectiveness,
        "counterfactual amplification": amplification,
        "sampled / seen lesions on placebo": lambda rows: float(drawn_lesions[rows].sum() / max(seen_lesions[rows].sum(), 1)),
    }
    return [_bootstrapped(name, of, len(sizes), seed) for name, of in measures.items()]


def _bootstrapped(measure: str, function: Callable[[np.ndarray], float], patients: int, seed: int) -> dict[str, object]:
    samples = np.random.default_rng(seed).integers(patients, size=(200, patients))
    lower, upper = np.nanquantile([function(rows) for rows in samples], [0.025, 0.975])
    return {"measure": measure, "estimate": function(np.arange(patients)), "lower": lower, "upper": upper, "patients": patients}
