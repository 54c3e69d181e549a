"""Entrants of the open benchmark: image models trained on its frozen training trial, equal minutes each, and the built-in three.

python -m studies.benchmark_entrants --out /somewhere/benchmark            # trains, scores, and writes the leaderboard that ships

A checkpoint in OUT is loaded rather than trained anew; an entrant whose scores are in OUT is not scored again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch

from causalms.benchmark import ArmMeans, Checkpoint, ColumnRegression, FrozenTrials, frozen_trials, judge, score_entrant
from causalms.benchmark.score import known_outcomes
from causalms.generator import config, train_generator
from causalms.generator.inputs import patient_arrays
from causalms.generator.train.data import training_set
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial
from causalms.stats import CountLaw, DrawsLaw, NegativeBinomialLaw
from causalms.tables import write_table
from causalms.trials import Trial
from studies import baselines as b
from studies.common import ARMS, out_option

#: How each image baseline is trained, and of which class it is.
TRAINED: dict[str, tuple[Callable[..., Any], Any]] = {
    "risk_map": (b.train_risk_map, b.RiskMapForecaster),
    "count_network": (b.train_count_network, b.CountForecaster),
    "segmentation": (b.train_stochastic_segmentation, b.StochasticSegmentationForecaster),
    "lineage": (b.train_lineage, b.LineageForecaster),
}
#: Draws of a patient and arm that stand for the law of the counts, and how masks are drawn.
DRAWS = {"segmentation": 4, "lineage": 2}
SAMPLED: dict[str, dict[str, Any]] = {"lineage": {"steps": 16}, "segmentation": {"voxels": "drawn"}}
#: Scores of the counts of which differences between entrants are written.
PAIRED = ("CRPS", "log score", "Brier score of activity", "AUC of activity", "R2 of log rate", "PEHE")
RESULTS = Path(__file__).parent / "results" / "benchmark"
BOARD = Path(__file__).parents[1] / "causalms" / "benchmark" / "data" / "leaderboard.csv"


class BaselineEntrant:
    """A baseline of :mod:`studies.baselines` under the benchmark's protocol."""

    def __init__(self, name: str, folder: Path, minutes: float) -> None:
        self.key, self.file, self.minutes = name, folder / f"{name}.safetensors", minutes
        self.train, self.kind = TRAINED[name]
        self.name = self.kind.name
        self._scan: tuple[str, Any] = ("", None)
        if "place" in self.kind.capabilities:
            self.expected_map = self._expected_map
        if "masks" in self.kind.capabilities:
            self.masks = self._masks

    def fit(self, trial: Trial) -> None:
        """Train for the CPU minutes given, or load."""
        if not self.file.is_file():
            patients = training_set(trial, LesionRule.default())
            self.train(patients, ARMS, trial.space, seed=0, budget_minutes=self.minutes).save(self.file)
        self.model = self.kind.load(self.file)
        self.seconds = float(self.model.header["seconds"])
        self.parameters = self.model.parameters

    def counts(self, trial: Trial, arms: tuple[str, ...], week: float) -> CountLaw:
        """The model's law, or its draws where it has masks alone."""
        rows: list[tuple[float, ...]] = []
        for name in trial.participants["participant_id"]:
            scan = self._encoded(trial, name)
            for arm in arms:
                if "expect" in self.kind.capabilities:
                    law = self.model.expect(scan, arm, week)
                    rows.append((law.lesions, 1 / law.dispersion))
                else:
                    drawn = self._masks(trial, name, arm, week, DRAWS[self.key], 0)
                    rows.append(tuple(float(LesionRule.default().label(mask, 64.0).max()) for mask in drawn))
        table = np.array(rows)
        return NegativeBinomialLaw(table[:, 0], table[:, 1]) if "expect" in self.kind.capabilities else DrawsLaw(table)

    def _expected_map(self, trial: Trial, participant_id: str, arm: str, week: float) -> np.ndarray:
        return np.exp(self.model.log_place(self._encoded(trial, participant_id), arm))

    def _masks(self, trial: Trial, participant_id: str, arm: str, week: float, draws: int, seed: int) -> np.ndarray:
        scan, options = self._encoded(trial, participant_id), SAMPLED[self.key]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.key == "lineage"):
            return np.stack([self.model.sample(scan, arm, week, draw, seed, **options) for draw in range(draws)])

    def _encoded(self, trial: Trial, participant_id: str) -> Any:
        if self._scan[0] != participant_id:
            self._scan = (participant_id, self.model.encode_arrays(patient_arrays(trial, participant_id)))
        return self._scan[1]


class OwnEntrant(Checkpoint):
    """The generator of causalms, trained on the training trial alone.

    Its length is in steps, and not in minutes of the clock, so that the weights do not depend on what else the machine does.
    """

    def __init__(self, folder: Path, steps: tuple[int, int]) -> None:
        super().__init__(str(folder / "ours.safetensors"), "causalms, same patients")
        self.steps, self.note = steps, folder / "ours.seconds.txt"

    def fit(self, trial: Trial) -> None:
        """Train for the steps given, note the CPU seconds of all of it (error model and calibration too), or load."""
        if not self.note.is_file():
            model, recipe = config("small")
            places, shapes = self.steps
            recipe = replace(recipe, risk_steps=places, denoiser_steps=shapes, calibration_patients=10)
            begin = time.process_time()
            train_generator(trial, Path(self.model), model, recipe, 0, None, "cpu")
            self.note.write_text(f"{time.process_time() - begin:.1f}")
        self.seconds = float(self.note.read_text())
        super().fit(trial)


@click.command()
@out_option
@click.option("--minutes", default=4.0, show_default=True, help="CPU minutes to train each image baseline of counts or places.")
@click.option("--mask-minutes", default=6.0, show_default=True, help="CPU minutes to train each baseline of masks.")
@click.option("--steps", default=(160, 300), show_default=True, help="Steps of causalms: places and counts, then shapes.")
@click.option("--slow", default=6, show_default=True, help="Test patients of the lineage diffusion, which is too slow for all.")
@click.option("--only", default="", help="Score these alone, comma-separated.")
def main(out: Path, minutes: float, mask_minutes: float, steps: tuple[int, int], slow: int, only: str) -> None:
    """Train and score the entrants, and write the leaderboard."""
    torch.set_num_threads(1)
    trials = frozen_trials()
    entrants: dict[str, Any] = {
        "arm_means": ArmMeans(),
        "regression": ColumnRegression(),
        **{name: BaselineEntrant(name, out, mask_minutes if name in DRAWS else minutes) for name in TRAINED},
        "ours": OwnEntrant(out, steps),
        "reference": Checkpoint(),
    }
    for name, entrant in entrants.items():
        if (out / f"{name}.csv").is_file() or (only and name not in only.split(",")):
            continue
        begin = time.process_time()
        few = list(trials.test.participants["participant_id"][:slow]) if name == "lineage" else None
        scores = scored(entrant, trials if few is None else FrozenTrials(trials.training, trials.test.subset(few)), out / name)
        click.echo(f"{name}: {time.process_time() - begin:.0f} CPU s\n{scores.round(3).to_string(index=False)}")
    tables = {name: pd.read_csv(file) for name in entrants if (file := out / f"{name}.csv").is_file()}
    board = readable(pd.concat(tables.values(), ignore_index=True))
    write_table(board, BOARD)
    write_table(side_by_side(board), RESULTS / "side_by_side.csv")
    laws = {name: law_of(out / f"{name}.npz") for name in tables}
    if "ours" in laws:
        named = {entrants[name].name: law for name, law in laws.items() if name != "ours"}
        write_table(readable(differences(laws["ours"], named, trials.test)), RESULTS / "differences.csv")


def scored(entrant: Any, trials: Any, file: Path) -> pd.DataFrame:
    """Scores of an entrant, written with the law of its counts beside them."""
    answer = entrant.counts

    def kept(trial: Trial, arms: tuple[str, ...], week: float) -> CountLaw:
        law = answer(trial, arms, week)
        parts = {"draws": law.draws} if isinstance(law, DrawsLaw) else {"mean": law.mean, "size": law.size}
        np.savez(file.with_suffix(".npz"), **parts)
        return law

    entrant.counts = kept
    scores = score_entrant(entrant, trials)
    if hasattr(entrant, "seconds"):  # of the training, if the checkpoint was there and loaded
        scores.loc[scores["measure"] == "CPU seconds to fit", "estimate"] = entrant.seconds
    write_table(scores, file.with_suffix(".csv"))
    return scores


def law_of(file: Path) -> CountLaw:
    """The law of the counts that :func:`scored` wrote."""
    with np.load(file) as parts:
        return DrawsLaw(parts["draws"]) if "draws" in parts else NegativeBinomialLaw(parts["mean"], parts["size"])


def differences(ours: CountLaw, others: dict[str, CountLaw], test: PhantomTrial) -> pd.DataFrame:
    """Scores of causalms less those of every other entrant, on the patients of both and in the same bootstrap samples."""
    known = known_outcomes(test, ARMS)
    arms, tables = tuple(range(len(ARMS))), []
    for name, law in others.items():
        same = known.part(law.n // len(ARMS), arms)
        table = judge(ours.take(np.arange(law.n)), same, 500, against=law)
        tables.append(table[(table["arm"] == "") & table["measure"].isin(PAIRED)].assign(entrant=name))
    return pd.concat(tables, ignore_index=True)[["entrant", "measure", "estimate", "lower", "upper", "patients"]]


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Five digits, and none below 1e-9."""
    numbers = ["estimate", "lower", "upper"]
    return table.assign(**{name: table[name].map(lambda value: float(f"{round(value, 9):.5g}")) for name in numbers})


def side_by_side(board: pd.DataFrame) -> pd.DataFrame:
    """One row a measure, one column an entrant: estimate (95% interval)."""

    def text(row: pd.Series) -> str:
        value = f"{row['estimate']:,.0f}" if row["measure"] == "parameters" else f"{row['estimate']:.3g}"
        return value if pd.isna(row["lower"]) else f"{value} ({row['lower']:.3g} to {row['upper']:.3g})"

    shown = board.dropna(subset="estimate")
    shown = shown.assign(text=shown.apply(text, axis=1))
    table = shown.pivot_table(index="measure", columns="entrant", values="text", aggfunc="first", sort=False)
    return table[list(dict.fromkeys(board["entrant"]))].fillna("").reset_index()


if __name__ == "__main__":
    main()
