"""``causalms query`` on a participants table: tables, records, exit codes, nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from causalms.causal import CausalModel, NegativeBinomialMechanism, sweep
from causalms.causal import cohort as answers
from causalms.errors import InputError
from causalms.tables import ModelError
from causalms.trials.folder import FolderSource
from causalms.trials.layout import Layout


@pytest.fixture
def file(table, tmp_path):
    path = tmp_path / "participants.csv"
    table.to_csv(path, index=False)
    return path


def test_query_writes_the_table_and_its_record(file, tmp_path, run):
    out = tmp_path / "draws.parquet"
    code, printed, error = run(
        "query", file, "--do", "placebo", "--do", "ocrelizumab", "--draws", 4, "--model", "counts", "--out", out
    )
    assert code == 0, error
    found = pd.read_parquet(out)
    assert len(found) == 60 * 2 * 4
    assert set(json.loads((tmp_path / "draws.queries.json").read_text())) == set(found["query_id"])
    assert "rung 2 (interventional), 60 patients" in printed
    assert not (tmp_path / "draws.parquet.parts").exists()


def test_patients_unlike_those_learned_from_have_a_figure_beside_the_table(file, tmp_path, run, monkeypatch):
    ask, far = CausalModel.ask, {"columns": 1.4}

    def unlike(*args):
        table = ask(*args)
        errors = [ModelError.read(text) for text in table["model_error"]]
        texts = [replace(error, distances=far, seen=400).text() for error in errors]
        return table.assign(model_error=texts)

    options = ["--do", "placebo", "--do", "ocrelizumab", "--expected", "--model", "counts", "--out"]
    assert run("query", file, *options, tmp_path / "alike.csv")[0] == 0
    monkeypatch.setattr(CausalModel, "ask", unlike)
    code, printed, error = run("query", file, *options, tmp_path / "far.csv")
    assert code == 0, error
    assert "60 of 60 patients (100%) lie outside the baseline columns" in printed
    assert sorted(path.name for path in tmp_path.glob("*.pdf")) == ["far.outside.pdf"]


def test_query_of_several_weeks_and_a_policy(file, tmp_path, run):
    rules = tmp_path / "p.yaml"
    rules.write_text("name: escalate\nrules: [{when: gd_lesions > 0, arm: ocrelizumab}]\notherwise: dimethyl-fumarate\n")
    out = tmp_path / "e.csv"
    code, printed, error = run(
        "query", file, "--do", "placebo", "--policy", rules, "--expected", "--week", 24, "--week", 48,
        "--model", "counts", "--out", out
    )  # fmt: skip
    assert code == 0, error
    found = pd.read_csv(out)
    assert set(found["arm"]) == {"placebo", "escalate"}
    assert set(found["visit_week"]) == {24.0, 48.0}


def test_given_factual_is_rung_three(file, tmp_path, run):
    out = tmp_path / "twins.csv"
    code, printed, error = run(
        "query", file, "--do", "ocrelizumab", "--given-factual", "--coupling", "rho", "--rho", 0.5, "--draws", 8,
        "--model", "counts", "--out", out
    )  # fmt: skip
    assert code == 0, error
    assert "rung 3 (counterfactual), 60 patients" in printed
    assert set(pd.read_csv(out)["query"]) == {"observed", "counterfactual"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--do", "aspirin"], 1, "arm 'aspirin' is outside the support"),
        (["--do", "placeb"], 1, "; did you mean 'placebo'?"),
        ([], 2, "no arm to set"),
        (["--do", "placebo", "--rho", "0.5"], 2, "--rho and --skip-missing go with --given-factual"),
        (["--do", "placebo", "--given-factual", "--expected"], 2, "choose one"),
        (["--do", "placebo", "--policy", "none.yaml"], 1, "none.yaml: cannot be read"),
        (["--do", "placebo", "--coupling", "psychic"], 2, "--coupling: 'psychic' is unknown"),
        (["--do", "placebo", "--draws", "many"], 2, "--draws"),
        (["--do", "placebo", "--draws", "0"], 2, "draws is 0"),
        (["--do", "placebo", "--week", "120"], 1, "week 120 is outside"),
        (["--do", "placebo", "--week", "-4"], 1, "week -4 is outside"),
        (["--do", "placebo", "--week", "48", "--week", "48"], 2, "each once"),
        (["--do", "placebo", "--do", "placebo"], 2, "'placebo' is asked for twice; name each arm once"),
        (["--do", "placebo", "--given-factual", "--abduction", "alien"], 2, "abduction 'alien' is unknown"),
        (["--do", "placebo", "--given-factual", "--abduction", "deterministic"], 1, "no deterministic abduction"),
        (["--do", "placebo", "--given-factual", "--coupling", "rho", "--rho", "2"], 2, "from -1 (mirrored)"),
        (["--do", "placebo", "--reference", "ocrelizumab"], 2, "add --do ocrelizumab"),
        (["--do", "placebo", "--reference", "placebo"], 2, "no world to compare with it"),
        (["--do", "placebo", "--given-factual", "--reference", "placebo"], 2, "goes with --bounds-over-rho"),
        (["--do", "placebo", "--bounds-over-rho"], 2, "add --reference ARM"),
        (["--do", "placebo", "--reference", "placebo", "--bounds-over-rho"], 2, "no world to compare with it"),
        (["--do", "placebo", "--recalibrate"], 2, "add --expected"),
        (["--do", "placebo", "--expected", "--recalibrate", "--reference", "placebo"], 2, "causalms effects OUT"),
        (["--do", "placebo", "--given-factual", "--registry"], 2, "--registry is about effects in a population"),
    ],
)
def test_a_bad_call_is_one_line_before_a_model_is_fitted_and_leaves_nothing(
    file, tmp_path, run, monkeypatch, arguments, code, message
):
    def fit(*_, **__):
        raise AssertionError("a model was fitted for a call that makes no sense")

    monkeypatch.setattr(NegativeBinomialMechanism, "fit", fit)
    found, printed, error = run("query", file, *arguments, "--model", "counts", "--out", tmp_path / "x.csv")
    assert found == code
    assert message in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["participants.csv"]


def test_an_output_of_another_kind_is_refused_before_any_work(file, tmp_path, run):
    code, printed, error = run("query", file, "--do", "placebo", "--model", "counts", "--out", tmp_path / "x.xlsx")
    assert code == 2
    assert "choose one of these suffixes" in error


def test_an_unknown_column_of_a_policy_is_said_before_a_model_is_fitted(file, tmp_path, run, monkeypatch):
    monkeypatch.setattr(NegativeBinomialMechanism, "fit", lambda *_, **__: pytest.fail("a model was fitted"))
    rules = tmp_path / "p.yaml"
    rules.write_text("name: tall\nrules: [{when: height > 2, arm: ocrelizumab}]\notherwise: placebo\n")
    code, printed, error = run("query", file, "--policy", rules, "--model", "counts", "--out", tmp_path / "x.csv")
    assert code == 1
    assert "policy 'tall': no column 'height'" in error


def test_reference_writes_contrasts_with_what_must_stand_beside_them(table, tmp_path, run):
    trial = table.assign(trial=np.where(table["arm"] == "ocrelizumab", "B", "A"))
    trial.to_csv(tmp_path / "p.csv", index=False)
    code, printed, error = run(
        "query", tmp_path / "p.csv", "--do", "placebo", "--do", "dimethyl-fumarate", "--do", "ocrelizumab", "--expected",
        "--reference", "placebo", "--model", "counts", "--out", tmp_path / "e.parquet"
    )  # fmt: skip
    assert code == 0, error
    found = pd.read_csv(tmp_path / "e.results.csv")
    ratios = found[found["measure"] == "mean ratio"].set_index("arm")
    assert not ratios["randomised"].any()
    assert "randomised together in A" in ratios.loc["dimethyl-fumarate", "estimand"]
    assert "randomised together in no trial: transported" in ratios.loc["ocrelizumab", "estimand"]
    assert {"E-value", "covariate overlap, share in common"} <= set(found.loc[found["arm"] == "ocrelizumab", "measure"])
    assert "ocrelizumab / placebo: ratio of means " in printed
    assert "transported" in printed
    causes = pd.read_csv(tmp_path / "e.confounding.csv")
    assert causes["covariate"].tolist()[:2] == ["needed to erase the estimate", "needed to erase the interval"]
    assert {"age", "gd_lesions"} <= set(causes["covariate"])
    assert (tmp_path / "e.confounding.pdf").read_bytes().startswith(b"%PDF")
    code, _, error = run("report", tmp_path / "report.html", tmp_path / "e.results.csv", tmp_path / "e.confounding.csv")
    assert code == 0, error
    assert "a cause as strong as" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_recalibration_makes_the_models_own_error_a_number(file, tmp_path, run):
    out = tmp_path / "e.parquet"
    code, printed, error = run(
        "query", file, "--do", "placebo", "--do", "ocrelizumab", "--expected", "--recalibrate", "--model", "counts",
        "--out", out
    )  # fmt: skip
    assert code == 0, error
    assert "the model's own error was unknown: wide priors in its place" in printed
    (record,) = json.loads((tmp_path / "e.queries.json").read_text()).values()
    assert record["recalibration"]["stored_error_model_dropped"]
    code, printed, error = run("effects", out, "--reference", "placebo", "--out", tmp_path / "r.csv")
    assert code == 0, error
    assert (pd.read_csv(tmp_path / "r.csv")["se_generator"] > 0).all()


def test_a_registry_needs_overlap_and_claims_no_randomised_contrast(file, tmp_path, run):
    asked = ["query", file, "--do", "placebo", "--do", "ocrelizumab", "--expected", "--registry", "--reference", "placebo"]
    code, printed, error = run(*asked, "--model", "counts", "--out", tmp_path / "e.csv")
    assert code == 0, error
    assert (pd.read_csv(tmp_path / "e.csv", keep_default_na=False)["arm_randomised"] == "n/a").all()
    assert not pd.read_csv(tmp_path / "e.results.csv")["randomised"].any()


def test_a_counterfactual_run_writes_its_diagnostics_and_their_page(file, tmp_path, run):
    out = tmp_path / "twins.parquet"
    code, printed, error = run(
        "query", file, "--do", "ocrelizumab", "--given-factual", "--draws", 4, "--checked-patients", 20, "--model", "counts",
        "--reference", "placebo", "--bounds-over-rho", "--out", out
    )  # fmt: skip
    assert code == 0, error
    names = ["bounds.csv", "bounds.pdf", "diagnostics.csv", "diagnostics.pdf", "queries.json", "results.csv"]
    assert sorted(p.name for p in tmp_path.glob("twins*")) == sorted(["twins.parquet", *(f"twins.{n}" for n in names)])
    results = pd.read_csv(tmp_path / "twins.results.csv")
    assert {"composition", "noise", "marginal", "overlap"} <= set(results.loc[results["analysis"] == "diagnostics", "measure"])
    checked = pd.read_csv(tmp_path / "twins.diagnostics.csv")
    assert checked["verdict"].notna().sum() == 9
    assert set(checked.loc[checked["verdict"].isna(), "diagnostic"]) >= {"composition", "noise", "marginal", "reversibility"}
    assert (tmp_path / "twins.diagnostics.pdf").read_bytes().startswith(b"%PDF")
    tables = [tmp_path / f"twins.{name}.csv" for name in ("results", "diagnostics", "bounds")]
    code, printed, error = run("report", tmp_path / "report.html", *tables)
    assert code == 0, error
    page = (tmp_path / "report.html").read_text()
    assert "Diagnostics of counterfactuals under ocrelizumab: composition" in page
    assert "ocrelizumab against placebo over the coupling: benefit" in page
    sweep = pd.read_csv(tmp_path / "twins.bounds.csv")
    assert sweep["rho"].min() == -1.0
    assert set(sweep["measure"]) == {"benefit", "harm", "activity harm"}


def test_bounds_of_shards_are_those_of_one_run(file, table, tmp_path, run, monkeypatch):
    """Shards keep their patients' twins, laws and sweeps in one folder; the command without them computes none of these again."""
    asked = ["query", file, "--do", "ocrelizumab", "--given-factual", "--draws", 4, "--checked-patients", 5, "--model", "counts"]
    asked += ["--reference", "placebo", "--bounds-over-rho"]
    asked += [word for name in table["participant_id"].head(11) for word in ("--participant", name)]
    assert run(*asked, "--out", tmp_path / "one" / "t.csv").code == 0
    shared = ["--parts", tmp_path / "shared", "--out", tmp_path / "two" / "t.csv"]
    code, _, error = run(*asked, "--shard", "1/2", *shared)
    assert code == 2
    assert "give each shard --keep-only and one --parts DIR" in error
    for k in (1, 2):
        code, printed, error = run(*asked, "--shard", f"{k}/2", "--keep-only", *shared)
        assert code == 0, error
        assert f"{4 + k} patients answered and kept in" in printed
    for module, name in ((answers, "patient_rows"), (sweep._Sweep, "_made")):
        monkeypatch.setattr(module, name, None)
    code, printed, error = run(*asked, *shared)
    assert code == 0, error
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / folder).iterdir()} for folder in ("one", "two"))
    assert one == two
    assert set(pd.read_csv(tmp_path / "two" / "t.bounds.csv")["n"]) == {11}
    assert not (tmp_path / "shared").exists()


def test_a_query_killed_for_real_goes_on_and_leaves_no_hidden_file(file, table, tmp_path, run, monkeypatch):
    """SIGKILL while patients are answered; the same command then reuses the finished ones and cleans up after both."""
    out, patients = tmp_path / "draws.csv", tmp_path / "draws.csv.parts"
    asked = ["query", file, "--do", "placebo", "--do", "ocrelizumab", "--draws", 150, "--model", "counts", "--out", out]
    words = [sys.executable, "-m", "causalms", *map(str, asked)]
    killed = subprocess.Popen(words, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not list(patients.glob("*/sub-*.parquet")) and killed.poll() is None:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    done = {p.stem for p in patients.glob("*/sub-*.parquet")}
    assert 0 < len(done) < len(table)
    next(patients.glob("*")).joinpath(".writing-cut-short.parquet").write_bytes(b"half a file")  # what a kill mid-write leaves
    (patients / "finished").mkdir()
    (patients / "finished" / ".writing-draws.csv").write_text("half a table")

    asked_again, original = [], answers.patient_rows
    monkeypatch.setattr(answers, "patient_rows", lambda *a: (asked_again.append(a[-1]), original(*a))[1])
    code, printed, error = run(*asked)
    assert code == 0, error
    assert set(asked_again) == set(table["participant_id"]) - done
    assert sorted(p.name for p in tmp_path.iterdir()) == ["draws.csv", "draws.queries.json", "participants.csv"]
    whole = CausalModel.fit_counts(pd.read_csv(file)).do(table, ["placebo", "ocrelizumab"], draws=150)
    assert pd.read_csv(out)["net2_lesions"].tolist() == whole["net2_lesions"].tolist()


def test_patients_finished_before_a_refusal_are_kept_and_not_asked_again(file, table, tmp_path, run, monkeypatch):
    out, original, last = tmp_path / "d.csv", answers.patient_rows, table["participant_id"].iloc[-1]
    asked = ["query", file, "--do", "placebo", "--draws", 2, "--model", "counts", "--out", out]

    def refuse_the_last(*arguments):
        if arguments[-1] == last:
            raise InputError(f"{last}: its scan is broken; export it again")
        return original(*arguments)

    monkeypatch.setattr(answers, "patient_rows", refuse_the_last)
    code, printed, error = run(*asked)
    assert code == 1
    assert f"{len(table) - 1} finished patients are kept in" in error
    assert error.count("\n") == 1
    again = []
    monkeypatch.setattr(answers, "patient_rows", lambda *a: (again.append(a[-1]), original(*a))[1])
    assert run(*asked).code == 0
    assert again == [last]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.csv", "d.queries.json", "participants.csv"]


def test_finished_patient_is_not_taken_when_its_scans_have_changed(tmp_path):
    trial = SimpleNamespace(source=FolderSource(Layout(tmp_path, {})))
    scan = tmp_path / "derivatives" / "lesions" / "sub-1" / "mask.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.write_bytes(b"one")
    names = {answers._part_name(trial, "sub-1")}
    names.add(answers._part_name(trial, "sub-1"))
    assert len(names) == 1
    scan.write_bytes(b"other")
    names.add(answers._part_name(trial, "sub-1"))
    assert len(names) == 2
