"""The tables that fixed analyses are made of: public worked examples and made trials of known laws."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalms.tables import ModelError, read_table

DATA = Path(__file__).parent / "data"
#: Name and call of fixed analyses.
Runs = Iterator[tuple[str, Any]]


@cache
def shipped(name: str) -> pd.DataFrame:
    """A table that ships with the package."""
    return read_table(DATA / f"{name}.csv")


def epil() -> pd.DataFrame:
    """Epilepsy totals with blocks, a second trial, exposure, a prognostic score and three arms."""
    table = shipped("epil_totals")
    count = np.arange(len(table))
    return table.assign(
        block=count % 4,
        pair=count // 6,
        years=1 + count % 3 / 2,
        score=table["base"] + 1.0,
        trial=np.where(count % 5 < 3, "one", "two"),
        dose=np.array(["none", "low", "high"])[count % 3],
        many=(table["y"] > 20).astype(int),
        few=np.where((table["trt"] == "placebo") | (count % 7 < 2), np.minimum(table["y"] // 12, 3), 0),
    )


def made_trial(seed: int = 1, patients: int = 120, draws: int = 12) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Participants with counts and draws under both arms, of known negative-binomial laws."""
    rng = np.random.default_rng(seed)
    arm = rng.choice(["a", "b"], patients)
    base = np.exp(rng.normal(0.8, 0.6, patients))
    people = pd.DataFrame({"participant_id": [f"p{i}" for i in range(patients)], "trial": "t", "arm": arm})
    people["age"] = rng.uniform(20, 55, patients)
    people["net2_lesions_week48"] = rng.negative_binomial(0.6, 0.6 / (0.6 + base * np.where(arm == "a", 1.0, 0.3)))
    rows = []
    for name, effect in (("a", 1.0), ("b", 0.4)):
        counts = rng.negative_binomial(0.6, (0.6 / (0.6 + base * effect))[:, None], (patients, draws))
        keys = {"participant_id": people["participant_id"], "trial": "t", "arm": name, "arm_randomised": arm}
        one = pd.DataFrame({**keys, "visit_week": 48.0, "query": "interventional", "query_id": "q"})
        one = one.loc[np.repeat(np.arange(patients), draws)].reset_index(drop=True)
        lesions = {"net2_lesions": counts.ravel(), "net2_volume_ml": 0.1 * counts.ravel()}
        rows.append(one.assign(draw=np.tile(np.arange(draws), patients), **lesions))
    return people, pd.concat(rows, ignore_index=True)


def expected_draws(model_error: bool = True, patients: int = 40) -> pd.DataFrame:
    """An expected table of two arms whose cells carry the model's error along three directions."""
    rng, rows = np.random.default_rng(4), []
    means = np.exp(rng.normal(1, 0.6, (patients, 1)) + np.log([1.0, 0.3]))
    for i, j in np.ndindex(patients, 2):
        mean = float(means[i, j])
        silent = (0.5 / (0.5 + mean)) ** 0.5
        loadings = np.array([0.3, 0.1 * j, 0.2 * j * (-1) ** i])
        error = ModelError("m", "from 400 held-out patients", loadings, silent * 0.5 * mean / (0.5 + mean), 0.05, 0.1, 0.2)
        row: dict[str, Any] = {
            "participant_id": f"p{i}",
            "arm": "ab"[j],
            "arm_randomised": "ab"[i % 2],
            "expected_net2_lesions": mean,
        }
        row |= {"expected_net2_volume_ml": 0.1 * mean, "activity_probability": 1 - silent, "dispersion": 2.0}
        rows.append(row | ({"model_error": error.text()} if model_error else {}))
    return pd.DataFrame(rows).assign(trial="t", visit_week=48.0, query="interventional", query_id="q")


def members(draws: pd.DataFrame) -> pd.DataFrame:
    """The draws as those of an ensemble of three generators that differ."""
    generator = draws["draw"] % 3
    counts = draws["net2_lesions"] + ((draws["draw"] % 3 == 1) & (draws["arm"] == "b")).astype(int)
    return draws.assign(net2_lesions=counts, generator=generator, draw=draws["draw"] // 3)
