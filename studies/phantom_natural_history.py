"""The phantom's patients against published natural history and the randomised effects of the trials they are made after.

Observed rate ratios compare the randomised arms of one trial at week 96, as the trial itself would; the other rows are
of potential outcomes of every patient under every arm. Intervals from resampling patients.

    python -m studies.phantom_natural_history --out results [--design pooled-2131] [--patients 2131] [--seed 1]
"""

from pathlib import Path

import click
import numpy as np
import pandas as pd

import causalms as cms
from causalms.tables import write_table
from studies.common import out_option, seed_option

PLACEBO, SC = "placebo", "interferon-beta-1a-sc"
COLUMNS = ["trial", "arm", "age", "gd_lesions", "t2_volume_ml", "net2_lesions_week96"]


def quantities(wide: pd.DataFrame) -> dict[str, float]:
    """Numbers that were published; ``wide`` has a row a patient, counts in columns arm@week."""
    trial = {name: wide["trial"] == name for name in wide["trial"].unique()}
    young, middle, old = wide["age"] < 40, wide["age"].between(40, 50), wide["age"] > 50
    active, enhancing = wide[f"{PLACEBO}@96"] > 0, wide["gd_lesions"] > 0

    def ratio(name: str, arm: str, reference: str) -> float:
        return wide.loc[trial[name], f"{arm}@96"].mean() / wide.loc[trial[name], f"{reference}@96"].mean()

    def observed(name: str, arm: str, reference: str) -> float:
        means = wide[trial[name]].groupby("arm")["net2_lesions_week96"].mean()
        return means[arm] / means[reference]

    def odds(event: pd.Series, group: pd.Series) -> float:
        share, base = event[group].mean(), event[young].mean()
        return share / (1 - share) / (base / (1 - base))

    define = wide[trial["DEFINE"]]
    return {
        "observed rate ratio ocrelizumab / interferon SC, OPERA I": observed("OPERA-I", "ocrelizumab", SC),
        "observed rate ratio ocrelizumab / interferon SC, OPERA II": observed("OPERA-II", "ocrelizumab", SC),
        "observed rate ratio dimethyl fumarate / placebo, DEFINE": observed("DEFINE", "dimethyl-fumarate", PLACEBO),
        "observed rate ratio laquinimod / placebo, BRAVO": observed("BRAVO", "laquinimod", PLACEBO),
        "rate ratio ocrelizumab / interferon SC, OPERA I": ratio("OPERA-I", "ocrelizumab", SC),
        "rate ratio ocrelizumab / interferon SC, OPERA II": ratio("OPERA-II", "ocrelizumab", SC),
        "rate ratio dimethyl fumarate / placebo, DEFINE": ratio("DEFINE", "dimethyl-fumarate", PLACEBO),
        "rate ratio laquinimod / placebo, BRAVO": ratio("BRAVO", "laquinimod", PLACEBO),
        "mean NET2 on placebo, DEFINE": define[f"{PLACEBO}@96"].mean(),
        "mean NET2 on dimethyl fumarate, DEFINE": define["dimethyl-fumarate@96"].mean(),
        "% free of NET2 on placebo, DEFINE": 100 * (define[f"{PLACEBO}@96"] == 0).mean(),
        "% free of NET2 on dimethyl fumarate, DEFINE": 100 * (define["dimethyl-fumarate@96"] == 0).mean(),
        "% free of new T2 on placebo, 24 weeks": 100 * (wide[f"{PLACEBO}@24"] == 0).mean(),
        "% free of new T2 on placebo, 96 weeks": 100 * (~active).mean(),
        "% with enhancing lesions at baseline": 100 * enhancing.mean(),
        "mean T2 volume at baseline, mL, DEFINE": define["t2_volume_ml"].mean(),
        "SD of T2 volume at baseline, mL, DEFINE": define["t2_volume_ml"].std(),
        "odds ratio of NET2, age 40-50 / under 40": odds(active, middle),
        "odds ratio of NET2, age over 50 / under 40": odds(active, old),
        "odds ratio of enhancement, age 40-50 / under 40": odds(enhancing, middle),
        "odds ratio of enhancement, age over 50 / under 40": odds(enhancing, old),
    }


PUBLISHED = 2 * ["0.23", "0.17", "0.15", "0.835"]
PUBLISHED += ["17.0", "2.6", "27", "45", "39", "19 (12-25)"]
PUBLISHED += ["38-40", "7.7-8.7 (newly diagnosed)", "9.0-10.9 (newly diagnosed)"]
PUBLISHED += ["0.56 (0.47-0.67)", "0.49 (0.35-0.68)", "0.64 (0.45-0.90)", "0.60 (0.33-1.08)"]


@click.command()
@out_option
@click.option("--design", default="pooled-2131", show_default=True)
@click.option("--patients", default=2131, show_default=True)
@seed_option(1)
def main(out: Path, design: str, patients: int, seed: int) -> None:
    trial = cms.simulate_trial(design, patients, seed)
    wide = trial.truth.table.pivot(index="participant_id", columns=["arm", "visit_week"], values="true_lesions")
    wide.columns = [f"{arm}@{week}" for arm, week in wide.columns]
    wide = wide.join(trial.participants.set_index("participant_id")[COLUMNS])
    rng = np.random.default_rng(seed)
    draws = pd.DataFrame([quantities(wide.iloc[rng.integers(len(wide), size=len(wide))]) for _ in range(500)])
    table = pd.DataFrame({"quantity": draws.columns, "published": PUBLISHED, "phantom": quantities(wide).values()})
    table["lower"], table["upper"] = draws.quantile(0.025).to_numpy(), draws.quantile(0.975).to_numpy()
    write_table(table.round(3), out / "phantom_natural_history.csv")
    click.echo(table.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
