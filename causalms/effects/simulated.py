"""Simulated effects: g-computation over patients from a draws table, with three errors apart.

The patients' error says how the average effect would change with other patients, the generator's how far the model that
simulated may be wrong, the Monte-Carlo error how the effect would change with other draws.  Only the last one shrinks with more
draws; where the generator's is unknown there is neither interval nor p-value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from causalms.effects.contrasts import Contrast, transformed, wald
from causalms.effects.draws import GIVEN_MODEL, RUNG, SimulatedOutcomes, default_outcome, is_draws_table, simulated_outcomes
from causalms.effects.estimands import Estimand, Measure, measure_named
from causalms.errors import InputError, RefusalError, UsageError, named_arguments
from causalms.stats import Array
from causalms.tables import ResultRow, as_frame, names_of, outside_notes, results_table, visit_words

__all__ = ["Errors", "analyse_draws", "contrast_errors", "given_model", "is_draws_table"]


@dataclass(frozen=True)
class Errors:
    """Variances of a contrast on the scale of inference: patients, generator (NaN: unknown), Monte Carlo.

    ``direction`` is the contrast's error along the generator's independent standard normal directions, where they are known: two
    contrasts of one generator covary by the product of theirs.  ``taken_for_true``: the generator's error is left out on purpose,
    and no p-value is given.
    """

    patient: float
    generator: float
    monte_carlo: float
    generators: int
    direction: Array | None = None
    taken_for_true: bool = False

    @property
    def total(self) -> float:
        """Standard error of the contrast; NaN where the generator's part is unknown.

        The Monte-Carlo error of a single draw is unknown by itself and part of the patients'.
        """
        return float(np.sqrt(self.patient + self.generator + np.nan_to_num(self.monte_carlo)))

    @property
    def degrees_of_freedom(self) -> float:
        """Satterthwaite: finite when few generators carry much of the variance."""
        if not self.generator > 0 or self.direction is not None:
            return np.inf
        return float((self.generators - 1) * (self.total**2 / self.generator) ** 2)


def mean_variances(
    effect: Array, weights: Array | None = None, *, sampled: bool = True, held: tuple[int, Array] | None = None
) -> tuple[float, float]:
    r"""Variances of the mean of an outcome or a paired difference over patients: of patients, and Monte Carlo.

    With patient means :math:`\bar e_i` over D draws and G generators: Monte Carlo :math:`\sum_i w_i^2 s_i^2/(GD)`, with
    :math:`s_i^2` the variance of the draws; patients :math:`\frac{n}{n-1} \sum_i w_i^2 (\bar e_i - \bar e)^2` less the
    Monte-Carlo part.

    Parameters
    ----------
    effect : array (N, G, D)
    weights : array (N,), optional
        Adding up to 1.
    sampled : bool
        Expected outcomes have no Monte-Carlo error; that of a single draw is missing and stays part of the patients'.
    held : (int, array (N,)), optional
        Number and variance of each patient's draws, where ``effect`` holds their means.

    Examples
    --------
    >>> [round(variance, 4) for variance in mean_variances(np.array([[[1.0, 3.0]], [[5.0, 7.0]]]))]
    [3.5, 0.5]
    """
    count, generators, draws = effect.shape
    w = np.full(count, 1 / count) if weights is None else weights
    means = effect.mean(axis=(1, 2))
    together = float((w**2) @ (means - w @ means) ** 2) * count / (count - 1) if count > 1 else np.nan
    monte_carlo = 0.0 if not sampled else np.nan
    if held is not None:
        monte_carlo = float((w**2) @ held[1]) / held[0] if held[0] > 1 else np.nan
    elif sampled and draws > 1:
        monte_carlo = float((w**2) @ effect.var(axis=2, ddof=1).mean(axis=1)) / (generators * draws)
    known = 0.0 if np.isnan(monte_carlo) else monte_carlo
    return (np.nan if np.isnan(together) else max(together - known, 0.0)), monte_carlo


def contrast_errors(
    outcomes: SimulatedOutcomes, arm: int, measure: Measure, weights: Array | None = None
) -> tuple[float, Errors]:
    r"""A simulated contrast with the reference on the scale of inference, and its three variances.

    With patient means :math:`\bar m_i(a)` over D draws and G generators and influence
    :math:`\psi_i = g'(\theta_a)(\bar m_i(a)-\theta_a) - g'(\theta_0)(\bar m_i(0)-\theta_0)`, patients and Monte Carlo as in
    :func:`mean_variances`; generator :math:`(1 + 1/G)` times the variance between generators, less the Monte-Carlo part of one
    generator.  With one generator that knows its own error :math:`l_{ie}(a)` of patient means, its part is
    :math:`\sum_e [\sum_i w_i (g'(\theta_a) l_{ie}(a) - g'(\theta_0) l_{ie}(0))]^2`.

    References
    ----------
    Rubin (1987), Multiple Imputation for Nonresponse in Surveys, on (1 + 1/G); Robins (1986) on g-computation.
    """
    count = len(outcomes.values)
    w = np.full(count, 1 / count) if weights is None else weights / weights.sum()
    pair = outcomes.values[:, [0, arm]]
    means = w @ pair.mean(axis=(2, 3))
    transformed_means, slopes = transformed(means, measure.scale, (outcomes.arms[0], outcomes.arms[arm]))
    gradient = slopes * np.array([-1.0, 1.0])
    effect = np.einsum("a,iagd->igd", gradient, pair)  # first order in each draw, paired by patient and draw
    generators = effect.shape[1]
    held = None
    if (moments := outcomes.moments) is not None:
        own, zero = moments.variance[:, arm], moments.variance[:, 0]
        both = 2 * gradient[0] * gradient[1] * moments.covariance[:, arm]
        held = (moments.draws, gradient[1] ** 2 * own + gradient[0] ** 2 * zero + both)
    patient, monte_carlo = mean_variances(effect, w, sampled=outcomes.sampled, held=held)
    known = 0.0 if np.isnan(monte_carlo) else monte_carlo
    between = np.nan
    if generators > 1:
        each = np.array(
            [np.diff(transformed(w @ pair[:, :, g].mean(axis=2), measure.scale, outcomes.arms)[0])[0] for g in range(generators)]
        )
        between = (1 + 1 / generators) * max(float(each.var(ddof=1)) - generators * known, 0.0)
    direction = None
    if generators == 1 and outcomes.model_error is not None:
        direction = np.einsum("i,a,iae->e", w, gradient, outcomes.model_error[:, [0, arm]])
        between = float(direction @ direction)
    errors = Errors(patient, between, monte_carlo, generators, direction, outcomes.error_source == GIVEN_MODEL)
    return float(transformed_means[1] - transformed_means[0]), errors


@named_arguments
def analyse_draws(
    draws: Any,
    *,
    reference: str,
    measure: str = "rate-ratio",
    outcome: str | None = None,
    week: float | None = None,
    population: str = "all",
    weights: pd.Series | None = None,
    level: float = 0.95,
    source: str = "draws",
) -> pd.DataFrame:
    """Average simulated effects of every arm against a reference, paired within patients.

    Parameters
    ----------
    draws : DataFrame
        A draws table, sampled or expected; an optional column ``generator`` names the member of an ensemble.
    reference : str
    measure : str
        Rates are a year; risks are of any lesion; means are of ``outcome``.
    outcome : str, optional
        Default: net2_lesions, or net2_volume_ml for means.
    week : float, optional
        One visit; default all, a row each.
    population : {"all", "treated"}
        ``treated``: the patients randomised to the arm in question.
    weights : Series, optional
        Weight of each participant_id, such as :func:`causalms.effects.transport.transport_weights` gives; its
        name is what the weighted population is called.
    level : float
    source : str

    Returns
    -------
    DataFrame
        In the schema of the results table; ``se`` is the root of the sum of squares of se_patient, se_generator and
        se_monte_carlo. ``randomised`` is False for every simulated row; the estimator says in which trials, if any, both arms
        were randomised together.  Draws that do not carry their model's own error (column ``model_error``, or several members
        in column ``generator``) give neither ``se`` nor interval nor p-value; :func:`given_model` gives the narrower ones.

    Raises
    ------
    InputError, RefusalError, UsageError

    Examples
    --------
    >>> import pandas as pd
    >>> keys = ["participant_id", "trial", "arm_randomised", "visit_week", "query", "query_id"]
    >>> counts = [("p1", "placebo", 5), ("p1", "drug", 2), ("p2", "placebo", 3), ("p2", "drug", 2)]
    >>> rows = [(patient, "t", "placebo", 48, "interventional", "q", arm, 0, count) for patient, arm, count in counts]
    >>> draws = pd.DataFrame(rows, columns=[*keys, "arm", "draw", "net2_lesions"])
    >>> analyse_draws(draws, reference="placebo")[["arm", "estimate", "randomised"]]
        arm  estimate  randomised
    0  drug       0.5       False
    """
    if population not in ("all", "treated"):
        raise UsageError(f"`population`: found {population!r}, expected 'all' or 'treated'")
    draws, chosen = as_frame(draws), measure_named(measure)
    outcome = outcome or default_outcome(chosen, draws)
    rows, directions = [], []
    for outcomes in simulated_outcomes(draws, reference=reference, measure=measure, outcome=outcome, week=week, source=source):
        for arm in range(1, len(outcomes.arms)):
            part = outcomes
            if population == "treated":
                treated = (outcomes.patients["arm_randomised"] == outcomes.arms[arm]).to_numpy()
                if treated.sum() < 2:
                    continue
                part = outcomes.where(treated)
            share = None if weights is None else _weights(part, weights, source)
            value, errors = contrast_errors(part, arm, chosen, share)
            interval = simulated_interval(value, errors, chosen, level)
            directions.append(None if errors.direction is None else tuple(errors.direction.tolist()))
            who = _population(part, population, arm) if weights is None or not weights.name else str(weights.name)
            rows.append(
                ResultRow(
                    analysis=f"simulated {outcome}, {visit_words(part.week)}",
                    population=who,
                    subgroup="all",
                    arm=part.arms[arm],
                    reference=part.arms[0],
                    measure=chosen.name,
                    estimand=_estimand(part, arm, chosen, outcome, who).sentence,
                    estimator=f"{_estimator(part)}; {outcomes.randomised_together(arm)}",
                    variance=_variance(errors, weights is not None, part),
                    **interval.columns,
                    n=len(part.values),
                    n_reference=len(part.values),
                    se_patient=np.sqrt(errors.patient),
                    se_generator=np.sqrt(errors.generator),
                    se_monte_carlo=np.sqrt(errors.monte_carlo),
                    randomised=False,
                    rung=RUNG[part.query],
                )
            )
    if not rows:
        raise RefusalError(
            f"{source}: no arm other than {reference!r} has two randomised patients, so there is no effect in the treated"
        )
    table = results_table(rows)
    table.attrs["model_error_directions"] = directions
    return table


def simulated_interval(value: float, errors: Errors, measure: Measure, level: float) -> Contrast:
    """Estimate, interval and p-value; the estimate alone where the generator's error is unknown."""
    se, degrees = errors.total, errors.degrees_of_freedom
    if np.isnan(se):
        wald(value, 0.0, log=measure.is_ratio, level=level, exact=True)  # a level outside 0 to 1 is refused here too
        back = float(np.exp(value)) if measure.is_ratio else value
        return Contrast(back, np.nan, np.nan, np.nan, np.nan, level)
    shown = wald(value, se, log=measure.is_ratio, level=level, degrees_of_freedom=degrees, exact=True)
    return replace(shown, p_value=np.nan) if errors.taken_for_true else shown


def given_model(results: pd.DataFrame) -> pd.DataFrame:
    """Simulated results with the narrower interval that takes the model for true: its own error is left out of it.

    Parameters
    ----------
    results : DataFrame
        Of :func:`analyse_draws`; the components of the error stay as they are.

    Returns
    -------
    DataFrame
        ``variance`` says "given the model"; no p-value, which would take a model's error for none.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [(p, arm, 2.0 + p + (arm == "b")) for p in range(4) for arm in "ab"]
    >>> draws = pd.DataFrame(rows, columns=["participant_id", "arm", "expected_net2_lesions"])
    >>> draws = draws.assign(trial="T", arm_randomised="a", visit_week=48.0, query="interventional", query_id="q")
    >>> effects = analyse_draws(draws, reference="a")
    >>> [table[["lower", "upper"]].round(2).values.tolist() for table in (effects, given_model(effects))]
    [[[nan, nan]], [[1.19, 1.39]]]
    """
    narrow = results.copy()
    for row in narrow.index[(narrow["estimate"].notna() & narrow["se_patient"].notna()).to_numpy()]:
        line = narrow.loc[row].to_dict()
        ratio = str(line["measure"]).endswith("ratio")
        errors = Errors(float(line["se_patient"]) ** 2, 0.0, float(line["se_monte_carlo"]) ** 2, 1)
        value = float(np.log(line["estimate"])) if ratio else float(line["estimate"])
        interval = wald(value, errors.total, log=ratio, level=float(line["level"]), exact=True)
        probability = str(line["measure"]).startswith("probability")
        narrow.at[row, "se"], narrow.at[row, "p_value"] = interval.se, np.nan
        for name in ("lower", "upper"):
            end = getattr(interval, name)
            narrow.at[row, name] = float(np.clip(end, 0.0, 1.0)) if probability else end
        carried = re.sub(r" \+ the model's own error \(.*?\), for trials like those", "", str(line["variance"]))
        narrow.at[row, "variance"] = f"{carried}; interval {GIVEN_MODEL}"
    return narrow


def _weights(part: SimulatedOutcomes, weights: pd.Series, source: str) -> Array:
    lookup = pd.Series(weights.to_numpy(dtype=float), index=names_of(weights.index.to_series()))
    given_weights = lookup.reindex(part.patients["participant_id"]).to_numpy()
    if np.isnan(given_weights).any():
        missing = part.patients["participant_id"][np.isnan(given_weights)].iloc[0]
        raise InputError(f"{source}: patient {missing!r} has no weight; give one for every patient of the draws")
    if (given_weights < 0).any() or given_weights.sum() <= 0:
        raise InputError(f"{source}: weights must be at least 0 and not all 0; correct them")
    return np.asarray(given_weights)


def _population(part: SimulatedOutcomes, population: str, arm: int) -> str:
    trials = ", ".join(sorted(part.patients["trial"].unique()))
    who = "all patients" if population == "all" else f"the patients randomised to {part.arms[arm]}"
    return f"{who} of {trials}"


def _estimand(part: SimulatedOutcomes, arm: int, measure: Measure, outcome: str, who: str) -> Estimand:
    variable = {
        "rate": f"{outcome}{' a year,' if np.isfinite(part.week) else ''} from baseline to {visit_words(part.week)}",
        "risk": f"any {outcome} from baseline to {visit_words(part.week)}",
        "mean": f"{outcome} from baseline to {visit_words(part.week)}",
    }[measure.kind]
    given = ", given each patient's observed outcome" if part.query == "counterfactual" else ""
    treatment = f"every patient under {part.arms[arm]} against the same patients under {part.arms[0]}{given}"
    return Estimand(
        who, treatment, variable, "hypothetical strategy (drug taken to the visit, nobody drops out)", f"simulated {measure.name}"
    )


def _estimator(part: SimulatedOutcomes) -> str:
    generators, draws = part.drawn
    what = f"{draws} draws a patient and arm" if part.sampled else "expected outcomes, no draws"
    return f"g-computation over patients ({what}{f', {generators} generators' if generators > 1 else ''})"


def _variance(errors: Errors, weighted: bool, outcomes: SimulatedOutcomes) -> str:
    parts = ["influence function over patients" + (", weights as given" if weighted else "")]
    if errors.generators > 1:
        parts.append(f"between {errors.generators} generators")
    if np.isnan(errors.monte_carlo):
        parts[0] += " (Monte-Carlo error of the single draw included)"
    elif errors.monte_carlo > 0:
        parts.append("Monte Carlo")
    if errors.direction is not None and not errors.taken_for_true:
        parts.append(f"the model's own error ({outcomes.error_source}), for trials like those")
    if errors.taken_for_true:
        parts[-1] += f"; interval {GIVEN_MODEL}"
    unknown = "; model error unknown: neither interval nor p-value" if np.isnan(errors.generator) else ""
    outside = [] if outcomes.distances is None else outside_notes(outcomes.distances)
    return "; ".join([" + ".join(parts) + unknown, *outside])
