"""Draws in a folder by trial and arm give the digits of the same draws in memory, and damage is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.agreement import agree
from causalms.calibration import assess, assess_tallied, pair
from causalms.effects import analyse_draws, patient_effects
from causalms.errors import InputError, UsageError
from causalms.tables import ModelError, is_stored_draws, partition_draws, read_table, tallied_draws, write_table
from tests.conftest import Run, interventional, refused

PATIENTS, DRAWS, ARMS = 30, 40, ("placebo", "drug B", "drug's A")


@pytest.fixture(scope="module")
def draws() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frailty = rng.gamma(0.7, 1 / 0.7, (PATIENTS, 1, DRAWS))
    counts = rng.poisson(frailty * np.array([4.0, 2.0, 0.5])[None, :, None])
    patient, arm, draw = (part.ravel() for part in np.indices(counts.shape))
    table = interventional(ARMS, patient, arm, draw).assign(
        participant_id=[f"p{k:02d}" for k in patient],
        trial=np.where(patient % 2 == 0, "one", "two"),
        net2_lesions=counts.ravel(),
        net2_volume_ml=0.1 * counts.ravel(),
    )
    error = {name: ModelError("m", "from 9 patients", np.array([0.1, 0.02 * k]), 0.0, 0.0).text() for k, name in enumerate(ARMS)}
    return table.assign(model_error=table["arm"].map(error))


@pytest.fixture(scope="module")
def participants(draws: pd.DataFrame) -> pd.DataFrame:
    own = draws[(draws["arm"] == draws["arm_randomised"]) & (draws["draw"] == 7)].reset_index(drop=True)
    own["net2_lesions_week48"] = own["net2_lesions"] + 1
    return own[["participant_id", "trial", "arm", "net2_lesions_week48"]]


@pytest.fixture(scope="module")
def folder(draws: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("draws")
    first = draws["participant_id"] < "p11"
    parts = [write_table(draws[rows], place / f"{k}.parquet") for k, rows in enumerate((first, ~first))]
    return partition_draws(parts, place / "all")


def test_draws_numbered_in_floats_as_a_query_writes_them_are_stored(draws: pd.DataFrame, tmp_path: Path) -> None:
    draws.astype({"draw": float}).to_parquet(tmp_path / "query.parquet", index=False)
    assert len(tallied_draws(partition_draws([tmp_path / "query.parquet"], tmp_path / "all"))) > 0


@pytest.mark.parametrize("measure", ["rate-ratio", "risk-difference", "mean-difference"])
def test_effects_of_tallies_are_those_of_the_draws(draws: pd.DataFrame, folder: Path, measure: str) -> None:
    assert is_stored_draws(folder)
    whole, tallied = (
        analyse_draws(table, reference="placebo", measure=measure, outcome="net2_lesions")
        for table in (draws, read_table(folder))
    )
    pd.testing.assert_frame_equal(whole, tallied, rtol=1e-10)
    assert whole["se_monte_carlo"].gt(0).all()
    assert whole["se_generator"].notna().all()


def test_agreement_and_own_effects_of_tallies_are_those_of_the_draws(
    draws: pd.DataFrame, folder: Path, participants: pd.DataFrame
) -> None:
    whole, tallied = (patient_effects(table, arm="drug B", reference="placebo") for table in (draws, tallied_draws(folder)))
    pd.testing.assert_frame_equal(whole, tallied, rtol=1e-10)
    one, other = (agree(table, participants, reference="placebo") for table in (draws, tallied_draws(folder)))
    pd.testing.assert_frame_equal(one.results, other.results, rtol=1e-9)
    assert one.notes == other.notes


def test_calibration_of_tallies_is_that_of_the_draws(draws: pd.DataFrame, folder: Path, participants: pd.DataFrame) -> None:
    whole = assess(pair(draws, participants), ["arm"], repetitions=19)
    tallied = assess_tallied(pair(tallied_draws(folder), participants), ["arm"])
    both = whole.results.merge(tallied, on=["subgroup", "measure"], suffixes=("", "_tallied"))
    assert len(both) == 4 * 13  # of everybody and three arms all measures but those of simulated trials
    for name in ("estimate", "lower", "upper", "n"):
        assert np.allclose(both[name].astype(float), both[f"{name}_tallied"].astype(float), rtol=1e-9, equal_nan=True)
    density = tallied[(tallied["subgroup"] == "all") & tallied["measure"].str.startswith("PIT")]["estimate"].astype(float)
    assert np.allclose(density, whole.pit[whole.pit["subgroup"] == "all"]["density"])


def test_verbs_read_a_folder_of_draws(
    run: Run, folder: Path, draws: pd.DataFrame, participants: pd.DataFrame, tmp_path: Path
) -> None:
    seen = write_table(participants, tmp_path / "seen.csv")
    table = write_table(draws, tmp_path / "draws.parquet")
    assert run("effects", folder, "--reference", "placebo").printed == run("effects", table, "--reference", "placebo").printed
    calibrated = run("calibrate", folder, "--observed", seen, "--by", "arm")
    assert "from tallies of all draws" in calibrated.printed
    merged = run("merge", table, "--out", tmp_path / "again")
    assert "draws of 1 tables by trial and arm" in merged.printed
    refused(run("calibrate", folder, "--observed", seen, "--conformal", tmp_path / "c.csv"), 2, "need draws in memory")


def test_what_is_no_complete_set_of_draws_is_named(draws: pd.DataFrame, tmp_path: Path) -> None:
    for rows, words in (
        (draws.drop(index=41), "participant 'p00' under arm 'drug B' lacks a draw"),
        (pd.concat([draws, draws.iloc[[0]]]), "participant 'p00' under arm 'placebo' has a draw twice"),
        (draws.assign(net2_lesions=-1), "no counts"),
        (draws.drop(columns="draw"), "no column 'draw'"),
    ):
        with pytest.raises(InputError, match=words):
            tallied_draws(write_table(rows, tmp_path / "part.parquet"))
    whole = tallied_draws(write_table(draws, tmp_path / "whole.parquet"))
    with pytest.raises(InputError, match="tallies of lesion counts only"):
        analyse_draws(whole, reference="placebo", measure="mean-ratio")
    seen = draws[draws["arm"] == draws["arm_randomised"]].drop_duplicates("participant_id").assign(net2_lesions_week48=1)
    with pytest.raises(UsageError, match="cannot be replicated"):
        assess(pair(whole, seen[["participant_id", "trial", "arm", "net2_lesions_week48"]]))
