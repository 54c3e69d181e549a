"""Does the model's own uncertainty cover the truth? Simulated trials out of one population whose true rates are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from causalms.causal import recalibrate
from causalms.errors import UsageError
from causalms.tables import contrast_population, net2_column


def redrawn_trial(
    people: pd.DataFrame, expected: pd.DataFrame, rates: pd.DataFrame, size: float, week: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One simulated trial: patients resampled within their trials, randomised anew, counts redrawn from the true rates.

    Parameters
    ----------
    people : DataFrame
        The population, with trial and arm (whose shares within a trial are the allocation).
    expected : DataFrame
        What the model expects of everybody under every arm at the visit.
    rates : DataFrame
        True expected counts, a row a patient (in the order of ``people``), a column an arm.
    size : float
        Negative-binomial size of the counts.

    Returns
    -------
    own, seen : DataFrame
        The model's expected table under the arms now given, and a table of the redrawn counts.
    """
    chosen = np.concatenate([rng.choice(rows, len(rows)) for rows in people.groupby("trial").indices.values()])
    allocation = {trial: of_trial["arm"].to_numpy() for trial, of_trial in people.groupby("trial")}
    given = np.array([rng.choice(allocation[trial]) for trial in people["trial"].iloc[chosen]])
    mean = rates.to_numpy()[chosen, [list(rates).index(arm) for arm in given]]
    counts = rng.poisson(rng.gamma(size, 1 / size, len(chosen)) * mean).astype(float)
    names = [f"p{i}" for i in range(len(chosen))]
    rows = expected.set_index(["participant_id", "arm"]).loc[list(zip(people["participant_id"].iloc[chosen], given, strict=True))]
    own = rows.reset_index().assign(participant_id=names, arm_randomised=given)
    return own, pd.DataFrame({"participant_id": names, net2_column(week): counts})


def rate_ratio_coverage(
    people: pd.DataFrame,
    expected: pd.DataFrame,
    truth: pd.DataFrame,
    size: float,
    week: int,
    contrasts: Sequence[tuple[str, str]],
    trials: int = 200,
    members: int = 200,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    r"""Coverage of the population rate ratio's interval from ``se_generator`` alone, over simulated trials.

    In each trial the model is recalibrated on the counts that were seen; its interval is
    :math:`\exp(\overline{\log RR} \pm z\,\mathrm{se_{generator}})` over the posterior's members, for the whole population.

    Parameters
    ----------
    truth : DataFrame
        With participant_id, arm, visit_week and true_rate.
    contrasts : sequence of (arm, reference)

    Returns
    -------
    DataFrame
        arm, reference, randomised, true_ratio, ratio (geometric mean of the estimates), shipped_ratio (of the model as it is),
        scatter (of the log ratio over trials), se_generator (mean), coverage of 95% intervals with its binomial ``coverage_se``,
        trials.

    Raises
    ------
    UsageError
        If fewer than 2 trials are asked for.
    """
    if trials < 2:
        raise UsageError(f"trials is {trials}; coverage needs at least 2, and 200 to mean something")
    people = people.reset_index(drop=True)
    at = truth[truth["visit_week"] == week].pivot(index="participant_id", columns="arm", values="true_rate")
    rates = at.loc[people["participant_id"]]
    shipped = expected.groupby("arm")["expected_net2_lesions"].mean()
    rows = []
    for k in tqdm(range(trials), desc="simulated trials", unit="trial", disable=None if progress else True):
        own, seen = redrawn_trial(people, expected, rates, size, week, np.random.default_rng([seed, k]))
        posterior = recalibrate(own, seen, week, members=members, seed=k)
        for arm, reference in contrasts:
            ratio = np.log(posterior.rate_ratios(expected, arm, reference))
            rows.append((arm, reference, ratio.mean(), ratio.std(ddof=1)))
    runs = pd.DataFrame(rows, columns=["arm", "reference", "log_ratio", "se_generator"])
    coverages = []
    for arm, reference in contrasts:
        of_pair = runs[(runs["arm"] == arm) & (runs["reference"] == reference)]
        true = float(np.log(rates[arm].mean() / rates[reference].mean()))
        covered = float(((of_pair["log_ratio"] - true).abs() < 1.959964 * of_pair["se_generator"]).mean())
        coverages.append(
            {
                "arm": arm, "reference": reference, "randomised": contrast_population(people, arm, reference).randomised,
                "true_ratio": np.exp(true), "ratio": np.exp(of_pair["log_ratio"].mean()),
                "shipped_ratio": shipped[arm] / shipped[reference], "scatter": of_pair["log_ratio"].std(ddof=1),
                "se_generator": of_pair["se_generator"].mean(), "coverage": covered,
                "coverage_se": np.sqrt(covered * (1 - covered) / trials), "trials": trials,
            }
        )  # fmt: skip
    return pd.DataFrame(coverages)
