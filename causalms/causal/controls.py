"""Negative controls: questions whose answer is known to be "no effect", put to the same data, model and analysis.

Scans of other patients, arms dealt out anew, an outcome that was there before treatment, a copy of an arm; and the trial that a
model has not seen (refutation).  Whatever does not come out null says that something other than treatment makes the effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from causalms.causal.cohort import Running
from causalms.causal.evidence import as_trial
from causalms.causal.interventions import policy
from causalms.causal.model import CausalModel
from causalms.causal.transport import BASELINE
from causalms.effects import analyse, analyse_draws
from causalms.errors import CausalmsError, InputError, UsageError
from causalms.stats import Array, adjusted_p_values, keyed_generator
from causalms.tables import RESULTS_COLUMNS, arm_order, names_of, net2_column, results_table, significant

#: Standard errors that a true effect must lie from the null to be found by a two-sided test at 5% in 80 of 100 trials.
_FOUND = 2.8
#: Patients whose answers must not change when the arms of the table do.
_UNTOUCHED = 20
_LEVEL = 0.95
_OUTCOME = "gd_lesions"
#: Analysis of every row: what was done, in the words of the page.
CONTROLS = {
    "scans": "negative control: scans of other patients",
    "own": "positive control: their own scans",
    "arms": "negative control: arms dealt out anew",
    "before": "negative control: an outcome before treatment",
    "copy": "negative control: a copy of an arm",
    "left out": "refutation: a trial left out",
}


@dataclass(frozen=True)
class _Basis:
    """What every control reads: the model, the trial, its patients with an observed count, and their expected counts."""

    model: CausalModel
    trial: Any
    people: pd.DataFrame
    expected: pd.DataFrame
    outcome: str
    week: float
    reference: str
    seed: int
    running: Running
    scanned: int = 120

    def ask(self, trial: Any, arms: Any, people: pd.DataFrame) -> pd.DataFrame:
        """Expected table of some patients of a trial."""
        running = replace(self.running, participants=list(people["participant_id"]))
        return self.model.do(trial, arms, self.week, expected=True, running=running)

    def groups(self) -> list[tuple[str, pd.DataFrame, str, tuple[str, ...]]]:
        """By trial: its name, its patients, the arm to compare with, and the other arms that enough were given."""
        found = []
        for name, people in self.people.groupby("trial", sort=True):
            counts = people["arm"].value_counts()
            arms = [arm for arm in arm_order(people["arm"], self.reference) if counts[arm] >= 5]
            if len(arms) > 1:
                found.append((str(name), people[people["arm"].isin(arms)], arms[0], tuple(arms[1:])))
        return found


def negative_controls(
    model: CausalModel,
    trial: Any,
    reference: str,
    week: float = 48,
    scrambles: int = 40,
    seed: int = 0,
    running: Running = Running(),
    scanned: int = 120,
) -> pd.DataFrame:
    """Negative controls of a model and of a trial's analysis, one row a statistic.

    Parameters
    ----------
    model : CausalModel
    trial : Trial or DataFrame
        With observed counts at the visit.
    reference : str
        The arm to compare with where a trial has it; else the trial's first arm.
    week : float
    scrambles : int
        How often the arms are dealt out anew.
    seed : int
    running : Running
    scanned : int
        Patients of whom scans are read again, at random.

    Returns
    -------
    DataFrame
        Results table.  The estimand ends in a verdict: "null", "NOT NULL" (Holm's p over all tested rows of the table below .05,
        or a number that must be exact and is not), or "not tested"; beside Holm's p the smallest ratio that the row's own test at
        5% finds in 80 of 100 trials, exp(2.8 se).

    Raises
    ------
    InputError
        If fewer than 20 patients on arms of the model were seen at that visit.
    UsageError
        If there is no scramble, or scans of fewer than 20 patients are asked for.
    """
    if scrambles < 1:
        raise UsageError(f"`scrambles`: found {scrambles}, expected at least 1")
    if scanned < 20:
        raise UsageError(f"`scanned`: found {scanned}, expected at least 20 patients")
    trial, column = as_trial(trial), net2_column(int(week))
    people = trial.participants
    if column not in people:
        raise InputError(f"participants: no column {column!r}; name a week with observed outcomes")
    known = people[column].notna() & names_of(people["arm"]).isin(model.mechanism.arms)
    seen = people[known.to_numpy()].reset_index(drop=True)
    if len(seen) < 20:
        raise InputError(f"participants: {len(seen)} patients on arms of the model were seen then; at least 20 are needed")
    basis = _Basis(model, trial, seen, pd.DataFrame(), column, week, reference, seed, running, scanned)
    basis = replace(basis, expected=basis.ask(trial, list(model.mechanism.arms), seen))
    rows = [*_scans(basis), *_arms(basis, scrambles), *_before(basis), *_copies(basis), *_left_out(basis)]
    return _judged(rows)


def _row(control: str, measure: str, words: str, **values: Any) -> dict[str, Any]:
    """A row of the results; ``exact`` where the estimate must be the null to the last digit."""
    return {
        "analysis": CONTROLS[control], "measure": measure, "estimand": words, "subgroup": "all", "randomised": False, "rung": 2,
        "level": _LEVEL, **values,
    }  # fmt: skip


def _judged(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows with a verdict at the end of the estimand."""
    tested = [row for row in rows if np.isfinite(row.get("p_value", np.nan)) and row["analysis"] != CONTROLS["own"]]
    adjusted = adjusted_p_values(np.array([row["p_value"] for row in tested])) if tested else np.zeros(0)
    p_of = {id(row): float(p) for row, p in zip(tested, adjusted, strict=True)}
    judged = []
    for row in rows:
        exact, p = row.get("exact"), p_of.get(id(row), np.nan)
        if exact is not None:
            verdict = "null" if abs(row["estimate"] - exact) < 1e-9 else "NOT NULL"
        elif row["analysis"] == CONTROLS["own"]:
            verdict = "must not be null" if row["p_value"] < 0.05 else "no more than scans of others: the scan adds nothing here"
        else:
            verdict = "not tested"
            if not np.isnan(p):
                verdict = f"{'NOT NULL' if p < 0.05 else 'null'} (Holm's p {significant(p, 2)}{_smallest_found(row)})"
        judged.append({k: v for k, v in row.items() if k != "exact"} | {"estimand": f"{row['estimand']}: {verdict}"})
    return results_table(judged)[list(RESULTS_COLUMNS)]


def _smallest_found(row: dict[str, Any]) -> str:
    """The smallest ratio that a row's test finds in 80 of 100 trials, in words; none where it is no ratio."""
    if not ("ratio" in row["measure"] and np.isfinite(row.get("se", np.nan))):
        return ""
    return f"; finds a ratio of {significant(float(np.exp(_FOUND * row['se'])), 3)} with power 80%"


class _OthersScans:
    """Images and masks of other patients: everything that is read of a patient's scan is that of the one who stands in."""

    def __init__(self, source: Any, stand_in: dict[str, str]) -> None:
        self._source, self._stand_in = source, stand_in

    def image(self, participant_id: str, modality: str) -> Any:
        return self._source.image(self._stand_in[participant_id], modality)

    def mask(self, participant_id: str, kind: str, week: int) -> Any:
        return self._source.mask(self._stand_in[participant_id], kind, week)


def _log_own(table: pd.DataFrame, people: pd.DataFrame) -> Array:
    """Log expected count of every patient under the arm that was given."""
    by = table.set_index(["participant_id", "arm"])["expected_net2_lesions"]
    own = by.loc[list(zip(people["participant_id"], people["arm"], strict=True))].to_numpy(float)
    return np.asarray(np.log(own.clip(min=1e-9)))


def _scans(basis: _Basis) -> list[dict[str, Any]]:
    """What the scan adds to the forecast: nothing, where it is another patient's.

    What the columns alone foretell is the forecast with one and the same scan for everybody, what a scan adds the forecast with
    one and the same columns for everybody.
    """
    if "mask" not in basis.model.mechanism.capabilities:
        return []
    order = keyed_generator("scanned", basis.seed).permutation(len(basis.people))[: basis.scanned]
    basis = replace(basis, people=basis.people.iloc[np.sort(order)], running=replace(basis.running, parts=None))
    ids, arms = basis.people["participant_id"].to_numpy(str), list(basis.model.mechanism.arms)
    order = keyed_generator("stand-ins", basis.seed).permutation(len(ids))
    partner, one = dict(zip(ids[order], ids[np.roll(order, 1)], strict=True)), str(ids[order[0]])
    columns = [name for name in (*BASELINE, "sex") if name in basis.people]
    alike = basis.trial.participants.copy()
    for name in columns:
        alike[name] = basis.people.loc[basis.people["participant_id"] == one, name].iloc[0]

    def log_mean(people: pd.DataFrame, of: dict[str, str]) -> Array:
        trial = replace(basis.trial, participants=people, source=_OthersScans(basis.trial.source, of))
        return _log_own(basis.ask(trial, arms, basis.people), basis.people)

    columns_alone = log_mean(basis.trial.participants, dict.fromkeys(ids, one))
    others, own = log_mean(alike, partner), log_mean(alike, dict(zip(ids, ids, strict=True)))
    words = "rate ratio per standard deviation of what {} to the forecast, given that from columns and the arm"
    rows = []
    for control, added, whose in (
        ("scans", others, "another patient's scan adds"),
        ("own", own, "the patient's own scan adds"),
    ):
        found = _association(basis, columns_alone, _within_arms(basis, added))
        rows.append(_row(control, "rate ratio per SD", words.format(whose), n=len(ids), **found))
    return rows


def _within_arms(basis: _Basis, values: Array) -> Array:
    """Values less their mean in the patient's arm."""
    return np.asarray(values - pd.Series(values).groupby(basis.people["arm"].to_numpy()).transform("mean").to_numpy())


def _association(basis: _Basis, known: Array, added: Array) -> dict[str, float]:
    """Rate ratio of the observed count per standard deviation of what was added: quasi-Poisson, given arm and what is known."""
    import statsmodels.api as sm
    from scipy.stats import norm

    y, spread = basis.people[basis.outcome].to_numpy(float), float(added.std())
    if spread < 1e-9:
        return {"estimate": np.nan}
    arms = pd.get_dummies(basis.people["arm"]).to_numpy(float)
    foretold = [known - known.mean()] if known.std() > 1e-9 else []
    X = np.column_stack([added / spread, *foretold, arms])
    fit = sm.GLM(y, X, family=sm.families.Poisson()).fit(cov_type="HC1")
    b, se = float(fit.params[0]), float(fit.bse[0])
    ends = np.exp([b - norm.isf(0.025) * se, b + norm.isf(0.025) * se])
    return {
        "estimate": float(np.exp(b)), "se": se, "lower": float(ends[0]), "upper": float(ends[1]),
        "p_value": _permuted_p(np.log1p(y), added, np.column_stack([*foretold, arms]), basis.seed),
    }  # fmt: skip


def _permuted_p(y: Array, added: Array, given: Array, seed: int, permutations: int = 1999) -> float:
    """Permutation p of the partial covariance of log(1 + count) and what was added: heavy tails leave it exact."""
    left = [values - given @ np.linalg.lstsq(given, values, rcond=None)[0] for values in (y, added)]
    rng = keyed_generator("permuted scans", seed)
    chance = np.array([abs(left[0] @ rng.permutation(left[1])) for _ in range(permutations)])
    return float((chance >= abs(left[0] @ left[1]) - 1e-12).sum() + 1) / (permutations + 1)


def _effects(people: pd.DataFrame, outcome: str, reference: str, measure: str = "rate-ratio") -> pd.DataFrame:
    """Observed effects, as ``causalms effects`` gives them; none where they cannot be estimated."""
    try:
        return analyse(people, outcome=outcome, reference=reference, measure=measure).results
    except CausalmsError:
        return pd.DataFrame(columns=list(RESULTS_COLUMNS))


def _of_effects(
    control: str, people: pd.DataFrame, columns: tuple[str, str, str], words: str, population: str
) -> list[dict[str, Any]]:
    """Rows of observed effects of (outcome, reference, measure), p by permutation of the two arms: exact in small ones too."""
    outcome, reference, measure = columns
    effects = _effects(people, outcome, reference, measure)
    p_values = []
    for arm in effects["arm"]:
        pair = people[people["arm"].isin([arm, reference])]
        treated = (pair["arm"] == arm).to_numpy(float)
        p_values.append(_permuted_p(np.log1p(pair[outcome].to_numpy(float)), treated, np.ones((len(pair), 1)), seed=0))
    effects = effects.assign(p_value=p_values, variance=effects["variance"].astype(str) + "; p by permutation of the arms")
    kept = ["arm", "reference", "estimate", "se", "lower", "upper", "p_value", "n", "n_reference", "estimator", "variance"]
    return [
        _row(control, str(row["measure"]), words, population=population, **{name: row[name] for name in kept})
        for row in effects.to_dict("records")
    ]


def _dealt_anew(people: pd.DataFrame, key: str, number: int, seed: int) -> pd.DataFrame:
    """The patients with the arms of each trial dealt out anew."""
    rng = keyed_generator(key, number, seed)
    arm = people["arm"].to_numpy(object).copy()
    for rows in people.reset_index(drop=True).groupby("trial", sort=True).indices.values():
        arm[rows] = rng.permutation(arm[rows])
    return people.assign(arm=arm)


def _arms(basis: _Basis, scrambles: int) -> list[dict[str, Any]]:
    """Arms dealt out anew: observed effects reject as often as they may, and simulated outcomes do not change at all."""
    from scipy.stats import t as student

    shares = []
    for number in range(scrambles):
        rejected = []
        for _, people, reference, _ in basis.groups():
            rejected += (
                _effects(_dealt_anew(people, "arms", number, basis.seed), basis.outcome, reference)["p_value"] < 0.05
            ).tolist()
        shares.append(float(np.mean(rejected)) if rejected else np.nan)
    known = np.array([share for share in shares if np.isfinite(share)])
    rows = []
    if len(known) > 1:
        mean, se = float(known.mean()), max(float(known.std(ddof=1)), 0.05) / np.sqrt(len(known))
        far = float(student.isf(0.025, len(known) - 1)) * se
        rows.append(
            _row(
                "arms", "share of tests that reject at 5%", f"observed effects in {len(known)} deals; at most 5% may reject",
                estimate=mean, se=se, lower=max(mean - far, 0.0), upper=min(mean + far, 1.0), n=len(basis.people),
                p_value=float(student.sf((mean - 0.05) / se, len(known) - 1)),
            )
        )  # fmt: skip
    some = basis.people.head(_UNTOUCHED)
    table = _dealt_anew(basis.trial.participants, "arms", 0, basis.seed)
    again = replace(basis, running=replace(basis.running, parts=None)).ask(
        replace(basis.trial, participants=table), list(basis.model.mechanism.arms), some
    )
    first = basis.expected[basis.expected["participant_id"].isin(some["participant_id"])]
    keys = ["participant_id", "arm"]
    both = again.set_index(keys)["expected_net2_lesions"] - first.set_index(keys)["expected_net2_lesions"]
    words = "largest change of a simulated count when the table says another arm was given"
    rows.append(_row("arms", "largest change", words, estimate=float(both.abs().max()), n=len(some), exact=0.0))
    return rows


def _before(basis: _Basis) -> list[dict[str, Any]]:
    """Enhancing lesions at baseline, and the forecast under one arm, by the arm that was given afterwards."""
    own = basis.expected[basis.expected["arm"] == basis.model.mechanism.arms[0]]
    prognosis = own.set_index("participant_id")["expected_net2_lesions"]
    rows = []
    for name, people, reference, _ in basis.groups():
        people = people.assign(forecast=prognosis.loc[people["participant_id"]].to_numpy(float))
        if _OUTCOME in people and people[_OUTCOME].notna().all():
            words = "enhancing lesions at baseline, before the arm was given"
            rows += _of_effects("before", people, (_OUTCOME, reference, "mean-ratio"), words, name)
        words = f"count simulated under {basis.model.mechanism.arms[0]} for everybody, by the arm that was given"
        rows += _of_effects("before", people, ("forecast", reference, "mean-ratio"), words, name)
    return rows


def _copies(basis: _Basis) -> list[dict[str, Any]]:
    """Half of an arm's patients under another name; and a world that gives the arm under another name."""
    rows = []
    for name, people, reference, others in basis.groups():
        for arm in (reference, *others):
            own = people[people["arm"] == arm]
            half = keyed_generator("copy", name, arm, basis.seed).permutation(len(own)) < len(own) // 2
            halves = own.assign(arm=np.where(half, f"copy of {arm}", arm))
            columns = (basis.outcome, arm, "rate-ratio")
            rows += _of_effects("copy", halves, columns, "observed counts of one arm, split at random", name)
    some = basis.people.head(_UNTOUCHED)
    for arm in basis.model.mechanism.arms:
        worlds = [arm, policy(f"copy of {arm}", [], otherwise=arm)]
        table = replace(basis, running=replace(basis.running, parts=None)).ask(basis.trial, worlds, some)
        row = analyse_draws(table, reference=arm, measure="rate-ratio").iloc[0]
        kept = ("arm", "reference", "estimate", "lower", "upper", "n", "se_patient", "se_generator", "se_monte_carlo")
        words = "simulated: the same arm under another name"
        rows.append(_row("copy", "rate ratio", words, population="some patients", exact=1.0, **{k: row[k] for k in kept}))
    return rows


def _left_out(basis: _Basis) -> list[dict[str, Any]]:
    """Randomised contrasts of each trial against those of a regression on the other trials, where these gave both arms."""
    from scipy.stats import norm

    rows = []
    for name, people, reference, others in basis.groups():
        rest = basis.people[basis.people["trial"] != name]
        taught = [arm for arm in (reference, *others) if (rest["arm"] == arm).sum() >= 10]
        if reference not in taught or len(taught) < 2:
            continue
        words = f"regression refitted without the trial ({len(rest)} patients; the model asked about is not refitted)"
        try:
            learned = CausalModel.fit_counts(rest, int(basis.week))
            table = learned.do(people, taught, basis.week, expected=True, running=replace(basis.running, parts=None))
        except CausalmsError:
            continue
        simulated = analyse_draws(table, reference=reference).set_index("arm")
        observed = _effects(people[people["arm"].isin(taught)], basis.outcome, reference).set_index("arm")
        for arm in (arm for arm in taught[1:] if arm in observed.index):
            (one, own_se), (other, other_se) = (t.loc[arm, ["estimate", "se"]].to_numpy(float) for t in (observed, simulated))
            difference, se = float(np.log(one / other)), float(np.hypot(own_se, other_se))
            ends = np.exp(difference + norm.isf(0.025) * se * np.array([-1.0, 1.0]))
            rows.append(
                _row(
                    "left out", "ratio of rate ratios", f"randomised rate ratio over that of a negative-binomial {words}",
                    population=name, arm=arm, reference=reference, estimate=float(np.exp(difference)), se=se,
                    lower=float(ends[0]), upper=float(ends[1]), p_value=float(2 * norm.sf(abs(difference) / se)), n=len(people),
                )
            )  # fmt: skip
    return rows
