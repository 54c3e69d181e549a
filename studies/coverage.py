"""Does the interval of a simulated rate ratio hold the truth? New in-design trials, expected-count path, shipped checkpoint.

python -m studies.coverage --parts parts --out studies/results

``parts`` is the folder that studies.reference_error_model fills: a new trial a file, with its true rates.  The error model is
fitted to the trials of one half and judged on those of the other, both ways, so that no trial is judged by an error model that
has seen it.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from causalms.effects import analyse_draws, given_model
from causalms.generator import Generator
from causalms.generator.error_of_counts import error_columns
from causalms.generator.train.held_out import HeldOut, fit_to_held_out
from causalms.stats import ErrorModel
from causalms.tables import MODEL_ERROR, ModelError, write_table
from studies.common import model_option, out_option
from studies.reference_error_model import together


def expected_table(unseen: HeldOut, generator: Generator, error: ErrorModel, trial: str) -> pd.DataFrame:
    """Expected counts of new patients under every arm at the last week, with the model's own error in every cell."""
    log_expected, columns = unseen.log_expected_at(generator.weeks[1]), error_columns(unseen.covariates)
    parts = []
    for arm, name in enumerate(generator.arms):
        loadings = error.loadings(log_expected, columns, arm)
        texts = [ModelError("judged", error.words, row, 0.0, 0.0).text() for row in loadings]
        table = pd.DataFrame({"participant_id": unseen.participant_id, "arm": name, MODEL_ERROR: texts})
        parts.append(table.assign(expected_net2_lesions=np.exp(log_expected[:, arm]), arm_randomised=generator.arms[0]))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(trial=trial, visit_week=generator.weeks[1], query="interventional", query_id=trial)


def judged_trials(places: list[Path], model: str) -> pd.DataFrame:
    """One row a trial, contrast and kind of interval: the log error, and whether the interval holds the true rate ratio."""
    generator = Generator.load(model)
    _, truth = together(places)
    true = np.exp(truth).mean(axis=0)
    rows = []
    for half in (0, 1):
        fitted_to, _ = together(places[half::2])
        error = fit_to_held_out(fitted_to, generator.arms, generator.network).about_zero()
        for place in tqdm(places[1 - half :: 2], desc=f"half {half}", unit="trial", disable=None):
            table = expected_table(together([place])[0], generator, error, place.stem)
            results = analyse_draws(table, reference=generator.arms[0])
            for kind, shown in (("three errors", results), ("given the model", given_model(results))):
                for row in shown.to_dict("records"):
                    ratio = true[generator.arms.index(row["arm"])] / true[0]
                    rows.append(
                        (row["arm"], kind, np.log(row["estimate"] / ratio), row["se"], row["lower"] <= ratio <= row["upper"])
                    )
    return pd.DataFrame(rows, columns=["arm", "interval", "log_error", "se", "covers"])


@click.command()
@out_option
@model_option()
@click.option("--parts", type=click.Path(path_type=Path, exists=True), required=True)
def main(out: Path, model: str, parts: Path) -> None:
    """Write coverage.csv: coverage of 95% intervals by contrast, with binomial Monte-Carlo errors."""
    places = sorted(parts.glob("*.npz"))
    trials = judged_trials(places, model)
    groups = trials.groupby(["interval", "arm"], sort=False)
    table = groups.agg(coverage=("covers", "mean"), mean_se=("se", "mean"), mean_log_error=("log_error", "mean"))
    table["trials"] = groups.size()
    table["coverage_se"] = np.sqrt(table["coverage"] * (1 - table["coverage"]) / table["trials"])
    table = table.reset_index().assign(patients_a_trial=len(together(places[:1])[0]), reference=Generator.load(model).arms[0])
    write_table(table, out / "coverage.csv")
    click.echo(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
