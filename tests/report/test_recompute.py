"""A report computes its effects again in the reader's browser: the script's numbers are those of the package."""

from __future__ import annotations

import copy
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import quickjs

from causalms.calibration import Pairs, assess, forecasts_again
from causalms.effects import analyse, grouped_arguments, recomputation
from causalms.errors import InputError, UsageError
from causalms.report.recomputation import checked_recomputation
from causalms.stats import DrawsLaw, NegativeBinomialLaw
from tests.conftest import Run, refused

SCRIPT = resources.files("causalms.report").joinpath("templates", "recompute.js").read_text(encoding="utf-8")


def again(part: dict[str, Any]) -> list[dict[str, float]]:
    """What the script computes, in an engine without a browser and without a network."""
    engine = quickjs.Context()
    engine.eval(SCRIPT)
    return list(json.loads(engine.eval(f"JSON.stringify(recompute({json.dumps(part)}))")))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Three arms, counts whose exposure goes with age, a rare yes or no, and a measurement."""
    rng = np.random.default_rng(0)
    n = 120
    frame = pd.DataFrame({"arm": rng.permutation(np.repeat(["placebo", "drug", "other"], n // 3)), "age": rng.normal(40, 9, n)})
    frame["site"] = rng.choice(list("abc"), n)
    frame["years"] = rng.uniform(0.5, 2, n) * (1 + 0.3 * (frame["age"] > 40))
    mean = frame["years"] * np.where(frame["arm"] == "drug", 2, 4) * np.exp(0.02 * (frame["age"] - 40))
    frame["y"] = rng.negative_binomial(0.7, 0.7 / (0.7 + mean))
    frame["any"] = (frame["y"] > 2).astype(int)
    return frame.assign(size=rng.normal(2, 1, n) + (frame["arm"] == "drug"))


RATE = {"outcome": "y", "exposure": "years"}
RISK = {"outcome": "any"}
ANALYSES = [
    RATE,
    {**RATE, "adjust": "age + C(site)"},
    {**RATE, "adjust": "age", "rate": "exposure-weighted", "level": 0.9},
    {**RATE, "adjust": "age", "variance": "influence", "interaction": True},
    {**RATE, "adjust": "age", "variance": "leave-one-out-t", "measure": "rate-difference"},
    {**RATE, "adjust": "age", "working_model": "negbin", "variance": "leave-one-out"},
    {**RATE, "estimator": "unadjusted"},
    {**RATE, "estimator": "negbin", "adjust": "age"},
    {**RATE, "estimator": "negbin", "variance": "model-r"},
    {**RISK, "measure": "odds-ratio", "adjust": "age"},
    {**RISK, "measure": "risk-ratio"},
    {**RISK, "measure": "odds-ratio", "estimator": "conditional", "adjust": "age"},
    {"outcome": "size", "measure": "mean-difference", "adjust": "age"},
]


@pytest.mark.parametrize("options", ANALYSES, ids=str)
def test_the_script_gives_the_numbers_of_the_package(table: pd.DataFrame, options: dict[str, Any]) -> None:
    bundle = json.loads(json.dumps(recomputation(analyse(table, **grouped_arguments({"reference": "placebo", **options})))))
    assert bundle["left_out"] == []
    part = checked_recomputation(bundle)["parts"][0]
    found = again(part)
    for row in part["rows"]:
        for name in ("estimate", "se", "lower", "upper", "p_value"):
            # Two languages, one formula: what is left is rounding, far below what a page prints.
            assert found[row["index"]][name] == pytest.approx(row[name], rel=1e-9, abs=1e-300), name


def test_coverage_and_histogram_of_forecasts_are_those_of_the_package() -> None:
    rng = np.random.default_rng(3)
    mean, size = rng.gamma(1, 4, 80), np.where(np.arange(80) % 4 == 0, np.inf, 0.8)
    law = NegativeBinomialLaw(mean, size)
    observed = law.sample(rng, 1)[:, 0]
    pairs = Pairs(
        pd.DataFrame({"participant_id": [f"SECRET{i}" for i in range(80)], "arm": "a", "observed": observed}),
        law,
        law.activity,
        48.0,
    )
    bundle = json.loads(json.dumps(forecasts_again(pairs, assess(pairs, repetitions=19))))
    assert "SECRET" not in json.dumps(bundle)
    part = checked_recomputation(bundle)["parts"][0]
    found = again(part)
    assert len(part["rows"]) == len(found) > 10
    for row in part["rows"]:
        assert found[row["index"]]["estimate"] == pytest.approx(row["estimate"], rel=1e-9), row["of"]
    with pytest.raises(InputError, match="out of range"):
        checked_recomputation({"parts": [{**part, "mean": [-1.0] * 80}]})
    few = Pairs(pairs.frame, DrawsLaw(law.sample(rng, 9)), law.activity, 48.0)
    with pytest.raises(UsageError, match="not of draws"):
        forecasts_again(few, assess(few, repetitions=19))


def test_a_changed_patient_changes_the_numbers(table: pd.DataFrame) -> None:
    part = recomputation(analyse(table, **grouped_arguments({"reference": "placebo", **RATE})))["parts"][0]
    part["outcome"][0] += 1
    assert again(part)[0]["estimate"] != pytest.approx(part["rows"][0]["estimate"], rel=1e-6)


def test_what_a_page_does_not_compute_is_said(table: pd.DataFrame) -> None:
    for options, words in (
        ({**RATE, "strata": "site"}, "permuted blocks"),
        ({**RATE, "cluster": "site", "variance": "cr1"}, "cluster"),
        ({**RATE, "test": "permutation", "replicates": 999}, "test permutation"),
        ({**RATE, "variance": "hc3"}, "HC3"),
    ):
        bundle = recomputation(analyse(table, **grouped_arguments({"reference": "placebo", **options})))
        assert bundle["parts"] == []
        assert words in bundle["left_out"][0]


def test_a_report_carries_the_patients_without_their_names(table: pd.DataFrame, tmp_path: Path, run: Run) -> None:
    table.assign(participant_id=[f"SECRET{i}" for i in range(len(table))]).to_csv(tmp_path / "trial.csv", index=False)
    options = ["--outcome", "y", "--reference", "placebo", "--exposure", "years", "--adjust", "age"]
    ended = run(
        "effects", tmp_path / "trial.csv", *options, "--recompute", tmp_path / "patients.json", "--out", tmp_path / "effects.csv"
    )
    assert ended.code == 0, ended.error
    ended = run("report", tmp_path / "r.html", tmp_path / "effects.csv", "--recompute", tmp_path / "patients.json")
    assert ended.code == 0, ended.error
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "SECRET" not in page
    assert "function recompute(" in page
    carried = page.split('class="patients">')[1].split("</script>")[0]
    assert len(json.loads(carried)[0]["outcome"]) == len(table)


def test_a_file_that_is_no_such_bundle_is_refused(table: pd.DataFrame, tmp_path: Path, run: Run) -> None:
    bundle = recomputation(analyse(table, **grouped_arguments({"reference": "placebo", **RATE})))
    for place, value, words in (
        ("outcome", [1.0], "one finite number a patient"),
        ("family", "</script><script>", "is not one of"),
        ("time", [0.0] * len(table), "out of range"),
        ("rows", [{"estimate": 1}], "lacks or misshapes 'se'"),
        ("level", "x", "not a number a patient"),
    ):
        wrong = copy.deepcopy(bundle)
        wrong["parts"][0][place] = value
        with pytest.raises(InputError, match=words):
            checked_recomputation(wrong)
    (tmp_path / "e.csv").write_text("arm\n")
    refused(run("report", tmp_path / "r.html", tmp_path / "e.csv", "--recompute", tmp_path / "e.csv"), 1, "e.csv")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="holds no 'parts'"):
        checked_recomputation([])
    refused(
        run("effects", tmp_path / "e.csv", "--outcome", "y", "--reference", "a", "--recompute", tmp_path / "x.txt"), 2, ".json"
    )
