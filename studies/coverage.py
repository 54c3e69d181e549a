"""Does the interval of a simulated number hold the truth?  Many generators, each learned from other patients, and new trials.

python -m studies.coverage --parts parts --shipped-parts error_parts --out studies/results

A generator is the counts of ``causalms train`` (first stage, cross-fitted error model), learned from phantom patients with images
(``--parts``); new trials draw patients that it has not met, and their counts.  Coverage over trials of one checkpoint, with its
one error, cannot come out at its level; over many generators it can.  The shipped one is judged on its error model's parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats
from tqdm import tqdm

from causalms.causal import CausalModel
from causalms.causal.bounds import Law
from causalms.causal.law_error import JOINT, CountLaw, joint_bounds, joint_directions
from causalms.effects import analyse_draws, measure_named
from causalms.effects.draws import SimulatedOutcomes
from causalms.effects.simulated import contrast_errors
from causalms.generator import Generator
from causalms.generator.forecast import prediction_interval
from causalms.generator.seen import ERROR_COLUMNS, error_columns
from causalms.generator.train.cross_fitting import folds_of
from causalms.generator.train.first_stage import FirstStage, fit_first_stage
from causalms.generator.train.held_out import fit_to_held_out, law_of_counts
from causalms.stats import ErrorModel, HeldOutCounts, fit_error_model, update_error_model
from causalms.subgroups.interaction import correlated_interaction_test
from causalms.tables import write_table
from studies.common import out_option, seed_option, workers_option
from studies.learning_curve import MORE, TRAINING, Arrays, data_of, part_of
from studies.reference_error_model import together

SIZE = 0.5
OWN_TRIAL, OWN_TRIALS, NINTHS = 240, 8, 9
Z = stats.norm.ppf(0.975)
#: Scenarios of new trials, by what differs from the patients that were learned from.
SCENARIOS = (
    "in design", "older", "lower rate", "another law", "scanner", "hidden modification", "zero inflation", "trials differ",
)  # fmt: skip
COUNTED = ("in design",)  # where ``--model counts`` is judged too
_GD, _AGE = (ERROR_COLUMNS.index(name) for name in ("any_gd", "age"))


@dataclass(frozen=True)
class Population:
    """Phantom patients: columns (n, q), image signals (n, s), true log rates (n, arms) at the last week.

    ``forecast`` (n, arms) is what a network expects of them, on the log scale, where the generator is one.
    """

    columns: np.ndarray
    signals: np.ndarray
    log_rate: np.ndarray
    forecast: np.ndarray | None = None

    @classmethod
    def of(cls, arrays: Arrays) -> Population:
        """Of the arrays of phantom patients that studies.learning_curve keeps."""
        return cls(arrays["columns"], arrays["signals"], arrays["log_rate"])

    @property
    def error_columns(self) -> np.ndarray:
        """Columns of the error model (n, 8)."""
        return np.asarray(error_columns(self.columns))

    @property
    def enhancing(self) -> np.ndarray:
        """Whether a patient has enhancing lesions, 0 or 1; missing is no."""
        return np.asarray(np.nan_to_num(self.error_columns[:, _GD]))

    def some(self, count: int, rng: np.random.Generator, weights: np.ndarray | None = None) -> Population:
        """Patients drawn with replacement."""
        return self.where(rng.choice(len(self.columns), count, p=weights))

    def where(self, rows: np.ndarray) -> Population:
        """Some of the patients."""
        forecast = None if self.forecast is None else self.forecast[rows]
        return Population(self.columns[rows], self.signals[rows], self.log_rate[rows], forecast)

    def counts(self, arm: np.ndarray, rng: np.random.Generator, zeros: float = 0.0) -> np.ndarray:
        """Observed counts under the arms that were given; ``zeros`` of the patients have none, the others more."""
        mean = np.exp(self.log_rate[np.arange(len(arm)), arm]) / (1 - zeros)
        active = rng.random(len(arm)) >= zeros
        return np.asarray(rng.poisson(mean * active * rng.gamma(SIZE, 1 / SIZE, len(arm))), float)


def tilted_to_older(population: Population) -> np.ndarray:
    """Weights (n,) that give a mean age of 50 years and enhancement in three quarters."""
    age = population.error_columns[:, _AGE]
    x = np.column_stack([np.where(np.isfinite(age), age, np.nanmean(age)) - 50, population.enhancing - 0.75])
    tilt = np.zeros(2)
    for _ in range(60):
        weights = np.exp(np.clip(x @ tilt, -30, 30))
        weights /= weights.sum()
        mean = weights @ x
        tilt -= 0.7 * np.linalg.solve((x - mean).T @ ((x - mean) * weights[:, None]) + 1e-6 * np.eye(2), mean)
    return np.asarray(weights)


def under(scenario: str, population: Population, rng: np.random.Generator) -> tuple[Population, np.ndarray | None, float]:
    """The population of a scenario, the weights of its patients, and the share of structural zeros."""
    shift = np.zeros_like(population.log_rate)
    weights, zeros, signals = None, 0.0, population.signals
    if scenario == "older":
        weights = tilted_to_older(population)
    elif scenario == "lower rate":
        shift -= 0.8
    elif scenario == "another law":
        shift[:, 4] += 1.2
        shift[:, 1] -= 0.5
    elif scenario == "hidden modification":
        shift[:, 4] += 0.8 * (population.enhancing - population.enhancing.mean())
    elif scenario == "trials differ":  # every arm's level, as trials of one drug do
        shift += 0.1 * rng.standard_normal(shift.shape[1])
    elif scenario == "zero inflation":
        zeros = 0.2
    elif scenario == "scanner":
        spread = signals.std(axis=0)
        signals = signals * 1.15 + 0.3 * spread * rng.standard_normal(signals.shape[1])
    return replace(population, log_rate=population.log_rate + shift, signals=signals), weights, zeros


@dataclass(frozen=True)
class Plan:
    """Patients that a generator is learned from, sizes of new trials, folds of cross-fitting, seed."""

    patients: int
    sizes: tuple[int, ...]
    folds: int
    seed: int


@dataclass(frozen=True)
class Counts:
    """A generator of counts: a first stage of training, standardised as ``like``; or forecasts that patients carry with them."""

    arms: int
    fit: FirstStage | None = None
    like: Arrays | None = None

    def log_expected(self, people: Population) -> np.ndarray:
        """Log expected counts (n, arms)."""
        if self.fit is None or self.like is None:
            return np.asarray(people.forecast)
        n = len(people.columns)
        rows = data_of(_arrays(people, np.zeros(n, int), np.zeros(n)), self.like, "first stage")
        return np.column_stack([self.fit.log_mean(replace(rows, arm=np.full(n, arm))) for arm in range(self.arms)])


def _arrays(people: Population, arm: np.ndarray, counts: np.ndarray) -> Arrays:
    return {"columns": people.columns, "signals": people.signals, "arm": arm, "counts": counts, "log_share": np.zeros(len(arm))}


def trained(population: Population, patients: int, rng: np.random.Generator, folds: int) -> tuple[Counts, ErrorModel]:
    """Counts learned from patients of a population, and their cross-fitted error model, as ``causalms train`` learns both."""
    people = population.some(patients, rng)
    arms = population.log_rate.shape[1]
    arm = rng.integers(0, arms, patients)
    own = _arrays(people, arm, people.counts(arm, rng))
    data = data_of(own, own, "first stage")
    whole = fit_first_stage(data, arms)
    log_expected, variance = np.empty(people.log_rate.shape), np.empty(patients)
    for rows in folds_of(arm, folds, int(rng.integers(2**31))):
        others = np.setdiff1d(np.arange(patients), rows)
        fit = fit_first_stage(data.rows(others), arms, like=whole)
        variance[rows] = fit.variance(data.rows(rows))
        log_expected[rows] = Counts(arms, fit, own).log_expected(people.where(rows))
    sizes, trial = np.full(arms, whole.size), rng.integers(0, 4, patients)
    unseen = HeldOutCounts(own["counts"], arm, log_expected, people.error_columns, sizes, trial)
    error = fit_error_model(unseen, tuple(f"arm {number}" for number in range(arms)), ERROR_COLUMNS, "cross-fitted")
    levels = error.level_corrections(log_expected, unseen.columns)
    shift, log_size = law_of_counts(error, own["counts"], arm, log_expected[np.arange(patients), arm], levels, variance)
    left = error.with_levels(shift)
    left.mean[left.at["log_size"]] -= log_size
    moved = replace(left, sizes=left.sizes * np.exp(log_size), volume_sd=np.zeros(arms)).about_zero()
    return Counts(arms, replace(whole, level=whole.level + shift), own), moved


def judged(
    people: Population, log_expected: np.ndarray, error: ErrorModel, true: Population, weights: np.ndarray | None
) -> Iterator[tuple[str, bool, float]]:
    """What is estimated, whether its 95% interval holds the truth, and its standard error; the truth is the population's."""
    arms = log_expected.shape[1]
    shift = np.stack([error.terms(log_expected, people.error_columns, a) @ error.mean for a in range(arms)], axis=1)
    means = np.exp(log_expected + shift)
    loadings = np.stack([error.loadings(log_expected, people.error_columns, a) for a in range(arms)], axis=1)
    patients = pd.DataFrame({"trial": "T", "participant_id": np.arange(len(means)).astype(str), "arm_randomised": "arm 0"})
    outcomes = SimulatedOutcomes(
        means[:, :, None, None], error.arms, patients, 96.0, "interventional", False, means[:, :, None] * loadings
    )
    measure = measure_named("mean-ratio")
    gd, true_gd = people.enhancing > 0.5, true.enhancing > 0.5
    w = np.full(len(true.log_rate), 1.0) if weights is None else weights
    rates = np.exp(true.log_rate)

    def truth(rows: np.ndarray, arm: int) -> float:
        return float(np.log((w[rows] @ rates[rows, arm]) / (w[rows] @ rates[rows, 0])))

    everybody = np.ones(len(rates), bool)
    for arm in range(1, arms):
        value, errors = contrast_errors(outcomes, arm, measure)
        yield "population ratio", abs(value - truth(everybody, arm)) < Z * errors.total, errors.total
        given = float(np.sqrt(errors.patient))
        yield "population ratio, given the model", abs(value - truth(everybody, arm)) < Z * given, given
        parts = [(contrast_errors(outcomes.where(inside), arm, measure), truth(of_truth, arm))
                 for inside, of_truth in ((gd, true_gd), (~gd, ~true_gd))]  # fmt: skip
        for (estimate, own), target in parts:
            yield "subgroup ratio", abs(estimate - target) < Z * own.total, own.total
        effects = np.array([estimate for (estimate, _), _ in parts])
        directions = np.array([own.direction for (_, own), _ in parts])
        ses = np.array([own.total for (_, own), _ in parts])
        test = correlated_interaction_test(effects, ses, directions)
        difference = effects[0] - effects[1] - (parts[0][1] - parts[1][1])
        se = float(np.sqrt(sum(own.patient for (_, own), _ in parts) + np.sum((directions[0] - directions[1]) ** 2)))
        yield "interaction", abs(difference) < Z * se, se
        yield "interaction test rejects", bool(test.p_value < 0.05), se
        own_ratio = log_expected[:, arm] + shift[:, arm] - log_expected[:, 0] - shift[:, 0]
        own_se = np.linalg.norm(loadings[:, arm] - loadings[:, 0], axis=1)
        true_ratio = people.log_rate[:, arm] - people.log_rate[:, 0]
        yield from (("patient's own ratio", bool(ok), float(s))
                    for ok, s in zip(np.abs(own_ratio - true_ratio) < Z * own_se, own_se, strict=True) if s)  # fmt: skip


def predicted(
    people: Population, log_expected: np.ndarray, error: ErrorModel, zeros: float, rng: np.random.Generator, some: int = 25
) -> Iterator[tuple[str, bool, float]]:
    """Whether 90% prediction intervals hold new counts of some patients, one arm each; ends are randomised."""
    arm = rng.integers(0, log_expected.shape[1], some)
    counts = people.where(np.arange(some)).counts(arm, rng, zeros)
    for row in range(some):
        one, columns = log_expected[row : row + 1], people.error_columns[row : row + 1]
        mean = np.exp(one[0, arm[row]] + float((error.terms(one, columns, arm[row]) @ error.mean)[0]))
        size = error.sizes[arm[row]] * np.exp(error.mean[error.at["log_size"]][arm[row]])
        cell = error.cells(one, columns, int(arm[row]), np.array([mean]), size)[0]
        ends = prediction_interval(mean, 1 / size, cell)
        yield "count, 90%", ends["lower"] <= counts[row] <= ends["upper"], ends["upper"] - ends["lower"]


def bounded(
    people: Population, log_expected: np.ndarray, error: ErrorModel, zeros: float, arm: int = 4, some: int = 6
) -> Iterator[tuple[str, bool, float]]:
    """Whether intervals of rung-3 bounds hold the true bounds of the same patients, for one arm against the first."""
    pair, ends = (0, arm), [(name, side) for name in ("benefit", "active") for side in ("lower", "upper")]
    stated, true, along = [], [], []
    for row in range(some):
        one, columns, laws, of_truth = log_expected[row : row + 1], people.error_columns[row : row + 1], [], []
        for a in pair:
            mean = float(np.exp(one[0, a] + (error.terms(one, columns, a) @ error.mean)[0]))
            size = float(error.sizes[a] * np.exp(error.mean[error.at["log_size"]][a]))
            laws.append(CountLaw(mean, 1 / size, error.cells(one, columns, a, np.array([mean]), size)[0]))
            of_truth.append(_true_law(float(np.exp(people.log_rate[row, a])), zeros))
        known = {("p", "reference"): laws[0], ("p", "arm"): laws[1]}
        directions = joint_directions(known, ("p", "reference", "arm"))
        assert directions is not None
        along.append(directions[[JOINT.index(end) for end in ends]])
        bounds = joint_bounds(laws[0].law, laws[1].law), joint_bounds(*of_truth)
        stated.append([getattr(bounds[0][name], side) for name, side in ends])
        true.append([getattr(bounds[1][name], side) for name, side in ends])
    ses = np.linalg.norm(np.mean(along, axis=0), axis=1)
    off = np.abs(np.mean(stated, axis=0) - np.mean(true, axis=0))
    yield from (("rung-3 bound", bool(far < Z * se), float(se)) for far, se in zip(off, ses, strict=True) if se > 1e-9)


def _true_law(rate: float, zeros: float) -> Law:
    """The true law of a count: ``zeros`` of the patients have none, the others more."""
    law = Law.negative_binomial(rate / (1 - zeros), 1 / SIZE)
    probabilities = (1 - zeros) * law.probabilities
    probabilities[0] += zeros
    return Law(law.support, probabilities)


def by_counts(true: Population, weights: np.ndarray | None, zeros: float, size: int, rng: np.random.Generator) -> Iterator[Any]:
    """Whether ``--model counts``, a regression on the trial itself, holds the population ratios in its intervals."""
    people, arms = true.some(size, rng, weights), true.log_rate.shape[1]
    covariates = {"age": "linear", "edss": "linear", "relapses_prior_year": "linear", "gd_lesions": "log1p"}
    arm, names = rng.integers(0, arms, size), [f"arm {number}" for number in range(arms)]
    table = pd.DataFrame(people.error_columns, columns=list(ERROR_COLUMNS))[list(covariates)]
    whole = {name: np.expm1(table[name]).round() for name in ("relapses_prior_year", "gd_lesions")}
    table = table.assign(
        **whole, participant_id=[f"p{number}" for number in range(size)], trial="T", arm=np.array(names)[arm],
        net2_lesions_week96=people.counts(arm, rng, zeros),
    )  # fmt: skip
    model = CausalModel.fit_counts(table, 96, covariates)
    results = analyse_draws(model.do(table, names, 96.0, expected=True), reference=names[0], measure="rate-ratio")
    w = np.full(len(true.log_rate), 1.0) if weights is None else weights
    means = w @ np.exp(true.log_rate)
    for row in results.to_dict("records"):
        ratio = means[names.index(row["arm"])] / means[0]
        yield "population ratio, --model counts", bool(row["lower"] < ratio < row["upper"]), row["se"]


def learned_counts(population: Population, new: Population, plan: Plan, number: int) -> list[Any]:
    """All judgements of one generator learned from ``plan.patients`` of a population, about patients that it has not met."""
    rng = np.random.default_rng([plan.seed, plan.patients, number])
    counts, error = trained(population, plan.patients, rng, plan.folds)
    return judgements(f"small, {plan.patients} patients", number, counts, error, new, plan.sizes, rng)


def shipped_counts(parts: Path, plan: Plan, number: int) -> list[Any]:
    """All judgements of the shipped checkpoint on a ninth of its new trials, its error model fitted to the others."""
    generator = Generator.load("reference")
    places = sorted(parts.glob("*.npz"))
    own, others = places[number::NINTHS], [place for k, place in enumerate(places) if k % NINTHS != number]
    error = fit_to_held_out(together(others)[0], generator.arms, generator.network).about_zero()
    unseen, log_rate = together(own)
    new = Population(unseen.covariates, unseen.signals, log_rate, unseen.log_expected_at(generator.weeks[1]))
    arms, rng = len(generator.arms), np.random.default_rng([plan.seed, 0, number])
    plain = replace(error, arms=tuple(f"arm {k}" for k in range(arms)), volume_sd=np.zeros(arms))
    return judgements("shipped", number, Counts(arms), plain, new, plan.sizes, rng)


def judgements(
    name: str, number: int, counts: Counts, error: ErrorModel, new: Population, sizes: tuple[int, ...],
    rng: np.random.Generator,
) -> list[Any]:  # fmt: skip
    """Rows: generator, its number, scenario, size of the trial, recalibrated or not, what, coverage and width in new trials."""
    rows = []
    for scenario in SCENARIOS:
        if scenario == "scanner" and counts.fit is None:
            continue  # its forecasts were made of the images as they are
        true, weights, zeros = under(scenario, new, rng)
        for _ in range(OWN_TRIALS):
            own = true.some(OWN_TRIAL, rng, weights)
            arm = rng.integers(0, counts.arms, OWN_TRIAL)
            observed = own.counts(arm, rng, zeros)
            trial = np.zeros(OWN_TRIAL, int)
            data = HeldOutCounts(observed, arm, counts.log_expected(own), own.error_columns, error.sizes, trial)
            update = update_error_model(error, data)
            rows += [(scenario, OWN_TRIAL, "own trial", "error model dropped", update.dropped, np.nan)]
            rows += [(scenario, OWN_TRIAL, "own trial", "level p below .02", update.test.level_p < 0.02, np.nan)]
        if scenario in COUNTED and counts.fit is not None:
            counted = by_counts(true, weights, zeros, OWN_TRIAL, rng)
            rows += [(scenario, OWN_TRIAL, "own trial", *judgement) for judgement in counted]
        for size in sizes:
            people = true.some(size, rng, weights)
            log_expected = counts.log_expected(people)
            for kind, model in (("as trained", error), ("recalibrated", update.error)):
                found = [*judged(people, log_expected, model, true, weights)]
                found += predicted(people, log_expected, model, zeros, rng)
                if size == max(sizes):
                    found += bounded(people, log_expected, model, zeros)
                rows += [(scenario, size, kind, *judgement) for judgement in found]
    table = pd.DataFrame(rows, columns=["scenario", "patients", "model", "what", "covered", "width"])
    by = ["scenario", "patients", "model", "what"]
    return [(name, number, *key, part["covered"].mean(), part["width"].median()) for key, part in table.groupby(by, sort=False)]


def summary(rows: list[Any]) -> pd.DataFrame:
    """Coverage by cell, with the Monte-Carlo error between generators."""
    by = ["generator", "scenario", "patients", "model", "what"]
    table = pd.DataFrame(rows, columns=["generator", "number", *by[1:], "coverage", "width"])
    groups = table.groupby(by, sort=False)
    result = groups.agg(coverage=("coverage", "mean"), coverage_se=("coverage", "sem"), median_width=("width", "median"))
    return result.assign(generators=groups.size()).reset_index()


@click.command()
@out_option
@click.option("--parts", type=click.Path(path_type=Path), required=True, help="Of studies.learning_curve.")
@click.option("--shipped-parts", type=click.Path(path_type=Path, exists=True), help="Of studies.reference_error_model.")
@click.option("--generators", default=40, show_default=True, help="To be learned; 0 keeps their rows as they are.")
@click.option("--patients", default=2131, show_default=True, help="That each generator is learned from.")
@click.option("--size", "sizes", multiple=True, type=int, default=(240, 600, 1500), show_default=True, help="Of new trials.")
@click.option("--folds", default=10, show_default=True, help="Of cross-fitting.")
@workers_option()
@seed_option(14)
def main(
    out: Path, parts: Path, shipped_parts: Path | None, generators: int, patients: int, sizes: tuple[int, ...], folds: int,
    workers: int, seed: int,
) -> None:  # fmt: skip
    """Write coverage.csv: coverage by generator, scenario, size of trial and what is estimated, with its Monte-Carlo error."""
    plan = Plan(patients, sizes, folds, seed)
    kept = [] if generators else [pd.read_csv(out / "coverage.csv").query("generator != 'shipped'")]
    learned_from = [dict(np.load(part_of("lifelike", at, 2131, parts), allow_pickle=False)) for at in TRAINING]
    population = Population.of({name: np.concatenate([one[name] for one in learned_from]) for name in learned_from[0]})
    new = Population.of(dict(np.load(part_of("lifelike", MORE[0], 9869, parts), allow_pickle=False)))
    jobs = [delayed(learned_counts)(population, new, plan, number) for number in range(generators)]
    if shipped_parts is not None:
        jobs += [delayed(shipped_counts)(shipped_parts, plan, number) for number in range(NINTHS)]
    rows: list[Any] = []
    made = Parallel(n_jobs=workers, return_as="generator")(jobs)
    for part in tqdm(made, total=len(jobs), desc="generators", unit="generator", disable=None):
        rows += part
        write_table(pd.concat([*kept, summary(rows).assign(seed=seed)]), out / "coverage.csv")  # a killed run leaves what it has
    click.echo(summary(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
