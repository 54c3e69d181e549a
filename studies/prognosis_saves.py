"""What the generator's prognosis saves in trials of phantom patients, what a scrambled one costs, and if planned power is had.

A population of new phantom patients carries the generator's expected counts under both arms and both true potential counts.
Trials are drawn from it with replacement, randomised, and analysed without and with the prognosis (one score an arm), right or
scrambled over the patients.  The truth is the population's own ratio of mean counts.

    python -m studies.prognosis_saves --out results [--patients 600] [--trials 2000] [--seed 31]
"""

from pathlib import Path

import click
import numpy as np
import pandas as pd

import causalms as cms
from causalms.causal import Running
from causalms.effects import Method, Planning, analyse, prospective_power, sample_size, savings
from causalms.tables import write_table
from studies.common import ARMS, model_option, out_option, seed_option, workers_option

WEEK = 48.0
REFERENCE = "placebo"


def population(patients: int, seed: int, model: str, workers: int, arm: str) -> pd.DataFrame:
    """New phantom patients with expected counts ``under_reference``, ``under_arm`` and potential counts ``y0``, ``y1``."""
    trial = cms.simulate_trial("pooled", patients=patients, seed=seed)
    expected = cms.CausalModel.load(model).do(
        trial, arm=[REFERENCE, arm], week=WEEK, expected=True, running=Running(workers=workers)
    )
    scores = expected.pivot(index="participant_id", columns="arm", values="expected_net2_lesions")
    truth = trial.truth.table.query("visit_week == @WEEK").pivot(index="participant_id", columns="arm", values="true_lesions")
    truth = truth.loc[scores.index]
    return pd.DataFrame(
        {"under_reference": scores[REFERENCE], "under_arm": scores[arm], "y0": truth[REFERENCE], "y1": truth[arm]}
    ).reset_index(drop=True)


def one_trial(people: pd.DataFrame, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """A trial of n patients an arm, with the prognosis right and scrambled."""
    drawn = people.iloc[rng.integers(0, len(people), 2 * n)].reset_index(drop=True)
    treated = rng.permutation(np.repeat([False, True], n))
    scrambled = drawn[["under_reference", "under_arm"]].to_numpy()[rng.permutation(2 * n)]
    y = np.where(treated, drawn["y1"], drawn["y0"])
    arm = np.where(treated, "arm", "reference")
    return drawn.assign(y=y, arm=arm, scrambled_reference=scrambled[:, 0], scrambled_arm=scrambled[:, 1])


PROGNOSES = {
    "none": (),
    "generator, per arm": ("under_reference", "under_arm"),
    "scrambled": ("scrambled_reference", "scrambled_arm"),
}


def planned(people: pd.DataFrame) -> dict[str, float]:
    """Rate, ratio and dispersion of the population, as a planner would know them.

    The variance of a mean of counts is that of the formula with each arm's own dispersion; the plan takes one: the mean of both.
    """
    means, variances = people[["y0", "y1"]].mean(), people[["y0", "y1"]].var()
    dispersion = float(((variances - means) / means**2).mean())
    return {"rate": float(means["y0"]), "ratio": float(means["y1"] / means["y0"]), "dispersion": dispersion}


def results(people: pd.DataFrame, trials: int, n: int, seed: int) -> pd.DataFrame:
    """One row a prognosis: bias, coverage, power, planned power, patients at equal power with their interval."""
    rng, plan = np.random.default_rng(seed), planned(people)
    truth = float(np.log(plan["ratio"]))
    values: dict[str, list[tuple[float, float, bool, bool, float]]] = {name: [] for name in PROGNOSES}
    for _ in range(trials):
        table = one_trial(people, n, rng)
        for name, columns in PROGNOSES.items():
            analysis = analyse(table, outcome="y", reference="reference", method=Method(prognostic=columns))
            contrast = analysis.contrasts[0]
            low, high = np.log(contrast.lower), np.log(contrast.upper)
            left = savings(analysis)[0].variance_ratio if columns else 1.0
            values[name].append((np.log(contrast.estimate), contrast.se, low < truth < high, contrast.upper < 1, left))
    crude = np.array([row[0] for row in values["none"]])
    rows = []
    for name, each in values.items():
        estimate, se, covered, claimed, left = (np.array(column, float) for column in zip(*each, strict=True))
        ratios = _bootstrapped_ratios(estimate, crude, seed)
        variance_ratio = float(np.median(left))
        power = prospective_power(n, variance_ratio=variance_ratio, planning=Planning(small_sample=True), **plan)
        needed = sample_size(power=0.9, variance_ratio=variance_ratio, **plan)[0]
        rows.append(
            {
                "prognosis": name,
                "n_per_arm": n,
                "bias": estimate.mean() - truth,
                "bias_mcse": estimate.std(ddof=1) / np.sqrt(trials),
                "coverage": covered.mean(),
                "power": claimed.mean(),
                "power_mcse": np.sqrt(claimed.mean() * (1 - claimed.mean()) / trials),
                "power_planned": power,
                "variance_ratio_stated": variance_ratio,
                "variance_ratio_had": estimate.var() / crude.var(),
                "patients_saved_percent": 100 * (1 - estimate.var() / crude.var()),
                "saved_lower": 100 * (1 - np.quantile(ratios, 0.975)),
                "saved_upper": 100 * (1 - np.quantile(ratios, 0.025)),
                "n_for_power_90": needed,
                "trials": trials,
                "seed": seed,
            }
        )
    return pd.DataFrame(rows)


def _bootstrapped_ratios(estimate: np.ndarray, crude: np.ndarray, seed: int) -> np.ndarray:
    """Ratios of the two variances over resampled trials, paired."""
    rows = np.random.default_rng(seed).integers(0, len(crude), (1000, len(crude)))
    return np.asarray(estimate[rows].var(axis=1) / crude[rows].var(axis=1))


@click.command()
@out_option
@model_option()
@click.option("--patients", default=600, show_default=True)
@click.option("--trials", default=2000, show_default=True)
@click.option("--per-arm", default=150, show_default=True)
@seed_option(31)
@workers_option()
def main(out: Path, model: str, patients: int, trials: int, per_arm: int, seed: int, workers: int) -> None:
    people = population(patients, seed, model, workers, ARMS[3])
    out.mkdir(parents=True, exist_ok=True)
    table = results(people, trials, per_arm, seed)
    write_table(table.round(4), out / "prognosis_saves.csv")
    click.echo(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
