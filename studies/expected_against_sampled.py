"""Does one evaluation of the risk head give what sampled masks give?  Expected counts against means of sampled counts.

New phantom patients under every arm, week 96; each pair's mean with and without the expectation as control variate.

    python -m studies.expected_against_sampled --out results [--patients 10] [--draws 64] [--seed 64]
"""

from pathlib import Path

import click
import numpy as np
import pandas as pd

import causalms as cms
from causalms.causal import Running
from causalms.generator import controlled_means
from causalms.tables import write_table
from studies.common import model_option, out_option, seed_option, workers_option

WEEK = 96


def by_arm(pairs: pd.DataFrame) -> pd.DataFrame:
    """Mean sampled over mean expected count, pooled over patients, with Monte-Carlo errors; share of pairs within 3 of theirs.

    A patient's arms share their noise, so over all arms the errors of one patient are added, as if they always went together.
    """
    rows = []

    def error(part: pd.DataFrame, name: str) -> float:
        return float(np.sqrt((part.groupby("participant_id")[name].sum() ** 2).sum()))

    for arm, part in [*pairs.groupby("arm", sort=False), ("all arms", pairs)]:
        expected = part["expected_net2_lesions"].sum()
        inside = (part["plain"] - part["expected_net2_lesions"]).abs() <= 3 * part["se_plain"]
        rows.append(
            {
                "arm": arm,
                "pairs": len(part),
                "expected_mean": expected / len(part),
                "sampled_over_expected": part["plain"].sum() / expected,
                "se_sampled": error(part, "se_plain") / expected,
                "controlled_over_expected": part["controlled"].sum() / expected,
                "se_controlled": error(part, "se_controlled") / expected,
                "variance_factor": (part["se_plain"] ** 2).sum() / (part["se_controlled"] ** 2).sum(),
                "within_3_standard_errors": inside.mean(),
            }
        )
    return pd.DataFrame(rows)


@click.command()
@out_option
@model_option()
@click.option("--patients", default=10, show_default=True)
@click.option("--draws", default=64, show_default=True)
@seed_option(64)
@workers_option()
def main(out: Path, model: str, patients: int, draws: int, seed: int, workers: int) -> None:
    trial = cms.simulate_trial("lifelike", patients=patients, seed=seed)
    causal_model = cms.CausalModel.load(model)
    arms = list(causal_model.mechanism.arms)
    expected = causal_model.do(trial, arm=arms, week=WEEK, expected=True)
    sampled = causal_model.do(trial, arm=arms, week=WEEK, draws=draws, seed=seed, running=Running(workers, progress=True))
    pairs = controlled_means(sampled, expected, seed)
    table = by_arm(pairs).assign(draws=draws, model=causal_model.mechanism.checksum[:12])
    write_table(pairs.round(5), out / "expected_against_sampled_pairs.csv")
    write_table(table.round(4), out / "expected_against_sampled.csv")
    click.echo(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
