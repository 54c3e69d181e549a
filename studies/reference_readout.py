"""The shipped checkpoint's counts: its first stage fitted again, to more patients than its encoder learned from.

Places and masks are learned from 12,000 patients in an hour of one core.  Counts of so many leave an error of .04 in the level
of an arm, and a rate ratio has two of them; reading a patient's columns and signals costs a tenth of a second and no training.

python -m studies.reference_readout --model trained.safetensors --parts parts --out readout.safetensors
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from causalms.generator import Generator
from causalms.generator.train.count_law import log_sizes
from causalms.generator.train.cross_fitting import first_stage_data, folds_of
from causalms.generator.train.first_stage import fit_first_stage, write_first_stage
from causalms.phantom import load_design
from causalms.tables import write_table
from studies.common import model_option, out_option, seed_option, workers_option
from studies.learning_curve import MORE, TEST, TRAINING, WEEK, Arrays, part_of, together

#: Seeds and patients of the trials that are read; none is the training trial or one of those that judge.
TRIALS = (*((seed, 2131) for seed in TRAINING), *((seed, 9869) for seed in (*MORE, 4014, 4015)))
FOLDS = 5


def refit(generator: Generator, patients: Arrays, seed: int) -> np.ndarray:
    """Give the generator's network the first stage of these patients; the levels' standard errors (arms,).

    Levels rise to the mean of the posterior, and the size of counts is that of cross-fitted means, as at the end of a training.
    """
    network, arms = generator.network, len(generator.arms)
    week = WEEK * np.exp(patients["log_share"])
    data = first_stage_data(network, patients["columns"], patients["signals"], patients["counts"], patients["arm"], week)
    whole = fit_first_stage(data, arms)
    log_mean, half = np.empty(len(week)), whole.variance(data) / 2
    for rows in tqdm(folds_of(data.arm, FOLDS, seed), desc="cross-fitting", unit="fold", disable=None):
        others = np.setdiff1d(np.arange(len(week)), rows)
        log_mean[rows] = fit_first_stage(data.rows(others), arms, like=whole).log_mean(data.rows(rows))
    write_first_stage(network, whole)
    shift = np.array([half[data.arm == arm].mean() for arm in range(arms)])
    sizes = log_sizes(data.counts, log_mean + shift[data.arm], data.arm, arms)
    with torch.no_grad():
        network.risk.effect.add_(torch.from_numpy(shift))
        network.risk.log_size_arm.add_(torch.from_numpy(sizes - np.log(whole.size)))
    return np.asarray(np.sqrt(np.diag(whole.covariance)[:arms]))


@torch.no_grad()
def log_expected(generator: Generator, patients: Arrays) -> np.ndarray:
    """Log expected counts (n, arms) at the last week."""
    network, week = generator.network, torch.full((len(patients["counts"]),), float(WEEK))
    columns, signals = (torch.from_numpy(patients[name]).float() for name in ("columns", "signals"))
    standard, features = network.standardise(columns, signals)
    state, rate = network.encoder.state_and_rate(standard, features, lambda: standard)
    arms = (torch.full_like(week, arm, dtype=torch.long) for arm in range(len(generator.arms)))
    return np.column_stack([network.risk.log_expected_count(rate, state, arm, week).double().numpy() for arm in arms])


def against_truth(generator: Generator, test: Arrays, level_se: np.ndarray) -> pd.DataFrame:
    """Expected counts of unseen patients over the true ones, and R2 of the log rate, arm by arm."""
    own, true = log_expected(generator, test), test["log_rate"]
    return pd.DataFrame(
        {
            "arm": generator.arms,
            "level_se": level_se,
            "expected_over_true": np.exp(own).mean(axis=0) / np.exp(true).mean(axis=0),
            "r2": 1 - (own - true).var(axis=0) / true.var(axis=0),
        }
    )


def read(design: str, jobs: tuple[tuple[int, int], ...], parts: Path, workers: int, arms: tuple[str, ...]) -> Arrays:
    """Patients of simulated trials, their arms at the positions that a generator has them at."""
    made = Parallel(n_jobs=workers, return_as="generator")(delayed(part_of)(design, *job, parts) for job in jobs)
    patients = together(
        [dict(np.load(place, allow_pickle=False)) for place in tqdm(made, total=len(jobs), unit="trial", disable=None)]
    )
    order = [load_design(design).arms.index(arm) for arm in arms]
    return {**patients, "arm": np.argsort(order)[patients["arm"]], "log_rate": patients["log_rate"][:, order]}


@click.command()
@out_option
@model_option()
@click.option("--design", default="lifelike", show_default=True)
@click.option("--parts", type=click.Path(path_type=Path), required=True, help="Folder of what was read; a killed run goes on.")
@seed_option(0)
@workers_option()
def main(out: Path, model: str, design: str, parts: Path, seed: int, workers: int) -> None:
    """Write the checkpoint with its counts fitted again, and what unseen patients say of them."""
    parts.mkdir(parents=True, exist_ok=True)
    generator = Generator.load(model)
    patients = read(design, TRIALS, parts, workers, generator.arms)
    level_se = refit(generator, patients, seed)
    generator.header["patients_of_counts"] = len(patients["counts"])
    generator.save(out)
    table = against_truth(generator, read(design, ((TEST, 500),), parts, 1, generator.arms), level_se)
    write_table(table.assign(patients=len(patients["counts"]), seed=seed), out.with_suffix(".csv"))
    click.echo(table.round(3).to_string(index=False))
    click.echo(f"{out}: {len(patients['counts']):,} patients, checksum {Generator.load(out).checksum}")


if __name__ == "__main__":
    main()
