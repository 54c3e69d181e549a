"""Results for other people: publication tables, multiplicity, ADaM in and out, the command line."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.cli.main import main
from causalms.effects import analyse, grouped_arguments, reporting_event, results_data
from causalms.effects.adam import bds_table, read_adam, write_xpt
from causalms.effects.publication import publication_table, write_publication
from causalms.errors import DataNote, InputError, UsageError
from causalms.stats import adjusted_p_values, with_adjusted_p_values
from causalms.tables import RESULTS_COLUMNS, read_table, write_table

BASE = {"outcome": "y", "reference": "placebo", "exposure": "exposure_years"}


def run(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["effects", *arguments])
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("method", ["holm", "hochberg", "bonferroni"])
def test_adjusted_p_values_match_statsmodels(method: str) -> None:
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(0).uniform(0, 0.2, 9) ** 2
    name = {"hochberg": "simes-hochberg"}.get(method, method)
    np.testing.assert_allclose(adjusted_p_values(p, method), multipletests(p, method=name)[1], rtol=1e-12)


def test_gatekeeping_stops_at_the_first_failure() -> None:
    assert adjusted_p_values(np.array([0.001, 0.2, 0.0001]), "fixed-sequence").tolist() == [0.001, 0.2, 0.2]
    with pytest.raises(UsageError, match="expected one of holm"):
        adjusted_p_values(np.array([0.1]), "dunnett")
    with pytest.raises(InputError, match="row 2"):
        adjusted_p_values(np.array([0.1, np.nan]))


def test_publication_table_has_patients_events_and_exposure_of_every_arm(trial: pd.DataFrame) -> None:
    analysis = analyse(trial, **grouped_arguments(BASE))
    table = publication_table(analysis, p_adjusted=[0.5])
    drug = trial[trial["arm"] == "drug"]
    assert table["n"].tolist() == ["60", "60"]
    assert table["events"].tolist()[1] == str(drug["y"].sum())
    assert float(table["exposure"][1]) == pytest.approx(drug["exposure_years"].sum(), rel=1e-3)
    assert table["rate ratio (95% CI)"][0] == "reference"
    assert table["adjusted p"].tolist() == ["", "0.5000"]


@pytest.mark.parametrize("suffix", [".html", ".tex", ".csv", ".docx"])
def test_publication_table_is_written_in_four_formats(trial: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    analysis = analyse(trial.rename(columns={"y": "net2_lesions"}), **grouped_arguments({**BASE, "outcome": "net2_lesions"}))
    file = write_publication(analysis, tmp_path / f"table{suffix}")
    text = zipfile.ZipFile(file).read("word/document.xml").decode() if suffix == ".docx" else file.read_text()
    assert "placebo" in text
    assert "rate ratio" in text
    if suffix != ".csv":
        assert "Population: all randomised patients" in text
        assert ("net2\\_lesions" if suffix == ".tex" else "net2_lesions") in text
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_other_formats_are_refused(trial: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one of these suffixes"):
        write_publication(analyse(trial, **grouped_arguments(BASE)), tmp_path / "table.xls")


def adam_files(trial: pd.DataFrame, folder: Path) -> tuple[Path, Path]:
    subjects = pd.DataFrame(
        {"STUDYID": "S1", "USUBJID": trial["participant_id"], "SITEID": trial["site"].astype(str), "TRT01P": trial["arm"]}
    ).assign(AGE=40.0, SEX="F", EXPYRS=trial["exposure_years"], RANDFL="Y", XBL=trial["x"])
    patients = trial.assign(trial="S1")
    records = bds_table(patients, {"y": ("NET2", "New or enlarging T2 lesions")}, visit="Week 48", visit_number=48.0)
    return write_xpt(subjects, folder / "adsl.xpt", "ADSL"), write_xpt(records, folder / "adnet2.xpt", "ADNET2")


def test_effects_from_adam_transport_files_equal_those_of_the_plain_table(trial: pd.DataFrame, tmp_path: Path) -> None:
    adsl, bds = adam_files(trial, tmp_path)
    table = read_adam(adsl, bds, parameters={"NET2": "y"}, visit="Week 48", columns={"XBL": "x"})
    assert (table["y"] == 0).any()  # zeros survive the transport file
    theirs = analyse(trial, **grouped_arguments(dict(**BASE, adjust="x"))).contrasts[0]
    ours = analyse(table, **grouped_arguments(dict(**BASE, adjust="x"))).contrasts[0]
    assert ours.estimate == pytest.approx(theirs.estimate, rel=1e-12)
    assert ours.se == pytest.approx(theirs.se, rel=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": {"GDE": "y"}}, "no record has PARAMCD 'GDE'; codes are NET2"),
        ({"parameters": {"NET2": "y"}, "visit": "Week 96"}, "visits are Week 48"),
        ({"parameters": {"NET2": "y"}, "population": "SEX"}, "no subject has SEX = 'Y'"),
    ],
)
def test_adam_without_the_parameter_visit_or_population_is_refused(
    trial: pd.DataFrame, tmp_path: Path, options: dict, message: str
) -> None:
    adsl, bds = adam_files(trial, tmp_path)
    with pytest.raises(InputError, match=message):
        read_adam(adsl, bds, **options)


def test_adam_flags_case_derived_records_and_strangers(trial: pd.DataFrame, tmp_path: Path) -> None:
    adsl, bds = adam_files(trial, tmp_path)
    subjects, records = read_table(adsl), read_table(bds)
    flags = ["Y" if place % 2 else "N" for place in range(len(subjects))]
    write_table(subjects.assign(FASFL=flags).rename(columns=str.lower), tmp_path / "adsl.csv")
    write_table(records.assign(DTYPE=["LOCF", *[""] * (len(records) - 1)]), tmp_path / "bds.csv")
    with pytest.warns(DataNote, match=r"derived NET2 records are used \(DTYPE\): 1 LOCF"):
        table = read_adam(tmp_path / "adsl.csv", tmp_path / "bds.csv", parameters={"NET2": "y"}, population="FASFL")
    assert len(table) == len(subjects) // 2
    with pytest.raises(InputError, match="no population flag 'ITTFL'; flags are"):
        read_adam(tmp_path / "adsl.csv", bds, parameters={"NET2": "y"}, population="ITTFL")
    write_table(subjects.iloc[1:], tmp_path / "short.csv")
    with pytest.raises(InputError, match="1 subjects are missing from"):
        read_adam(tmp_path / "short.csv", bds, parameters={"NET2": "y"})


def test_analysis_results_data_hold_every_statistic_and_the_method() -> None:
    table = pd.DataFrame({"y": [2, 4, 3, 1, 0, 2], "arm": ["p"] * 3 + ["d"] * 3})
    results = analyse(table, outcome="y", reference="p").results
    data = results_data(results, outcome="y").set_index("stat_name")
    assert float(data.loc["estimate", "stat"]) == pytest.approx(results["estimate"].iloc[0], rel=1e-12)
    assert data.loc["method", "stat"] == results["estimator"].iloc[0]
    assert data.index.is_unique


def test_a_reporting_event_refers_to_what_it_holds() -> None:
    """Every id that an analysis names is there (CDISC ARS 1.0)."""
    table = pd.DataFrame({"y": [2, 4, 3, 1, 0, 2, 1, 1, 5], "arm": ["p"] * 3 + ["d"] * 3 + ["e"] * 3})
    results = analyse(table, outcome="y", reference="p").results
    event = reporting_event(results, outcome="y", program="x <- 1")
    (found,) = event["analyses"]
    operations = {one["id"] for method in event["methods"] if method["id"] == found["methodId"] for one in method["operations"]}
    groups = {group["id"]: group["name"] for group in event["analysisGroupings"][0]["groups"]}
    assert {result["operationId"] for result in found["results"]} <= operations
    about = [[groups[group["groupId"]] for group in result["resultGroups"]] for result in found["results"]]
    assert about[0] == ["d", "p"]
    assert about[-1] == ["e", "p"]
    assert found["analysisSetId"] in {one["id"] for one in event["analysisSets"]}
    assert float(found["results"][0]["rawValue"]) == pytest.approx(results["estimate"].iloc[0], rel=1e-12)
    assert found["programmingCode"] == {"context": "R", "code": "x <- 1"}


def test_several_records_of_a_subject_need_a_visit(trial: pd.DataFrame, tmp_path: Path) -> None:
    adsl, bds = adam_files(trial, tmp_path)
    twice = pd.concat([read_table(bds), read_table(bds)])
    write_table(twice, tmp_path / "twice.csv")
    with pytest.raises(InputError, match="several NET2 records; name the visit"):
        read_adam(adsl, tmp_path / "twice.csv", parameters={"NET2": "y"})


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".xpt"])
def test_command_line_reads_every_table_and_writes_the_results_schema(
    trial: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture, suffix: str
) -> None:
    trial = trial.rename(columns={"exposure_years": "expyrs", "participant_id": "usubjid"})
    file = tmp_path / f"trial{suffix}"
    if suffix == ".xpt":
        write_xpt(trial, file, "TRIAL")
    else:
        write_table(trial, file)
    options = ["--outcome", "y", "--reference", "placebo", "--exposure", "expyrs", "--adjust", "x + C(site)"]
    code, out, err = run(capsys, str(file), *options, "--out", str(tmp_path / "results.csv"))
    assert code == 0, err
    assert "estimand (ICH E9(R1))" in out
    results = read_table(tmp_path / "results.csv")
    assert list(results.columns) == list(RESULTS_COLUMNS)
    expected = analyse(
        trial, **grouped_arguments({"outcome": "y", "reference": "placebo", "exposure": "expyrs", "adjust": "x + C(site)"})
    ).results
    assert results["estimate"][0] == pytest.approx(expected["estimate"][0], rel=1e-12)


def test_command_line_ends_with_one_line_and_no_file_on_bad_input(
    trial: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = write_table(trial.assign(y=-1), tmp_path / "trial.csv")
    out_file = tmp_path / "results.csv"
    code, out, err = run(capsys, str(file), "--outcome", "y", "--reference", "placebo", "--out", str(out_file))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "trial.csv: column 'y', row 1: found -1" in err
    assert not out_file.exists()
    code, _, err = run(capsys, str(file), "--outcome", "y", "--reference", "placebo", "--measure", "hazard-ratio")
    assert code == 2
    code, _, err = run(capsys, str(file), "--reference", "placebo")
    assert code == 2
    assert "--outcome is missing" in err


def test_command_line_adjusts_p_values_and_writes_a_publication_table(
    trial: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    third = trial.assign(arm=np.where(trial.index % 3 == 0, "other", trial["arm"]))
    file = write_table(third, tmp_path / "trial.csv")
    options = ["--outcome", "y", "--reference", "placebo", "--multiplicity", "holm", "--publication", str(tmp_path / "t.html")]
    code, out, err = run(capsys, str(file), *options)
    assert code == 0, err
    assert "multiplicity  holm, 2 comparisons" in out
    assert "adjusted p" in (tmp_path / "t.html").read_text()


def test_effects_start_without_libraries_that_they_do_not_need(trial: pd.DataFrame, tmp_path: Path) -> None:
    import subprocess
    import sys

    file = write_table(trial, tmp_path / "trial.csv")
    script = (
        "import sys\nfrom causalms.cli.main import main\n"
        f"try:\n    main(['effects', {str(file)!r}, '--outcome', 'y', '--reference', 'placebo', '--adjust', 'x', "
        "'--variance', 'influence'])\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'torch', 'pyro', 'statsmodels', 'nibabel', 'sklearn', 'scipy', 'formulaic', 'pandera', 'pydantic'}\n"
        "loaded = heavy & set(sys.modules)\nassert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_adjusted_p_values_join_the_results(trial: pd.DataFrame) -> None:
    third = trial.assign(arm=np.where(trial.index % 3 == 0, "other", trial["arm"]))
    results = with_adjusted_p_values(analyse(third, **grouped_arguments(BASE)).results)
    assert (results["p_adjusted"] >= results["p_value"]).all()
