"""Which law have the counts of a patient whose mean is known up to its error?  Chosen by held-out log score, judged by the truth.

A first stage predicts the log mean of patients that it was not fitted to (ten folds).  Given that prediction, the count is

    Y ~ pi [Y = 0] + (1 - pi) NB(mu / (1 - pi), k),   log k = c + d_arm + z.g,   d ~ N(0, s_d^2),   g ~ N(0, s_g^2)

with `z` the log mean itself, Gd lesions, sex, age and T2 volume.  Options switch parts of it on; `s_d` and `s_g` are those of the
largest evidence (Laplace's approximation).  With the first stage's own posterior, of variance `v` on the log scale, mean and
size become those of the mixture, `mu exp(v / 2)` and `1 / ((1 + 1 / k) exp(v) - 1)`.

Two laws more: `as trained`, what `causalms train` writes, and `before`, what it wrote until then (levels and sizes of every arm
by the error model).  Laws are chosen by the log score of folds that neither first stage nor law was fitted to.  The truth judges
them on unseen patients under every arm: log score, and by arm, Gd lesions and sex the variance and the coverage of 90% sets.
Every training trial is judged with the counts that were observed and with counts drawn anew from the patients' true rates.

python -m studies.count_law --parts parts --out studies/results/count_law
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from scipy import optimize, stats
from torch import Tensor

from causalms.generator.configurations import COVARIATES
from causalms.generator.seen import ERROR_COLUMNS, error_columns
from causalms.generator.train.cross_fitting import folds_of
from causalms.generator.train.first_stage import FirstStage, FirstStageData, fit_first_stage
from causalms.generator.train.held_out import law_of_counts
from causalms.phantom import load_design
from causalms.phantom.design import Counts
from causalms.stats import HeldOutCounts, NegativeBinomialLaw, fit_error_model, score
from causalms.tables import write_table
from studies.common import out_option, seed_option
from studies.learning_curve import Arrays, data_of, part_of

FOLDS = 10
SIZE_COLUMNS = ("gd_lesions", "sex", "age", "t2_volume_ml")
_SDS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
_LEVEL_SD = 3.0

Laws = list[NegativeBinomialLaw]


@dataclass(frozen=True)
class Option:
    """A law: which parts its size has, whether there are extra zeros, and whether the posterior of the mean is mixed in."""

    name: str
    by_arm: bool = False
    by_columns: bool = False
    zeros: bool = False
    posterior: bool = False


OPTIONS = (
    Option("one size"),
    Option("size by arm", by_arm=True),
    Option("size by arm and columns", by_arm=True, by_columns=True),
    Option("extra zeros", zeros=True),
    Option("one size, posterior", posterior=True),
    Option("size by arm, posterior", by_arm=True, posterior=True),
    Option("size by arm and columns, posterior", by_arm=True, by_columns=True, posterior=True),
    Option("extra zeros, posterior", zeros=True, posterior=True),
)


@dataclass(frozen=True)
class Predicted:
    """Log means (n,) by fits to others, their posterior variances, arms, and what a size may depend on (n, z)."""

    log_mean: np.ndarray
    variance: np.ndarray
    arm: np.ndarray
    z: np.ndarray

    def rows(self, chosen: np.ndarray) -> Predicted:
        """Some of them."""
        return Predicted(self.log_mean[chosen], self.variance[chosen], self.arm[chosen], self.z[chosen])

    def terms(self, option: Option, arms: int) -> tuple[np.ndarray, np.ndarray]:
        """Design (n, p) of the log size, and the group of every column: 0 level, 1 arms, 2 columns."""
        parts = [np.ones((len(self.arm), 1))]
        parts += [np.eye(arms)[self.arm]] if option.by_arm else []
        parts += [self.z] if option.by_columns else []
        groups = [0, *([1] * arms if option.by_arm else []), *([2] * self.z.shape[1] if option.by_columns else [])]
        return np.column_stack(parts), np.array(groups)


@dataclass(frozen=True)
class Law:
    """A fitted law: coefficients of the log size, probability of an extra zero, prior standard deviations of arms and columns."""

    option: Option
    coefficients: np.ndarray
    zeros: float
    sds: tuple[float, float]

    def of(self, predicted: Predicted, arms: int) -> NegativeBinomialLaw:
        """Predictive law of patients."""
        size = np.exp(predicted.terms(self.option, arms)[0] @ self.coefficients)
        variance = predicted.variance if self.option.posterior else np.zeros(len(size))
        return NegativeBinomialLaw(np.exp(predicted.log_mean + variance / 2), mixed_size(size, variance), self.zeros)


def mixed_size(size: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Size of a negative binomial whose log mean is normal: the one of the same variance.

    Examples
    --------
    >>> mixed_size(np.array([0.5]), np.array([0.1])).round(3).tolist()
    [0.432]
    """
    return np.asarray(1 / ((1 + 1 / size) * np.exp(variance) - 1))


def predict(fit: FirstStage, data: FirstStageData) -> Predicted:
    """Of patients under the arms of ``data``."""
    log_mean = fit.log_mean(data)
    places = [COVARIATES.index(name) for name in SIZE_COLUMNS]
    z = np.column_stack([log_mean - data.log_share - 1.5, data.columns[:, places]])
    return Predicted(log_mean, fit.variance(data), data.arm, z)


def under_every_arm(fit: FirstStage, rows: FirstStageData) -> list[Predicted]:
    """Predictions of patients for the whole follow-up, one an arm."""
    n, arms = len(rows.arm), len(fit.level)
    return [predict(fit, replace(rows, arm=np.full(n, arm), log_share=np.zeros(n))) for arm in range(arms)]


def log_likelihood(option: Option, predicted: Predicted, counts: np.ndarray, terms: np.ndarray) -> Callable[[Tensor], Tensor]:
    """Log likelihood as a function of coefficients of the log size and, last, the logit of extra zeros where there are any."""
    X, y, v = (torch.from_numpy(np.asarray(part, float)) for part in (terms, counts, predicted.variance * option.posterior))
    mean = torch.from_numpy(np.exp(predicted.log_mean)) * torch.exp(v / 2)

    def total(theta: Tensor) -> Tensor:
        size = 1 / ((1 + torch.exp(-(X @ theta[: X.shape[1]]))) * torch.exp(v) - 1)
        zero = torch.sigmoid(theta[-1]) if option.zeros else torch.zeros((), dtype=torch.float64)
        inner = mean / (1 - zero)
        own = torch.lgamma(y + size) - torch.lgamma(size) - torch.lgamma(y + 1)
        own = own + size * torch.log(size / (size + inner)) + y * torch.log(inner / (size + inner)) + torch.log1p(-zero)
        return torch.where(y == 0, torch.log(zero + torch.exp(own)), own).sum()

    return total


def fit_law(option: Option, predicted: Predicted, counts: np.ndarray, arms: int, sds: tuple[float, float] | None = None) -> Law:
    """Law of the largest posterior density; where ``sds`` are not given, those of the largest evidence."""
    terms, groups = predicted.terms(option, arms)
    total = log_likelihood(option, predicted, counts, terms)

    def at(own: tuple[float, float]) -> tuple[float, np.ndarray]:
        precision = torch.from_numpy(np.array([_LEVEL_SD, *own])[groups] ** -2.0)
        precision = torch.cat([precision, torch.full((int(option.zeros),), _LEVEL_SD**-2, dtype=torch.float64)])

        def cost(theta: Tensor) -> Tensor:
            return 0.5 * (precision * theta**2).sum() - total(theta)

        def both(theta: np.ndarray) -> tuple[float, np.ndarray]:
            point = torch.from_numpy(theta).requires_grad_()
            value = cost(point)
            return float(value.detach()), torch.autograd.grad(value, point)[0].numpy()

        start = np.concatenate([[-0.7], np.zeros(terms.shape[1] - 1), [-3.0] * option.zeros])
        bounds = [(-6.0, 3.0), *[(-3.0, 3.0)] * (terms.shape[1] - 1), *[(-8.0, 2.0)] * option.zeros]
        best = optimize.minimize(both, start, jac=True, method="L-BFGS-B", bounds=bounds)
        bend = torch.autograd.functional.hessian(cost, torch.from_numpy(best.x))
        return float(-best.fun + 0.5 * precision.log().sum() - 0.5 * torch.linalg.slogdet(bend)[1]), best.x

    if sds is None:
        of_arms = max(_SDS, key=lambda sd: at((sd, 0.1))[0]) if option.by_arm else 0.1
        of_columns = max(_SDS, key=lambda sd: at((of_arms, sd))[0]) if option.by_columns else 0.1
        sds = (of_arms, of_columns)
    theta = at(sds)[1]
    zeros = float(1 / (1 + np.exp(-theta[-1]))) if option.zeros else 0.0
    return Law(option, theta[: terms.shape[1]], zeros, sds)


def held_out(option: Option, predicted: Predicted, counts: np.ndarray, folds: list[np.ndarray], arms: int) -> np.ndarray:
    """Log score (n,) of every patient under a law that was fitted to the other folds."""
    sds, out = fit_law(option, predicted, counts, arms).sds, np.empty(len(counts))
    for rows in folds:
        others = np.setdiff1d(np.arange(len(counts)), rows)
        law = fit_law(option, predicted.rows(others), counts[others], arms, sds)
        out[rows] = score("log", law.of(predicted.rows(rows), arms), counts[rows].astype(np.int64))
    return out


@dataclass(frozen=True)
class Trained:
    """A first stage with what is needed of its cross-fitting: predictions of everybody by others, and the rows of the folds."""

    train: Arrays
    data: FirstStageData
    whole: FirstStage
    folds: list[np.ndarray]
    predicted: Predicted
    log_expected: np.ndarray

    @classmethod
    def of(cls, train: Arrays) -> Trained:
        """Fit to all, and to all but every fold."""
        arms, data = train["log_rate"].shape[1], data_of(train, train, "first stage")
        whole, folds = fit_first_stage(data, arms), folds_of(data.arm, FOLDS, 21)
        log_expected, parts = np.empty((len(data.arm), arms)), []
        for rows in folds:
            fit = fit_first_stage(data.rows(np.setdiff1d(np.arange(len(data.arm)), rows)), arms, like=whole)
            own = data.rows(rows)
            parts.append(predict(fit, own))
            log_expected[rows] = np.column_stack([one.log_mean for one in under_every_arm(fit, own)])
        order = np.argsort(np.concatenate(folds))
        names = ("log_mean", "variance", "arm", "z")
        predicted = Predicted(*(np.concatenate([getattr(part, name) for part in parts])[order] for name in names))
        return cls(train, data, whole, folds, predicted, log_expected)

    @property
    def arms(self) -> int:
        """Number of arms."""
        return self.log_expected.shape[1]

    def by_error_model(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What is added to log means and log sizes of the arms, by the law as it was before and as it is."""
        counts, arm, columns = self.data.counts, self.data.arm, error_columns(self.train["columns"])
        sizes, trial = np.full(self.arms, self.whole.size), np.zeros(len(arm), int)
        unseen = HeldOutCounts(counts, arm, self.log_expected, columns, sizes, trial, self.data.log_share)
        model = fit_error_model(unseen, tuple(f"arm {number}" for number in range(self.arms)), ERROR_COLUMNS, "cross-fitted")
        levels = model.level_corrections(self.log_expected, columns)
        now = law_of_counts(model, counts, arm, self.predicted.log_mean, levels, self.predicted.variance)
        return {"before": (levels[0], model.with_levels(levels[0]).mean[model.at["log_size"]]), "as trained": now}

    def laws(self, new: list[Predicted]) -> dict[str, Laws]:
        """Laws of new patients, one an arm, by name."""
        found: dict[str, Laws] = {}
        for name, (shift, log_size) in self.by_error_model().items():
            sizes = self.whole.size * np.exp(log_size)
            found[name] = [NegativeBinomialLaw(np.exp(one.log_mean + shift[a]), sizes[a]) for a, one in enumerate(new)]
        for option in OPTIONS:
            law = fit_law(option, self.predicted, self.data.counts, self.arms)
            found[option.name] = [law.of(one, self.arms) for one in new]
        return found


def drawn_anew(arrays: Arrays, counts: Counts, arms: tuple[str, ...], seed: int) -> Arrays:
    """The same patients with counts drawn anew from their true rates, as the phantom draws them."""
    rng = np.random.default_rng(seed)
    sizes = np.array([counts.size_by_arm.get(arm, counts.size) for arm in arms])
    potential = np.zeros(arrays["log_rate"].shape)
    for row, log_rate in enumerate(arrays["log_rate"]):
        active = (rng.random() >= counts.zero_inflation) / (1 - counts.zero_inflation)
        rate = np.exp(log_rate) * stats.gamma.ppf(rng.random(), sizes) / sizes * active
        potential[row] = (rng.random(rng.poisson(rate.max())) < (rate / max(rate.max(), 1e-300))[:, None]).sum(axis=1)
    own = potential[np.arange(len(potential)), arrays["arm"]].astype(int)
    return {**arrays, "potential": potential, "counts": rng.binomial(own, np.exp(arrays["log_share"])).astype(float)}


def covered(law: NegativeBinomialLaw, counts: np.ndarray, level: float = 0.9) -> np.ndarray:
    """Probability (n,) that the randomised probability integral transform lies in the middle ``level``.

    Counts are whole: the ends of a set are taken in with the probability that makes it hold its level exactly.
    """
    upper, mass = law.cdf(counts), law.pmf(counts)
    lower, tail = upper - mass, (1 - level) / 2
    return np.asarray((np.minimum(upper, 1 - tail) - np.maximum(lower, tail)).clip(0) / mass.clip(1e-300))


def true_laws(log_rate: np.ndarray, counts: Counts, arms: tuple[str, ...]) -> Laws:
    """The phantom's own laws of patients, one an arm."""
    sizes = [counts.size_by_arm.get(arm, counts.size) for arm in arms]
    return [NegativeBinomialLaw(np.exp(own), k, counts.zero_inflation) for own, k in zip(log_rate.T, sizes, strict=True)]


def cells(laws: Laws, true: Laws, test: Arrays) -> pd.DataFrame:
    """One row an arm, Gd lesions and sex: ratios of mean and variance to the truth, and coverage of 90% sets."""
    y = test["potential"].astype(np.int64)
    gd, female = (test["columns"][:, COVARIATES.index(name)] > 0 for name in ("gd_lesions", "sex"))
    rows = []
    for arm, (own, known) in enumerate(zip(laws, true, strict=True)):
        held = covered(own, y[:, arm])
        for with_gd, woman in product((False, True), repeat=2):
            cell = (gd == with_gd) & (female == woman)
            level = known.mean[cell].mean() / own.mean[cell].mean()
            variance = known.variance[cell].mean()
            rows.append({
                "arm": arm, "gd": with_gd, "female": woman, "mean": 1 / level, "variance": own.variance[cell].mean() / variance,
                "variance_at_true_mean": replace(own, mean=own.mean * level).variance[cell].mean() / variance,
                "coverage": held[cell].mean(), "coverage_variance": held[cell].var(ddof=1) / cell.sum(),
            })  # fmt: skip
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Design:
    """A design of the study: where its patients come from, how their counts are drawn, training and unseen trials."""

    name: str
    of: str
    training: tuple[tuple[int, int], ...]
    unseen: tuple[int, int]
    zero_inflation: float | None = None

    @property
    def counts(self) -> Counts:
        """The law of counts."""
        own = load_design(self.of).counts
        return own if self.zero_inflation is None else own.model_copy(update={"zero_inflation": self.zero_inflation})


DESIGNS = (
    Design("pooled", "pooled", ((4001, 2131), (4002, 2131)), (4343, 1500)),
    Design("harmful", "harmful", ((4001, 1000), (4002, 1000)), (4242, 500)),
    Design("pooled, a fifth of structural zeros", "pooled", ((4001, 2131), (4002, 2131)), (4343, 1500), 0.2),
)


def one_trial(design: Design, train: Arrays, unseen: Arrays) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Held-out and unseen log scores by law, against that of one size; and the cells of the law as trained and as before."""
    arms = load_design(design.of).arms
    trained = Trained.of(train)
    rows = data_of({**unseen, "log_share": np.zeros(len(unseen["counts"]))}, train, "first stage")
    laws = trained.laws(under_every_arm(trained.whole, rows))
    y, true = unseen["potential"].astype(np.int64), true_laws(unseen["log_rate"], design.counts, arms)
    held = {one.name: held_out(one, trained.predicted, trained.data.counts, trained.folds, len(arms)) for one in OPTIONS}
    new = {name: np.mean([score("log", law, y[:, a]) for a, law in enumerate(own)], axis=0) for name, own in laws.items()}
    base = OPTIONS[0].name
    table = []
    for name, own in new.items():
        table.append({"law": name, "unseen": (own - new[base]).mean()})
        if name in held:
            apart = held[name] - held[base]
            table[-1] |= {"held_out": apart.mean(), "held_out_se": apart.std(ddof=1) / np.sqrt(len(apart))}
    every = [cells(own, true, unseen).assign(law=name) for name, own in laws.items()]
    return pd.DataFrame(table), pd.concat(every)


def averaged(tables: list[pd.DataFrame], by: list[str]) -> pd.DataFrame:
    """Means over trials, with their standard errors between trials."""
    groups = pd.concat(tables).groupby(by, sort=False)
    numbers = [name for name in tables[0].columns if name not in by]
    return groups[numbers].mean().join(groups[numbers].sem().add_suffix("_mcse")).reset_index()


@click.command()
@out_option
@click.option("--parts", type=click.Path(path_type=Path), required=True, help="Of studies.learning_curve.")
@click.option("--draws", default=10, show_default=True, help="Times that the counts of a training trial are drawn anew.")
@seed_option(21)
def main(out: Path, parts: Path, draws: int, seed: int) -> None:
    """Write log_scores.csv and cells.csv, by design and law."""
    torch.set_num_threads(1)
    scores, of_cells = [], []
    for design in DESIGNS:
        arms, found = load_design(design.of).arms, []
        unseen = dict(np.load(part_of(design.of, *design.unseen, parts), allow_pickle=False))
        for number, trial in enumerate(design.training):
            train = dict(np.load(part_of(design.of, *trial, parts), allow_pickle=False))
            for draw in range(draws):
                at = seed + 1000 * number + 2 * draw
                own = [drawn_anew(one, design.counts, arms, at + k) for k, one in enumerate((train, unseen))]
                if draw == 0 and design.zero_inflation is None:
                    own = [train, unseen]  # as they were observed
                found.append(one_trial(design, own[0], own[1]))
        scores.append(averaged([one for one, _ in found], ["law"]).assign(design=design.name, trials=len(found)))
        of_cells.append(averaged([one for _, one in found], ["law", "arm", "gd", "female"]).assign(design=design.name))
        write_table(pd.concat(scores), out / "log_scores.csv")
        write_table(pd.concat(of_cells), out / "cells.csv")


if __name__ == "__main__":
    main()
