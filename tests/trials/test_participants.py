"""Columns of participants.tsv: known in any case, said, and near names proposed."""

from causalms.trials.participants import read_participants, read_raw_participants


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
