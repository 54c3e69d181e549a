"""A trial without any true interaction: how often interaction tests reject, and what shrinkage leaves of subgroup effects.

Counts are negative binomial (variance m + 2 m^2); the rate ratio is 0.4 in every patient while the factors change the risk.

python -m studies.interaction_level --out results --repetitions 1000 --shrinkage-repetitions 40
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy import stats

from causalms.errors import ConvergenceError, RefusalError
from causalms.stats import adjusted_p_values
from causalms.subgroups import ShrinkageModel, forest, interaction_test, shrink
from causalms.tables import write_table
from studies.common import out_option, seed_option

SIZE, RATIO = 0.5, 0.4
FACTORS = {"gd": 2, "age": 2, "sex": 2, "region": 3}
ANALYSIS = {"outcome": "lesions", "reference": "placebo"}


def made(patients: int, rng: np.random.Generator, modification: float = 1.0) -> pd.DataFrame:
    """A trial; ``modification`` multiplies the rate ratio of patients with enhancing lesions."""
    people = pd.DataFrame({name: rng.integers(levels, size=patients) for name, levels in FACTORS.items()})
    people["arm"] = rng.permutation(np.repeat(["placebo", "drug"], patients // 2))
    mean = 4 * np.exp(0.5 * people["gd"] - 0.3 * people["age"])
    mean = mean * np.where(people["arm"] == "drug", RATIO * modification ** people["gd"], 1.0)
    return people.assign(lesions=rng.negative_binomial(SIZE, SIZE / (SIZE + mean)))


def p_value(people: pd.DataFrame, factor: str) -> float:
    """Interaction test of one factor, as a forest makes it: each subgroup a trial of its own, then Welch's test.

    The contrast of two arm means and its leave-one-out variance are written out, which is 50 times as fast as an analysis;
    ``levels`` compares both on its first trial.
    """
    effects, ses, degrees = [], [], []
    lesions, drug = people["lesions"].to_numpy(float), (people["arm"] == "drug").to_numpy()
    for group in range(FACTORS[factor]):
        inside = (people[factor] == group).to_numpy()
        arms = [lesions[inside & side] for side in (~drug, drug)]
        means = [arm.mean() for arm in arms]
        if min(means) == 0:
            return np.nan  # a subgroup without events in an arm
        effects.append(np.log(means[1] / means[0]))
        left_out = [arm.var(ddof=1) * len(arm) / (len(arm) - 1) ** 2 for arm in arms]
        ses.append(np.sqrt(sum(variance / mean**2 for variance, mean in zip(left_out, means, strict=True))))
        degrees.append(inside.sum() - 2.0)
    return interaction_test(np.array(effects), np.array(ses), np.array(degrees)).p_value


def levels(patients: int, repetitions: int, seed: int) -> list[dict[str, object]]:
    """Share of trials rejected at 5%: two groups, three groups, and any of four factors after Holm."""
    rejected, lost = np.zeros(3), 0
    for number in range(repetitions):
        people = made(patients, np.random.default_rng([seed, patients, number]))
        p = np.array([p_value(people, factor) for factor in FACTORS])
        if number == 0:
            table = forest(people, list(FACTORS), **ANALYSIS).table.drop_duplicates("factor").iloc[1:]
            np.testing.assert_allclose(p, table["interaction_p"], rtol=1e-6)
        if np.isnan(p).any():
            lost += 1
            continue
        rejected += [p[0] <= 0.05, p[3] <= 0.05, adjusted_p_values(p, missing="keep").min() <= 0.05]
    tests = ("two groups", "three groups", "any of four factors, Holm")
    used = repetitions - lost
    return [
        {
            "what": "interaction test",
            "case": test,
            "patients": patients,
            "repetitions": used,
            "share": count / used,
            "share_mcse": float(np.sqrt(count / used * (1 - count / used) / used)),
        }
        for test, count in zip(tests, rejected, strict=True)
    ]


def collapse(prior: str, patients: int, repetitions: int, seed: int, modification: float) -> list[dict[str, object]]:
    """Spread of subgroup effects about the overall effect: shrunken over raw, and coverage of the shrunken intervals."""
    spread, held, seconds = [], [], time.process_time()
    for number in range(repetitions):
        people = made(patients, np.random.default_rng([seed, patients, number]), modification)
        factors = list(FACTORS)
        try:
            shrunk = shrink(people, factors, model=ShrinkageModel(prior, draws=300, warmup=200), **ANALYSIS).table
            raw = forest(people, factors, **ANALYSIS).table
        except (RefusalError, ConvergenceError):
            continue
        apart = [np.log(table["estimate"].iloc[1:] / table["estimate"].iloc[0]).abs().mean() for table in (shrunk, raw)]
        spread.append(apart[0] / apart[1])
        lines = shrunk.set_index("subgroup").loc[[f"gd = {level}" for level in (0, 1)]]
        true = RATIO * modification ** np.arange(2)
        held.append(((lines["lower"] <= true) & (true <= lines["upper"])).mean())
    common = {"patients": patients, "repetitions": len(spread), "seconds_each": (time.process_time() - seconds) / repetitions}
    case = f"{prior}, {'no interaction' if modification == 1 else f'ratio of rate ratios {modification:g}'}"
    return [
        {
            "what": what,
            "case": case,
            **common,
            "share": np.mean(values),
            "share_mcse": stats.sem(values) if len(values) > 1 else np.nan,
        }
        for what, values in (("distance from the overall effect, shrunken / raw", spread), ("coverage of gd subgroups", held))
    ]


@click.command()
@out_option
@click.option("--repetitions", default=1000, show_default=True)
@click.option("--shrinkage-repetitions", default=40, show_default=True, help="0 leaves shrinkage out.")
@seed_option(17)
def main(out: Path, repetitions: int, shrinkage_repetitions: int, seed: int) -> None:
    """Write interaction_level.csv."""
    rows: list[dict[str, object]] = []

    def add(more: list[dict[str, object]]) -> None:
        rows.extend({**row, "seed": seed} for row in more)
        write_table(pd.DataFrame(rows).round(4), out / "interaction_level.csv")
        print(pd.DataFrame(more).round(3).to_string(index=False, header=False), flush=True)

    for patients in (200, 400, 800):
        add(levels(patients, repetitions, seed))
    for prior in ("half-normal", "horseshoe") if shrinkage_repetitions else ():
        add(collapse(prior, 600, shrinkage_repetitions, seed, 1.0))
        add(collapse(prior, 600, shrinkage_repetitions, seed, 3.0))


if __name__ == "__main__":
    main()
