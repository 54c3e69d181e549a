"""Does the interval of a simulated number hold the truth?  Many generators, each learned from other patients, and new trials.

python -m studies.coverage --parts parts --out studies/results

``parts`` is the folder that studies.reference_error_model fills: phantom patients with images, columns and true rates.  A
generator here is a ridge negative-binomial readout of columns and pooled image signals, learned from a sample of patients; its
error model is cross-fitted, as that of ``causalms train`` is, or fitted to a fifth held out (``--folds 0``).  New trials draw
other patients and their counts.  A checkpoint has one error, so that coverage over trials of a single one cannot come out at
its level; over many generators it can.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from causalms.causal import CausalModel
from causalms.causal.bounds import Law
from causalms.causal.law_error import JOINT, CountLaw, joint_bounds, joint_directions
from causalms.effects import analyse_draws, measure_named
from causalms.effects.draws import SimulatedOutcomes
from causalms.effects.simulated import contrast_errors
from causalms.errors import ConvergenceError
from causalms.generator.forecast import prediction_interval
from causalms.generator.seen import ERROR_COLUMNS, error_columns
from causalms.generator.train.held_out import HeldOut
from causalms.stats import ErrorModel, HeldOutCounts, fit_error_model, update_error_model
from causalms.subgroups.interaction import correlated_interaction_test
from causalms.tables import write_table
from studies.common import out_option, seed_option
from studies.reference_error_model import together

SIZE = 0.5
OWN_TRIAL, OWN_TRIALS = 240, 8
Z = stats.norm.ppf(0.975)
#: Scenarios of new trials, by what differs from the patients that were learned from.
SCENARIOS = ("in design", "older", "lower rate", "another law", "scanner", "hidden modification", "zero inflation")
#: Those in which ``--model counts`` is judged too (a regression on the trial meets no shift).
COUNTED = ("in design",)
_GD = ERROR_COLUMNS.index("any_gd")
_AGE = ERROR_COLUMNS.index("age")


@dataclass(frozen=True)
class Population:
    """Phantom patients: columns (n, q), image signals (n, s), true log rates (n, arms) at the last week."""

    columns: np.ndarray
    signals: np.ndarray
    log_rate: np.ndarray
    trial: np.ndarray

    @classmethod
    def of(cls, unseen: HeldOut, log_rate: np.ndarray) -> Population:
        """Of held-out phantom patients; what is missing stands at the mean."""
        columns, signals = (
            np.where(np.isfinite(values), values, np.nanmean(values, axis=0))
            for values in (error_columns(unseen.covariates), unseen.signals)
        )
        return cls(columns, signals, log_rate, np.unique(unseen.trial, return_inverse=True)[1])

    def some(self, count: int, rng: np.random.Generator, weights: np.ndarray | None = None) -> Population:
        """Patients drawn with replacement."""
        return self.where(rng.choice(len(self.columns), count, p=weights))

    def where(self, rows: np.ndarray) -> Population:
        """Some of the patients."""
        return Population(self.columns[rows], self.signals[rows], self.log_rate[rows], self.trial[rows])

    def counts(self, arm: np.ndarray, rng: np.random.Generator, zeros: float = 0.0) -> np.ndarray:
        """Observed counts under the arms that were given; ``zeros`` of the patients have none, the others more."""
        mean = np.exp(self.log_rate[np.arange(len(arm)), arm]) / (1 - zeros)
        active = rng.random(len(arm)) >= zeros
        return np.asarray(rng.poisson(mean * active * rng.gamma(SIZE, 1 / SIZE, len(arm))), float)


def tilted_to_older(population: Population) -> np.ndarray:
    """Weights (n,) that give a mean age of 50 years and enhancement in three quarters."""
    x = np.column_stack([population.columns[:, _AGE] - 50, population.columns[:, _GD] - 0.75])
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
        shift[:, 4] += 0.8 * (population.columns[:, _GD] - population.columns[:, _GD].mean())
    elif scenario == "zero inflation":
        zeros = 0.2
    elif scenario == "scanner":
        spread = signals.std(axis=0)
        signals = signals * 1.15 + 0.3 * spread * rng.standard_normal(signals.shape[1])
    return replace(population, log_rate=population.log_rate + shift, signals=signals), weights, zeros


@dataclass(frozen=True)
class Readout:
    """A generator of counts: log expected count under every arm, linear in standardised columns and image signals."""

    beta: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    arms: int

    def log_expected(self, people: Population) -> np.ndarray:
        """Log expected counts (n, arms)."""
        x = (np.column_stack([people.columns, people.signals]) - self.mean) / self.sd
        return np.asarray(self.beta[: self.arms] + np.clip(x, -5, 5) @ self.beta[self.arms :, None])


def fit_levels(
    counts: np.ndarray,
    log_patient: np.ndarray,
    log_arm: np.ndarray,
    arm: np.ndarray,
    arms: int,
    slope_precision: float = 200.0,
) -> tuple[np.ndarray, float]:
    """Shift of every arm and common slope ``b`` in ``log m = shift_arm + log_arm + b log_patient``, by Newton's method.

    A Poisson quasi-likelihood, as the shipped checkpoint's recipe had it; the slope's prior precision about 1 is in patients'
    counts.
    """
    design = np.column_stack([np.eye(arms)[arm], log_patient])
    prior = np.append(np.full(arms, 1e-3), slope_precision)
    centre = np.append(np.zeros(arms), 1.0)
    beta = centre.copy()
    for _ in range(100):
        mean = np.exp(np.clip(log_arm + design @ beta, -20, 8))
        gradient = design.T @ (counts - mean) - prior * (beta - centre)
        step = np.linalg.solve(design.T @ (design * mean[:, None]) + np.diag(prior), gradient)
        beta = beta + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-9:
            return beta[:arms], float(beta[arms])
    raise ConvergenceError("the arms' levels did not converge")


def learned(people: Population, arm: np.ndarray, counts: np.ndarray, ridge: float = 20.0) -> Readout:
    """Ridge negative-binomial regression with the phantom's size, by Newton's method; then training's levels and slope."""
    x = np.column_stack([people.columns, people.signals])
    mean, sd = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    arms = people.log_rate.shape[1]
    X = np.column_stack([np.eye(arms)[arm], np.clip((x - mean) / sd, -5, 5)])
    penalty = np.concatenate([np.full(arms, 1e-3), np.full(x.shape[1], ridge)])
    beta = np.concatenate([np.full(arms, np.log(counts.mean() + 0.1)), np.zeros(x.shape[1])])
    for _ in range(50):
        mu = np.exp(np.clip(X @ beta, -10, 8))
        gradient = X.T @ ((counts - mu) * SIZE / (SIZE + mu)) - penalty * beta
        weight = mu * SIZE * (SIZE + counts) / (SIZE + mu) ** 2
        step = np.linalg.solve((X * weight[:, None]).T @ X + np.diag(penalty), gradient)
        beta = beta + step * min(1.0, 2.0 / np.abs(step).max())
        if np.abs(step).max() < 1e-8:
            break
    shift, slope = fit_levels(counts, X[:, arms:] @ beta[arms:], beta[arm], arm, arms)
    return Readout(np.concatenate([beta[:arms] + shift, slope * beta[arms:]]), mean, sd, arms)


def trained(population: Population, patients: int, rng: np.random.Generator, folds: int) -> tuple[Readout, ErrorModel]:
    """A generator from new patients, its levels moved to what its error model says.

    Cross-fitted in ``folds``, every patient forecast by a generator of the other folds; or, with 0, from four fifths of the
    patients with its error model from the other fifth.
    """
    people = population.some(patients, rng)
    arms = population.log_rate.shape[1]
    arm = rng.integers(0, arms, patients)
    counts, fold = people.counts(arm, rng), np.arange(patients) % (folds or 5)
    log_expected = np.empty(people.log_rate.shape)
    for number in range(folds or 1):
        out = fold == number
        readout = learned(people.where(~out), arm[~out], counts[~out])
        log_expected[out] = readout.log_expected(people.where(out))
    used = slice(None) if folds else np.flatnonzero(fold == 0)
    trial = np.unique(people.trial[used] % 4, return_inverse=True)[1]
    data = HeldOutCounts(counts[used], arm[used], log_expected[used], people.columns[used], np.full(arms, SIZE), trial)
    names, how = tuple(f"arm {number}" for number in range(arms)), "cross-fitted" if folds else "held-out"
    error = fit_error_model(data, names, ERROR_COLUMNS, how)
    readout = learned(people, arm, counts) if folds else readout
    shift = error.level_corrections(data.log_expected, data.columns)
    beta = readout.beta.copy()
    beta[:arms] += shift
    return replace(readout, beta=beta), replace(error.with_levels(shift), volume_sd=np.zeros(arms)).about_zero()


def judged(
    people: Population, log_expected: np.ndarray, error: ErrorModel, true: Population, weights: np.ndarray | None
) -> Iterator[tuple[str, bool, float]]:
    """What is estimated, whether its 95% interval holds the truth, and its standard error; the truth is the population's."""
    arms = log_expected.shape[1]
    shift = np.stack([error.terms(log_expected, people.columns, a) @ error.mean for a in range(arms)], axis=1)
    means = np.exp(log_expected + shift)
    loadings = np.stack([error.loadings(log_expected, people.columns, a) for a in range(arms)], axis=1)
    patients = pd.DataFrame({"trial": "T", "participant_id": np.arange(len(means)).astype(str), "arm_randomised": "arm 0"})
    outcomes = SimulatedOutcomes(
        means[:, :, None, None], error.arms, patients, 96.0, "interventional", False, means[:, :, None] * loadings
    )
    measure = measure_named("mean-ratio")
    gd, true_gd = people.columns[:, _GD] > 0.5, true.columns[:, _GD] > 0.5
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
        one, columns = log_expected[row : row + 1], people.columns[row : row + 1]
        mean = np.exp(one[0, arm[row]] + float((error.terms(one, columns, arm[row]) @ error.mean)[0]))
        size = SIZE * np.exp(error.mean[error.at["log_size"]][arm[row]])
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
        one, columns, laws, of_truth = log_expected[row : row + 1], people.columns[row : row + 1], [], []
        for a in pair:
            mean = float(np.exp(one[0, a] + (error.terms(one, columns, a) @ error.mean)[0]))
            size = SIZE * float(np.exp(error.mean[error.at["log_size"]][a]))
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
    table = pd.DataFrame(people.columns, columns=list(ERROR_COLUMNS))[list(covariates)]
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


def one_generator(population: Population, patients: int, sizes: tuple[int, ...], folds: int, seed: int, number: int) -> list[Any]:
    """All judgements of one generator: scenario, size of the trial, recalibrated or not, what, covered, width."""
    rng = np.random.default_rng([seed, patients, number])
    readout, error = trained(population, patients, rng, folds)
    rows = []
    for scenario in SCENARIOS:
        true, weights, zeros = under(scenario, population, rng)
        for _ in range(OWN_TRIALS):
            own = true.some(OWN_TRIAL, rng, weights)
            arm = rng.integers(0, readout.arms, OWN_TRIAL)
            data = HeldOutCounts(
                own.counts(arm, rng, zeros), arm, readout.log_expected(own), own.columns, error.sizes, np.zeros(OWN_TRIAL, int)
            )
            update = update_error_model(error, data)
            rows += [(scenario, OWN_TRIAL, "own trial", "error model dropped", update.dropped, np.nan)]
            rows += [(scenario, OWN_TRIAL, "own trial", "level p below .02", update.test.level_p < 0.02, np.nan)]
        if scenario in COUNTED:
            counted = by_counts(true, weights, zeros, OWN_TRIAL, rng)
            rows += [(scenario, OWN_TRIAL, "own trial", *judgement) for judgement in counted]
        for size in sizes:
            people = true.some(size, rng, weights)
            log_expected = readout.log_expected(people)
            for kind, model in (("as trained", error), ("recalibrated", update.error)):
                judgements = [*judged(people, log_expected, model, true, weights)]
                judgements += predicted(people, log_expected, model, zeros, rng)
                if size == max(sizes):
                    judgements += bounded(people, log_expected, model, zeros)
                rows += [(scenario, size, kind, *judgement) for judgement in judgements]
    table = pd.DataFrame(rows, columns=["scenario", "patients", "model", "what", "covered", "width"])
    by = ["scenario", "patients", "model", "what"]
    return [(number, *key, part["covered"].mean(), part["width"].median()) for key, part in table.groupby(by, sort=False)]


def summary(rows: list[Any]) -> pd.DataFrame:
    """Coverage by cell, with the Monte-Carlo error between generators."""
    names = ["generator", "scenario", "patients", "model", "what", "coverage", "width"]
    table = pd.DataFrame(rows, columns=names)
    groups = table.groupby(["scenario", "patients", "model", "what"], sort=False)
    result = groups.agg(coverage=("coverage", "mean"), coverage_se=("coverage", "sem"), median_width=("width", "median"))
    return result.assign(generators=groups.size()).reset_index()


@click.command()
@out_option
@click.option("--parts", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--generators", default=40, show_default=True)
@click.option("--patients", default=2131, show_default=True, help="That each generator is learned from.")
@click.option("--size", "sizes", multiple=True, type=int, default=(240, 1500), show_default=True, help="Of new trials.")
@click.option("--folds", default=5, show_default=True, help="Of cross-fitting; 0: a fifth held out.")
@seed_option(14)
def main(out: Path, parts: Path, generators: int, patients: int, sizes: tuple[int, ...], folds: int, seed: int) -> None:
    """Write coverage.csv: coverage by scenario, size of the trial and what is estimated, with its Monte-Carlo error."""
    population = Population.of(*together(sorted(parts.glob("*.npz"))))
    rows: list[Any] = []
    for number in tqdm(range(generators), desc="generators", unit="generator", disable=None):
        rows += one_generator(population, patients, sizes, folds, seed, number)
        table = summary(rows).assign(learned_from=patients, folds=folds, seed=seed)
        write_table(table, out / "coverage.csv")  # a killed run leaves what it has
    click.echo(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
