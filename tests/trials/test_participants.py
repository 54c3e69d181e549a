"""Columns of participants.tsv: known in any case, said, and near names proposed."""

import pandas as pd
import pytest

from causalms.errors import InputError
from causalms.trials.participants import read_participants, read_raw_participants
from causalms.trials.table_problems import table_problems


def written(folder, header, row):
    (folder / "participants.tsv").write_text("\t".join(header) + "\n" + "\t".join(row) + "\n")
    return folder


def test_columns_are_known_in_any_case_and_the_respelling_is_said(tmp_path):
    root = written(tmp_path, ["Participant_ID", "Age", "SEX", "EDSS", "Disease duration"], ["1", "53", "f", "0.5", "4"])
    table, notes = read_participants(root)
    assert table[["participant_id", "age", "sex", "edss", "disease_duration"]].iloc[0].tolist() == ["sub-1", 53.0, "F", 0.5, 4.0]
    assert "column 'Disease duration' is read as disease_duration" in notes


def test_identifiers_keep_their_leading_zeros_whatever_the_case_of_their_column(tmp_path):
    assert read_raw_participants(written(tmp_path, ["Participant_Id", "Site"], ["007", "01"])).iloc[0].tolist() == ["007", "01"]


def test_a_column_that_stands_twice_but_for_its_case_is_not_merged(tmp_path):
    table, notes = read_participants(written(tmp_path, ["participant_id", "age", "Age"], ["1", "53", "54"]))
    assert table["age"].iloc[0] == 53.0
    assert "column 'Age' is not read as a covariate; did you mean age?" not in notes


def test_a_near_name_is_proposed(tmp_path):
    _, notes = read_participants(written(tmp_path, ["participant_id", "edss_score", "gd_lesion"], ["1", "2", "0"]))
    assert "column 'gd_lesion' is not read as a covariate; did you mean gd_lesions?" in notes


def test_columns_in_another_unit_are_converted_where_it_is_told_and_said(tmp_path):
    root = written(tmp_path, ["participant_id", "age_months", "disease_duration", "T2_volume_mm3"], ["1", "564", "30", "2500"])
    (root / "participants.json").write_text('{"disease_duration": {"Units": "month"}}')
    table, notes = read_participants(root)
    assert table[["age", "disease_duration", "t2_volume_ml"]].iloc[0].tolist() == [47.0, 2.5, 2.5]
    assert "column 'disease_duration' is converted: participants.json says its unit is month (0.0833333 years)" in notes
    assert any(note.startswith("column 'T2_volume_mm3' is read as t2_volume_ml") for note in notes)


def test_a_column_that_looks_like_another_unit_is_refused_with_the_unit(tmp_path):
    root = written(tmp_path, ["participant_id", "age"], ["1", "564"])
    with pytest.raises(
        InputError, match=r"found 564, expected 0 to 120; the column looks like months: divide by 12, or call it age_m"
    ):
        read_participants(root)
    (root / "participants.json").write_text('{"age": {"Units": "parsec"}}')
    with pytest.raises(InputError, match=r"participants.json: column 'age' has the unit 'parsec'; write one of"):
        read_participants(root)


def test_columns_under_another_name_are_proposed_and_every_other_is_named(tmp_path):
    header = ["participant_id", "Gender", "Age_at_scan", "Treatment", "Gd_count", "weight", "onset_age", "T2_lesion_count"]
    _, notes = read_participants(written(tmp_path, header, ["1", "F", "53", "placebo", "1", "70", "30", "4"]))
    for name, meant in (
        ("T2_lesion_count", "t2_lesions"),
        ("Gender", "sex"),
        ("Age_at_scan", "age"),
        ("Treatment", "arm"),
        ("Gd_count", "gd_lesions"),
    ):
        assert f"column {name!r} is not read as a covariate; did you mean {meant}?" in notes
    assert "no covariates of the model: columns weight, onset_age" in notes


@pytest.mark.parametrize(
    ("name", "cell", "words"), [("sex", "2", "found '2', expected F or M"), ("age", "53Y", "expected a number")]
)
def test_a_cell_that_cannot_be_is_told_in_plain_words(tmp_path, name, cell, words):
    with pytest.raises(InputError, match=words):
        read_participants(written(tmp_path, ["participant_id", name], ["1", cell]))


def test_a_disease_longer_than_the_life_is_named():
    table = pd.DataFrame({"participant_id": ["1", "2"], "age": [53.0, 40.0], "disease_duration": [60.0, 4.0], "arm": "a"})
    found = [problem.what for problem in table_problems(table, "participants.tsv")]
    assert found == ["row 1, column 'disease_duration': found 60 years at age 53"]


def test_blanks_and_capitals_of_identifiers_are_read_without_and_said(tmp_path):
    root = written(tmp_path, ["participant_id", "age"], ["SUB-007 ", "53"])
    table, notes = read_participants(root)
    assert table["participant_id"].tolist() == ["sub-007"]
    assert "1 of participant_id hold blanks or capitals and are read without" in notes
    with (root / "participants.tsv").open("a") as file:
        file.write("007\t54\n")
    with pytest.raises(InputError, match="row 2: participant 'sub-007' stands twice"):
        read_participants(root)
    assert any("stands twice (also in row 1)" in problem.what for problem in table_problems(read_raw_participants(root), "p.tsv"))


def test_a_table_in_another_encoding_is_to_be_saved_as_utf_8(tmp_path):
    (tmp_path / "participants.tsv").write_bytes("participant_id\tage\tort\nsub-1\t53\tMünchen\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"participants\.tsv: line 2 is not UTF-8; save it as UTF-8, "):
        read_participants(tmp_path)
