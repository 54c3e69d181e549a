"""Bayesian shrinkage of subgroup effects in Pyro: the only file of the statistics that loads it, and only when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.errors import ConvergenceError, RefusalError, UsageError, named_arguments, optional_packages
from causalms.stats import Array
from causalms.subgroups.global_model import GlobalModel, MainEffects
from causalms.subgroups.table import baseline_divisions, html_page, page
from causalms.tables import (
    ContrastPopulation,
    Grouping,
    ResultRow,
    as_frame,
    contrast_population,
    fixed,
    name_of,
    names_of,
    note_left_out,
    patient_order,
    results_table,
)

PRIORS = ("half-normal", "horseshoe")


@dataclass(frozen=True)
class ShrinkageModel:
    """Prior of the deviations of subgroups, and the chain that samples their posterior.

    Attributes
    ----------
    prior : {"half-normal", "horseshoe"}
    scale : float
        Of deviations on the log scale; 0.35 makes a deviation by a factor above 2 in a subgroup a rarity beforehand.
    draws, warmup : int
        Of one NUTS chain.
    seed : int
    progress : bool
        Show Pyro's progress bar on standard error.
    """

    prior: str = "half-normal"
    scale: float = 0.35
    draws: int = 1000
    warmup: int = 500
    seed: int = 0
    progress: bool = False

    def __post_init__(self) -> None:
        """Refuse a prior that is not known, and a scale that is none."""
        if self.prior not in PRIORS:
            raise UsageError(f"`prior`: found {self.prior!r}, expected {' or '.join(PRIORS)}")
        if not self.scale > 0:
            raise UsageError(f"`scale`: found {name_of(self.scale)}, expected a number above 0 such as 0.35")


@dataclass(frozen=True, repr=False)
class Shrinkage:
    """Shrunken subgroup effects; printed, they are the page of ``causalms subgroups``.

    Attributes
    ----------
    table : DataFrame
        As the table of :class:`causalms.subgroups.Forest`, with ``source`` = shrinkage; ``estimate`` is the posterior median.
    results : DataFrame
        The same in the schema of the results table.
    draws : DataFrame
        Posterior draws of the logarithm of every standardised subgroup effect, one column a subgroup, of each arm.
    diagnostics : DataFrame
        Of the scales: ``arm``, ``worst_r_hat``, ``least_effective_draws``, ``divergences``.
    """

    table: pd.DataFrame
    results: pd.DataFrame
    draws: pd.DataFrame
    diagnostics: pd.DataFrame

    def __repr__(self) -> str:
        """The page that the command line prints."""
        return page(self.table)

    def _repr_html_(self) -> str:
        return html_page(self.results, repr(self))


@named_arguments
def shrink(
    people: Any,
    by: Sequence[str],
    *,
    outcome: str,
    reference: str,
    arm: str = "arm",
    exposure: str | None = None,
    more: MainEffects = MainEffects(),
    model: ShrinkageModel | None = None,
    level: float = 0.95,
) -> Shrinkage:
    r"""Subgroup rate ratios from one global model whose treatment interactions are shrunk towards none.

    A negative-binomial regression with every factor's main effect and its interaction with treatment is fitted by maximum
    likelihood.  Its treatment coefficients :math:`\hat\gamma`, with their HC3 covariance :math:`V`, are the data of the model

    .. math::
        \hat\gamma \sim N(A b, V), \quad b = (\beta, \delta_{11}, \delta_{12}, \ldots), \quad \beta \sim N(0, 2.5^2),

    in which every level of every factor has its own deviation :math:`\delta` (no level is the reference; :math:`A` turns
    them into the fitted coding).  ``half-normal``: :math:`\delta \sim N(0, \tau^2)`, :math:`\tau \sim N^+(0, scale^2)`.
    ``horseshoe``: the regularised horseshoe with global scale 0.3 scale and a slab of four degrees of freedom and scale 1.
    Effects are standardised: a subgroup's rate ratio averages over the other factors as they occur in its patients,
    :math:`\theta_g = \log \sum_{i \in g} w_i e^{\beta + \sum_f \delta_{f(i)}} - \log \sum_{i \in g} w_i`, with :math:`w_i` the
    fitted rate under the reference.

    Parameters
    ----------
    people : DataFrame, or path
        One row a patient.
    by : sequence of str
        Prespecified factors, as for :func:`causalms.subgroups.forest`; patients of no group in any of them are left out.
    outcome, reference, arm, exposure : str
    more : MainEffects
        Covariates and strata as main effects of the global model, clusters (their CR3 covariance is then V).
    model : ShrinkageModel, optional
        Prior of the deviations, and the chain that samples the posterior.
    level : float
        Of the credible intervals (equal tails).

    Returns
    -------
    Shrinkage

    Raises
    ------
    RefusalError
        If a subgroup has no event in an arm, so that the global model has no finite fit.
    ConvergenceError
        If the chain did not mix (split R-hat above 1.05).

    References
    ----------
    Wolbers et al. (2025), Stat Biopharm Res (bonsaiforest2).  Piironen, Vehtari (2017), Electron J Stat 11:5018.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> people = pd.DataFrame({"arm": ["a", "b"] * 60, "age": rng.uniform(20, 60, 120), "lesions": rng.poisson(2, 120)})
    >>> chain = ShrinkageModel(draws=300, warmup=200)
    >>> shrunken = shrink(people, ["age >= 40"], outcome="lesions", reference="a", model=chain)
    >>> list(shrunken.table["subgroup"])
    ['all', 'age >= 40', 'age < 40']
    """
    people, model = as_frame(people), model or ShrinkageModel()
    people = people.iloc[patient_order(people)].reset_index(drop=True)  # a chain remembers the last digit
    factors = baseline_divisions(people, by, arm=arm, outcome=outcome)
    complete = np.all([factor.labels != "" for factor in factors], axis=0)
    needed = [outcome, arm, *([exposure] if exposure else []), *more.needed(people, arm, outcome)]
    complete &= people[needed].notna().all(axis=1).to_numpy()
    missing = {name: int(people[name].isna().sum()) for name in needed}
    missing |= {factor.name: factor.missing for factor in factors}
    note_left_out(int((~complete).sum()), len(people), missing, "shrinkage")
    others = [name for name in sorted(names_of(people.loc[complete, arm]).dropna().unique()) if name != reference]
    if reference not in set(names_of(people.loc[complete, arm])) or not others:
        raise RefusalError(
            f"column {arm!r}: needs {reference!r} and another arm among the {int(complete.sum())} complete patients"
        )
    tables, kept, checks = [], [], []
    for number, other in enumerate(others):
        rows, population = _compared(people, complete, arm, other, reference)
        part = GlobalModel.of(people[rows], [_cut(factor, rows) for factor in factors], outcome, arm, other, exposure, more)
        posterior, check = _sample(part, replace(model, seed=model.seed + number))
        effects = part.standardised(posterior)
        tables.append(
            _lines(part, effects, (other, reference), level, model.prior, more).assign(
                randomised=population.randomised, population=f"{population.words} with complete data"
            )
        )
        kept.append(pd.DataFrame(effects, columns=part.names).assign(arm=other))
        checks.append({"arm": other, **check})
    table = pd.concat(tables, ignore_index=True)
    return Shrinkage(table, _results(table), pd.concat(kept, ignore_index=True), pd.DataFrame(checks))


def _compared(
    people: pd.DataFrame, complete: NDArray[np.bool_], arm: str, other: str, reference: str
) -> tuple[NDArray[np.bool_], ContrastPopulation]:
    """Complete patients of the two arms of a contrast, and its population."""
    population = contrast_population(people[complete], other, reference, arm_column=arm)
    rows = complete & names_of(people[arm]).isin([reference, other]).to_numpy()
    rows[complete] &= population.included
    return rows, population


def _cut(factor: Grouping, rows: NDArray[np.bool_]) -> Grouping:
    return Grouping(factor.name, factor.labels[rows], factor.groups)


@optional_packages()
def _sample(part: GlobalModel, chosen: ShrinkageModel) -> tuple[Array, dict[str, float]]:
    """One NUTS chain over the scales of the deviations, then exact Gaussian draws of the coefficients given them.

    Coefficients are integrated out of the sampled model, because given the scales everything is Gaussian: what is left has
    no funnel and few dimensions.
    """
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer import MCMC, NUTS

    estimate, noise, coding = (torch.tensor(x) for x in (part.estimate, part.covariance, part.coding))
    count = part.coding.shape[1] - 1
    one = torch.tensor(1.0, dtype=torch.float64)

    def prior_variances() -> Any:
        if chosen.prior == "half-normal":
            variances = (pyro.sample("spread", dist.HalfNormal(chosen.scale * one)) ** 2).expand(count)
        else:
            wide = pyro.sample("global", dist.HalfCauchy(0.3 * chosen.scale * one))
            local = pyro.sample("local", dist.HalfCauchy(torch.ones(count).double()).to_event(1))
            slab = pyro.sample("slab", dist.InverseGamma(2 * one, 2 * one))
            heavy = (wide * local) ** 2
            variances = slab * heavy / (slab + heavy)
        return pyro.deterministic("variances", torch.cat([6.25 * one[None], variances]))

    def model() -> None:
        covariance = coding @ (prior_variances()[:, None] * coding.T) + noise
        pyro.sample("fitted", dist.MultivariateNormal(torch.zeros_like(estimate), covariance), obs=estimate)

    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(chosen.seed)
        torch.set_num_threads(1)
        try:
            kernel = NUTS(model, target_accept_prob=0.95, jit_compile=True, ignore_jit_warnings=True)
            chain = MCMC(kernel, num_samples=chosen.draws, warmup_steps=chosen.warmup, disable_progbar=not chosen.progress)
            chain.run()
            samples = chain.get_samples()
            divergent = len(chain.diagnostics()["divergences"]["chain 0"])
            predictive = pyro.infer.Predictive(model, posterior_samples=samples, return_sites=["variances"])()["variances"]
        finally:
            torch.set_num_threads(threads)
    variances = predictive.reshape(chosen.draws, -1).numpy()
    return _coefficients(part, variances, np.random.default_rng(chosen.seed)), _mixing(variances[:, 1:], divergent)


def _coefficients(part: GlobalModel, variances: Array, rng: np.random.Generator) -> Array:
    """Exact draws of the coefficients given the fit and each draw of the prior variances; shape (draws, 1 + levels)."""
    gain = variances[:, :, None] * part.coding.T  # (draws, b, gamma)
    total = part.coding @ gain + part.covariance
    weight = np.linalg.solve(total, np.swapaxes(gain, 1, 2))  # (draws, gamma, b)
    prior_draw = np.sqrt(variances) * rng.standard_normal(variances.shape)
    noise = rng.standard_normal((len(variances), len(part.estimate))) @ np.linalg.cholesky(part.covariance).T
    # Matheron's rule: a prior draw, moved by what it and a noise draw miss of the fitted coefficients.
    missed = part.estimate - prior_draw @ part.coding.T - noise
    return np.asarray(prior_draw + np.einsum("dg,dgb->db", missed, weight))


def _mixing(variances: Array, divergent: int) -> dict[str, float]:
    import torch
    from pyro.ops.stats import effective_sample_size, split_gelman_rubin

    logs = torch.tensor(np.log(variances + 1e-300))[None]
    worst = float(split_gelman_rubin(logs, chain_dim=0, sample_dim=1).max())
    least = float(effective_sample_size(logs, chain_dim=0, sample_dim=1).min())
    if not worst < 1.05:
        raise ConvergenceError(
            f"shrinkage: the chain did not mix (R-hat {fixed(worst, 2)}, not below 1.05); take more draws and warm-up"
        )
    return {"worst_r_hat": worst, "least_effective_draws": least, "divergences": divergent}


def _lines(part: GlobalModel, effects: Array, arms: tuple[str, str], level: float, prior: str, more: MainEffects) -> pd.DataFrame:
    tail = (1 - level) / 2
    low, middle, high = np.exp(np.quantile(effects, [tail, 0.5, 1 - tail], axis=0))
    described = f"global negative-binomial model, {prior} shrinkage of interactions, standardised"
    clustered = f"; clusters {more.cluster} (CR3)" if more.cluster else ""
    factor_of = ["all", *(factor.name for factor in part.factors for _ in factor.groups)]
    rows = []
    for number, (name, member) in enumerate(zip(part.names, part.members(), strict=True)):
        mine, theirs = member & (part.treated == 1), member & (part.treated == 0)
        rows.append(
            {
                "source": "shrinkage",
                "factor": factor_of[number],
                "subgroup": name,
                "arm": arms[0],
                "reference": arms[1],
                "measure": "rate ratio",
                "estimator": "; ".join(filter(None, (described, more.words))),
                "variance": "posterior, equal tails (Pyro, NUTS)" + clustered,
                "estimate": middle[number],
                "se": float(effects[:, number].std(ddof=1)),
                "lower": low[number],
                "upper": high[number],
                "level": level,
                "n": int(mine.sum()),
                "n_reference": int(theirs.sum()),
                "events": part.events[mine].sum(),
                "events_reference": part.events[theirs].sum(),
            }
        )
    return pd.DataFrame(rows)


def _results(table: pd.DataFrame) -> pd.DataFrame:
    keys = ("population", "subgroup", "arm", "reference", "measure", "estimator", "variance", "estimate", "se", "lower", "upper")
    return results_table(
        ResultRow(
            analysis="shrunken effect by subgroup",
            estimand=f"rate ratio of {line['arm']} against {line['reference']} in {line['subgroup']}",
            se_patient=line["se"],
            randomised=line["randomised"],
            rung=2,
            **{key: line[key] for key in (*keys, "level", "n", "n_reference")},
        )
        for line in table.to_dict("records")
    )
