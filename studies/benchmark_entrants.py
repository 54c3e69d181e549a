"""Entrants of the open benchmark: image models trained on its frozen training trial, equal minutes each, and the built-in three.

python -m studies.benchmark_entrants --out /somewhere/benchmark            # trains, scores, and writes the leaderboard that ships

A checkpoint in OUT is loaded rather than trained anew; an entrant whose scores are in OUT is not scored again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch

from causalms.benchmark import ArmMeans, Checkpoint, ColumnRegression, FrozenTrials, frozen_trials, score_entrant
from causalms.generator import config, train_generator
from causalms.generator.inputs import patient_arrays
from causalms.generator.train.data import training_set
from causalms.lesions import LesionRule
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
RESULTS = Path(__file__).parent / "results" / "benchmark"
BOARD = Path(__file__).parents[1] / "causalms" / "benchmark" / "data" / "leaderboard.csv"


class BaselineEntrant:
    """A baseline of :mod:`studies.baselines` under the benchmark's protocol."""

    def __init__(self, name: str, folder: Path, minutes: float, draws: int = 4) -> None:
        self.key, self.file, self.minutes, self.draws = name, folder / f"{name}.safetensors", minutes, draws
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
                    drawn = self._masks(trial, name, arm, week, self.draws, 0)
                    rows.append(tuple(float(LesionRule.default().label(mask, 64.0).max()) for mask in drawn))
        table = np.array(rows)
        return NegativeBinomialLaw(table[:, 0], table[:, 1]) if "expect" in self.kind.capabilities else DrawsLaw(table)

    def _expected_map(self, trial: Trial, participant_id: str, arm: str, week: float) -> np.ndarray:
        return np.exp(self.model.log_place(self._encoded(trial, participant_id), arm))

    def _masks(self, trial: Trial, participant_id: str, arm: str, week: float, draws: int, seed: int) -> np.ndarray:
        scan, few = self._encoded(trial, participant_id), {"steps": 16} if self.key == "lineage" else {}
        return np.stack([self.model.sample(scan, arm, week, draw, seed, **few) for draw in range(draws)])

    def _encoded(self, trial: Trial, participant_id: str) -> Any:
        if self._scan[0] != participant_id:
            self._scan = (participant_id, self.model.encode_arrays(patient_arrays(trial, participant_id)))
        return self._scan[1]


class OwnEntrant(Checkpoint):
    """The generator of causalms, trained on the training trial alone."""

    def __init__(self, folder: Path, minutes: float) -> None:
        super().__init__(str(folder / "ours.safetensors"), "causalms, trained here")
        self.minutes = minutes

    def fit(self, trial: Trial) -> None:
        """Train for the minutes given, or load."""
        if not Path(self.model).is_file():
            model, recipe = config("small")
            train_generator(trial, Path(self.model), model, recipe, 0, self.minutes, "cpu")
        super().fit(trial)


@click.command()
@out_option
@click.option("--minutes", default=2.5, show_default=True, help="CPU minutes to train each image entrant.")
@click.option("--slow", default=3, show_default=True, help="Test patients of the lineage diffusion, which is too slow for all.")
@click.option("--only", default="", help="Score these alone, comma-separated.")
def main(out: Path, minutes: float, slow: int, only: str) -> None:
    """Train and score the entrants, and write the leaderboard."""
    torch.set_num_threads(1)
    trials = frozen_trials()
    part = trials.test.subset(list(trials.test.participants["participant_id"][:slow]))
    entrants: dict[str, Any] = {
        "arm_means": ArmMeans(),
        "regression": ColumnRegression(),
        **{name: BaselineEntrant(name, out, minutes, 2 if name == "lineage" else 4) for name in TRAINED},
        "ours": OwnEntrant(out, minutes),
        "reference": Checkpoint(),
    }
    for name, entrant in entrants.items():
        file = out / f"{name}.csv"
        if file.is_file() or (only and name not in only.split(",")):
            continue
        begin = time.process_time()
        some = FrozenTrials(trials.training, part) if name == "lineage" else trials
        scores = score_entrant(entrant, some)
        if "header" in (model := vars(getattr(entrant, "model", object())) if name in TRAINED else {}):
            scores.loc[scores["measure"] == "CPU seconds to fit", "estimate"] = model["header"]["seconds"]
        write_table(scores, file)
        click.echo(f"{name}: {time.process_time() - begin:.0f} CPU s\n{scores.round(3).to_string(index=False)}")
    tables = [pd.read_csv(file) for name in entrants if (file := out / f"{name}.csv").is_file()]
    board = pd.concat(tables, ignore_index=True)
    numbers = ["estimate", "lower", "upper"]
    board[numbers] = board[numbers].map(lambda value: float(f"{round(value, 9):.5g}"))
    write_table(board, BOARD)
    write_table(side_by_side(board), RESULTS / "side_by_side.csv")


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
