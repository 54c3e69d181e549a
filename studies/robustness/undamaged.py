"""The undamaged inputs: a small trial of two arms, its draws, its results, and what else a verb reads."""

from __future__ import annotations

import importlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from causalms.generator import config, train_generator
from causalms.trials import load_trial

#: Formats of every kind of table; the first is the commonest.
FORMATS = {
    "participants": ("csv", "tsv", "csv.gz", "xpt", "parquet", "xlsx", "dta", "sav"),
    "draws": ("csv", "parquet"),
    "results": ("csv", "parquet"),
    "shard": ("csv",),
}
POLICY = "name: escalate\nrules:\n  - when: gd_lesions > 0\n    arm: drug\notherwise: placebo\n"
DESIGN = """name: two-arms
weeks: [24, 48]
rate_ratio: {placebo: 1.0, drug: 0.6}
counts: {size: 0.6}
trials:
  - name: A
    arms: {placebo: 1, drug: 1}
    log_rate_week96: 1.5
    sites: 2
"""
PLAN = """question_of_interest: Does the drug spare lesions?
context_of_use: A check of the software.
model_influence: {grade: low, why: It is a check.}
decision_consequence: {grade: low, why: It is a check.}
written: 2026-11-20
acceptance_criteria:
  - name: the ratio is below 1
    measure: rate ratio
    statistic: estimate
    at_most: 1
    why: A check.
"""


def participants(patients: int = 80) -> pd.DataFrame:
    """A trial of a placebo and a drug with the covariates that the verbs read."""
    random = np.random.default_rng(11)
    arm = np.array(["placebo", "drug"])[np.arange(patients) % 2]
    age = random.normal(40, 8, patients).round(1)
    frailty = random.gamma(1.5, 1 / 1.5, patients)
    counts = random.poisson(np.where(arm == "placebo", 3, 1.5) * np.exp(0.02 * (age - 40)) * frailty)
    columns = {
        "participant_id": [f"p{i:03d}" for i in range(patients)],
        "trial": "A",
        "arm": arm,
        "site": random.choice(["S1", "S2", "S3"], patients),
        "age": age,
        "sex": random.choice(["F", "M"], patients),
        "edss": random.integers(0, 13, patients) / 2,
        "relapses_prior_year": random.integers(0, 3, patients),
        "gd_lesions": random.poisson(1, patients),
        "t2_lesions": random.poisson(40, patients),
        "exposure_years": random.uniform(0.95, 1.1, patients).round(3),
        "net2_lesions_week48": counts,
    }
    return pd.DataFrame(columns)


def draws(people: pd.DataFrame, number: int = 4) -> pd.DataFrame:
    """A few draws of everybody under both arms."""
    random = np.random.default_rng(12)
    base = people[["participant_id", "trial"]].assign(arm_randomised=people["arm"])
    table = base.merge(pd.DataFrame({"arm": ["placebo", "drug"]}), how="cross").merge(
        pd.DataFrame({"draw": range(number)}), how="cross"
    )
    table["net2_lesions"] = random.poisson(np.where(table["arm"] == "placebo", 3, 1.5))
    return table.assign(visit_week=48, query="interventional", query_id="q1")


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table in the format of its suffix."""
    kind = path.name.partition(".")[2]
    if kind in ("csv", "csv.gz", "tsv"):
        table.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    elif kind == "parquet":
        table.to_parquet(path, index=False)
    elif kind == "xlsx":
        table.to_excel(path, index=False)
    elif kind == "dta":
        table.to_stata(path, write_index=False, version=118)
    else:
        import pyreadstat

        (pyreadstat.write_xport if kind == "xpt" else pyreadstat.write_sav)(table, str(path))


def mask_bytes() -> bytes:
    """A lesion mask of three lesions in the space of MNI152 at 4 mm."""
    grid = np.zeros((24, 28, 24), np.uint8)
    for corner in ((4, 4, 4), (12, 15, 10), (18, 20, 18)):
        grid[corner[0] : corner[0] + 2, corner[1] : corner[1] + 2, corner[2]] = 1
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (-48, -66, -40)
    image = nibabel.Nifti1Image(grid, affine)
    image.set_sform(affine, 4)
    image.set_qform(affine, 4)
    return image.to_bytes()


def interrupted_training(trial: Path, out: Path) -> None:
    """Leave what a training run leaves that is killed after its first stage, in a process of its own."""
    process = os.fork()
    if not process:
        loop = importlib.import_module("causalms.generator.train.loop")
        save = loop.save_run

        def save_and_die(*run: object) -> None:
            save(*run)
            os._exit(0)

        loop.save_run = save_and_die  # type: ignore[attr-defined]
        try:
            model, recipe = config("tiny")
            train_generator(load_trial(trial), out, model, recipe)
        finally:
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
        raise RuntimeError(f"{trial}: no training to interrupt")


@dataclass(frozen=True)
class Bed:
    """Where the undamaged inputs lie."""

    folder: Path
    with_trial: bool

    def place(self, kind: str, form: str) -> Path:
        """The undamaged input of a kind and format."""
        return self.folder / f"{kind}.{form}" if form else self.folder / kind


def make_bed(folder: Path, trial: Path | None, results: pd.DataFrame) -> Bed:
    """Write every undamaged input once."""
    people = participants()
    tables = {"participants": people, "draws": draws(people), "results": results}
    for kind, table in tables.items():
        for form in FORMATS[kind]:
            write(table, folder / f"{kind}.{form}")
    others = people.assign(participant_id=[f"other-{number}" for number in range(len(people))], age=people["age"] + 1)
    write(others, folder / "controls.csv")
    for name, text in (("policy", POLICY), ("design", DESIGN), ("plan", PLAN)):
        (folder / f"{name}.yaml").write_text(text)
    (folder / "mask.nii").write_bytes(mask_bytes())
    reference = Path(__import__("causalms").__file__).parent / "generator" / "reference.safetensors"
    shutil.copy(reference, folder / "shipped.safetensors")
    if trial is not None:
        shutil.copytree(trial, folder / "trial")
        shutil.copy(trial.with_name("model.safetensors"), folder / "checkpoint.safetensors")
        shutil.copy(trial.with_name("killed.resume.safetensors"), folder / "run.resume.safetensors")
    return Bed(folder, trial is not None)
