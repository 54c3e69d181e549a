"""``causalms query`` on a participants table: tables, records, exit codes, nothing half-written."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from causalms.cli import main


def run(*arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    return stop.value.code, capsys.readouterr()


@pytest.fixture
def file(table, tmp_path):
    path = tmp_path / "participants.csv"
    table.to_csv(path, index=False)
    return path


def test_query_writes_the_table_and_its_record(file, tmp_path, capsys):
    out = tmp_path / "draws.parquet"
    code, said = run(
        "query", file, "--do", "placebo", "--do", "ocrelizumab", "--draws", 4, "--model", "counts", "--out", out, capsys=capsys
    )
    assert code == 0, said.err
    found = pd.read_parquet(out)
    assert len(found) == 60 * 2 * 4
    assert set(json.loads((tmp_path / "draws.queries.json").read_text())) == set(found["query_id"])
    assert "rung 2 (interventional), 60 patients" in said.out
    assert not (tmp_path / "draws.parquet.parts").exists()


def test_query_of_several_weeks_and_a_policy(file, tmp_path, capsys):
    rules = tmp_path / "p.yaml"
    rules.write_text("name: escalate\nrules: [{when: gd_lesions > 0, arm: ocrelizumab}]\notherwise: dimethyl-fumarate\n")
    out = tmp_path / "e.csv"
    code, said = run(
        "query", file, "--do", "placebo", "--policy", rules, "--expected", "--week", 24, "--week", 48,
        "--model", "counts", "--out", out, capsys=capsys,
    )  # fmt: skip
    assert code == 0, said.err
    found = pd.read_csv(out)
    assert set(found["arm"]) == {"placebo", "escalate"}
    assert set(found["visit_week"]) == {24.0, 48.0}


def test_given_factual_is_rung_three(file, tmp_path, capsys):
    out = tmp_path / "twins.csv"
    code, said = run(
        "query", file, "--do", "ocrelizumab", "--given-factual", "--coupling", "rho", "--rho", 0.5, "--draws", 8,
        "--model", "counts", "--out", out, capsys=capsys,
    )  # fmt: skip
    assert code == 0, said.err
    assert "rung 3 (counterfactual), 60 patients" in said.out
    assert set(pd.read_csv(out)["query"]) == {"observed", "counterfactual"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--do", "aspirin"], 1, "arm 'aspirin' is outside the support"),
        ([], 2, "no arm to set"),
        (["--do", "placebo", "--rho", "0.5"], 2, "--rho and --skip-missing go with --given-factual"),
        (["--do", "placebo", "--given-factual", "--expected"], 2, "choose one"),
        (["--do", "placebo", "--policy", "none.yaml"], 1, "none.yaml: cannot be read"),
        (["--do", "placebo", "--coupling", "psychic"], 2, "coupling 'psychic' is unknown"),
        (["--do", "placebo", "--draws", "many"], 2, "--draws"),
    ],
)
def test_a_bad_call_is_one_line_and_leaves_nothing(file, tmp_path, capsys, arguments, code, message):
    found, said = run("query", file, *arguments, "--model", "counts", "--out", tmp_path / "x.csv", capsys=capsys)
    assert found == code
    assert message in said.err
    assert said.err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["participants.csv"]


def test_an_output_of_another_kind_is_refused_before_any_work(file, tmp_path, capsys):
    code, said = run("query", file, "--do", "placebo", "--model", "counts", "--out", tmp_path / "x.xlsx", capsys=capsys)
    assert code == 2
    assert "choose one of these suffixes" in said.err
