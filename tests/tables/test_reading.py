"""Reading tables: every format by one rule, odd cells named with their mend, cut files refused."""

import gzip
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyreadstat
import pytest

from causalms.errors import DataNote, InputError, UsageError
from causalms.tables import as_frame, read_table, refuse_lookalikes, refuse_words_among_numbers, validate, write_table


def people(n=60):
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "pid": [f"p{i:03d}" for i in range(n)],
            "arm": np.resize(["placebo", "drug"], n),
            "y": rng.poisson(2, n),
            "age": rng.normal(40, 8, n).round(1),
        }
    )


def write_xpt(table, path, version=5):
    pyreadstat.write_xport(table, path, file_format_version=version)


WRITERS = {
    "t.csv": lambda table, path: table.to_csv(path, index=False),
    "t.csv.gz": lambda table, path: table.to_csv(path, index=False),
    "t.tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    "t.txt": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    "t.parquet": lambda table, path: table.to_parquet(path, index=False),
    "t.xlsx": lambda table, path: table.to_excel(path, index=False),
    "t.dta": lambda table, path: table.to_stata(path, write_index=False),
    "t.sav": pyreadstat.write_sav,
    "t.xpt": write_xpt,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_table(tmp_path, name):
    table = people()
    WRITERS[name](table, tmp_path / name)
    read = read_table(tmp_path / name)
    pd.testing.assert_frame_equal(read, table, check_dtype=False)


@pytest.mark.parametrize("name", WRITERS)
def test_a_blank_cell_is_missing_in_every_format(tmp_path, name):
    table = people()
    table["arm"] = table["arm"].astype(object)
    table.loc[[3, 7], "arm"] = ["", "  "]
    WRITERS[name](table, tmp_path / name)
    assert np.flatnonzero(read_table(tmp_path / name)["arm"].isna()).tolist() == [3, 7]


@pytest.mark.parametrize("frame", [lambda t: t, pa.Table.from_pandas], ids=["pandas", "arrow"])
def test_a_blank_cell_is_missing_in_frames_too(frame):
    table = people().assign(arm=np.resize(["placebo", "drug", " "], 60))
    assert as_frame(frame(table))["arm"].isna().sum() == 20


@pytest.mark.parametrize("mark", [".", "ND", "NA", "n/a", "unknown", "#N/A", ".A", "not done"])
def test_marks_among_numbers_are_missing_counted_and_said(tmp_path, mark):
    table = people().astype({"age": object})
    table.loc[[3, 50], "age"] = mark
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(DataNote, match="column 'age': 2 cells .* among numbers are read as missing"):
        read = read_table(tmp_path / "t.csv")
    assert read["age"].dtype == float
    assert np.flatnonzero(read["age"].isna()).tolist() == [3, 50]


@pytest.mark.parametrize("word", ["NA", "None", "null"])
def test_a_word_among_words_is_a_name_unless_said_otherwise(tmp_path, word):
    people().assign(arm=np.resize(["placebo", word], 60)).to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(DataNote, match=f"column 'arm': 30 cells '{word}' are read as a name; name it in `na`"):
        assert (read_table(tmp_path / "t.csv")["arm"] == word).sum() == 30
    assert read_table(tmp_path / "t.csv", na=[word])["arm"].isna().sum() == 30


def test_numbers_with_a_leading_zero_are_codes_and_keep_it(tmp_path):
    (tmp_path / "t.csv").write_text("site,y\n007,1\n7,2\n")
    assert read_table(tmp_path / "t.csv")["site"].tolist() == ["007", "7"]


def test_identifiers_that_a_float_would_round_keep_every_digit_beside_an_empty_cell(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("site,y\n9007199254740993,1\n9007199254740992,2\n,3\n")
    assert read_table(tmp_path / "t.csv")["site"].tolist()[:2] == ["9007199254740993", "9007199254740992"]
    (tmp_path / "t.csv").write_text("site,y\n9007199254740993,1\n9007199254740992,2\n")
    assert read_table(tmp_path / "t.csv")["site"].tolist() == [9007199254740993, 9007199254740992]
    (tmp_path / "t.csv").write_text("volume,y\n1e17,1\n2.5e20,2\n,3\n")
    assert read_table(tmp_path / "t.csv")["volume"].tolist()[:2] == [1e17, 2.5e20]


@pytest.mark.parametrize(
    ("cell", "mend"),
    [
        ("43,6", "write 43.6, or read the file with `decimal=,`"),
        ("1_000", "write 1000"),
        ("1,000", "write 1000, or 1.000 if the comma is a decimal one"),
        ("1 000", "write 1000"),
        ("\uff14\uff13", "write it in the digits 0 to 9: 43"),
        ("\u0664\u0663", "write it in the digits 0 to 9: 43"),
        ("forty", "correct it, or name it in `na`"),
        ("40y", "correct it, or name it in `na`"),
    ],
)
def test_a_word_in_a_column_of_numbers_is_named_with_its_row_and_mend(cell, mend):
    values = people()["age"].astype(object)
    values.iloc[5] = cell
    with pytest.raises(InputError) as refusal:
        refuse_words_among_numbers(values, "t.csv")
    assert str(refusal.value) == f"t.csv: column 'age', row 6: found {cell!r}, expected a number; {mend}"


def test_a_column_of_words_is_no_column_of_numbers():
    refuse_words_among_numbers(pd.Series(["A", "B", "1"], name="site"), "t.csv")


@pytest.mark.parametrize(
    ("content", "proposal", "options"),
    [
        (b"x;y\n1;2\n", "add `separator=';'`", {"separator": ";"}),
        (b"x|y\n1|2\n", "add `separator='|'`", {"separator": "|"}),
        (b"x\ty\n1\t2\n", r"add `separator='\\t'`", {"separator": "tab"}),
        (
            "x,\xe9\n1,2\n".encode("latin-1"),
            "line 1 is not UTF-8; save it as UTF-8, or read it with `encoding=latin-1`",
            {"encoding": "latin-1"},
        ),
        ("x,y\n1,2\n".encode("utf-16-le"), "NUL bytes", {"encoding": "utf-16-le"}),
    ],
)
def test_what_does_not_fit_is_refused_with_the_option_that_does(tmp_path, content, proposal, options):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=proposal):
        read_table(tmp_path / "t.csv")
    assert read_table(tmp_path / "t.csv", **options).iloc[0].tolist() == [1, 2]


def test_decimal_commas_are_read_when_named(tmp_path):
    (tmp_path / "t.csv").write_text("x;y\n1,5;2\n")
    assert read_table(tmp_path / "t.csv", separator=";", decimal=",").iloc[0].tolist() == [1.5, 2]


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, mark):
    (tmp_path / "t.csv").write_bytes("arm,y\r\nplac\xe9bo,1\r\n".encode(mark))
    assert read_table(tmp_path / "t.csv").iloc[0].tolist() == ["plac\xe9bo", 1]


@pytest.mark.parametrize(
    "options", [{"separator": "ab"}, {"separator": ",", "decimal": ","}, {"decimal": ";"}, {"encoding": "klingon"}]
)
def test_options_that_make_no_sense_are_misuse(tmp_path, options):
    (tmp_path / "t.csv").write_text("x,y\n1,2\n")
    with pytest.raises(UsageError):
        read_table(tmp_path / "t.csv", **options)


@pytest.mark.parametrize("version", [5, 8])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_a_cut_transport_file_is_refused_wherever_it_is_cut(tmp_path, version, share):
    write_xpt(people(), tmp_path / "t.xpt", version)
    content = (tmp_path / "t.xpt").read_bytes()
    for cut in (int(share * len(content)), int(share * len(content)) // 80 * 80):
        (tmp_path / "cut.xpt").write_bytes(content[:cut])
        with pytest.raises(InputError, match=r"cut.xpt: .*(cut or damaged|no library header|holds no rows)"):
            read_table(tmp_path / "cut.xpt")


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("t.csv", "t.tsv", "t.txt")])
def test_a_cut_file_is_one_line_with_its_name(tmp_path, name):
    WRITERS[name](people(), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=name) as refusal:
        read_table(tmp_path / name)
    assert "\n" not in str(refusal.value)


def test_a_pipe_is_read(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("x,y\n1,2\n"))
    writer.start()
    assert read_table(pipe).iloc[0].tolist() == [1, 2]
    writer.join()


def test_a_compressed_table_is_known_by_its_bytes(tmp_path):
    (tmp_path / "t.csv").write_bytes(gzip.compress(b"x,y\n1,2\n"))
    assert read_table(tmp_path / "t.csv").iloc[0].tolist() == [1, 2]


def test_empty_columns_at_the_end_are_passed_over(tmp_path):
    (tmp_path / "t.csv").write_text("x,y,,\n1,2,,\n3,4,,\n")
    assert read_table(tmp_path / "t.csv").columns.tolist() == ["x", "y"]


@pytest.mark.parametrize(
    "names", [("Placebo", "placebo"), ("drug", "drug "), ("drug", "dr\u200bug"), ("caf\u00e9", "cafe\u0301")]
)
def test_names_that_look_alike_are_refused_with_both_spellings(names):
    with pytest.raises(InputError, match="differ only in case, blanks or invisible characters; spell them alike"):
        refuse_lookalikes(names, "arms", "t.csv")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("age", 564), ("age", -1), ("edss", 15), ("edss", 3.3), ("gd_lesions", 1.5), ("gd_lesions", -2)),
        *(("exposure_years", 1e-12), ("exposure_years", 365), ("t2_volume_ml", 20_000), ("disease_duration", 480)),
        ("relapses_prior_year", 99),
    ],
)
def test_values_that_no_living_patient_has_are_named(column, value):
    table = pd.DataFrame({"participant_id": ["a", "b"], "arm": ["x", "y"], column: [1.0, value]})
    with pytest.raises(InputError, match=f"column '{column}', row 2: found {value}"):
        validate(table, "participants", "t.csv")


def test_nothing_is_said_about_a_table_in_order(tmp_path):
    people().to_csv(tmp_path / "t.csv", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, "a whole number of lesions") for value in (np.inf, -1, 2.5)),
        ("\u0664\u0663", "a number; write it in the digits 0 to 9: 43"),
        ("3,0", "a number; write 3.0"),
    ],
)
def test_an_observed_outcome_that_is_no_count_is_named(value, expected):
    table = pd.DataFrame({"participant_id": list("abc"), "arm": list("xyx"), "net2_lesions_week48": [1, 2, value]})
    with pytest.raises(InputError, match=f"column 'net2_lesions_week48', row 3: found .*, expected {expected}"):
        validate(table, "participants", "t.csv")


def test_a_line_longer_than_the_header_is_named_whether_it_is_the_first_or_not(tmp_path: Path) -> None:
    for line in (2, 3):
        rows = ["a,b", "1,2", "3,4"]
        rows[line - 1] += ",5"
        (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(InputError, match=rf"t.csv: .*line {line}"):
                read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_numbers_of_text_are_read_to_their_last_digit(tmp_path: Path, suffix: str) -> None:
    random = np.random.default_rng(0)
    values = random.random(2000) * 10.0 ** random.integers(-20, 20, 2000)
    (tmp_path / f"t{suffix}").write_text("x\n" + "\n".join(map(repr, map(float, values))) + "\n")
    np.testing.assert_array_equal(read_table(tmp_path / f"t{suffix}")["x"], values)


@pytest.mark.parametrize("row", ["b,2,9", 'b,"2",9', "b,2,,9"])
def test_a_row_longer_than_the_header_is_named_by_its_line(tmp_path: Path, row: str) -> None:
    (tmp_path / "t.csv").write_text(f"arm,y\na,1\n{row}\n")
    with pytest.raises(InputError, match=r"t\.csv: line 3 has [34] cells, the header 2; quote a cell that holds ',', or correct"):
        read_table(tmp_path / "t.csv")


def test_empty_cells_at_the_end_of_rows_and_quoted_separators_are_no_longer_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('arm,y,\n"a, b",1,\nc,2,\n')
    assert read_table(tmp_path / "t.csv").to_dict("list") == {"arm": ["a, b", "c"], "y": [1, 2]}


def test_a_comma_that_may_part_thousands_or_decimals_is_shown_both_ways() -> None:
    with pytest.raises(InputError, match=r"write 1000, or 1\.000 if the comma is a decimal one"):
        refuse_words_among_numbers(pd.Series(["40", "41", "1,000"], name="age"), "t.csv")


def test_bytes_of_a_parquet_file_do_not_tell_how_its_rows_were_joined(tmp_path):
    texts = [f"patient {k} " * 200 for k in range(900)]
    whole = pd.DataFrame({"model_error": texts, "x": range(900)})
    joined = pd.concat([whole[:301], whole[301:302], whole[302:]], ignore_index=True)
    first, second = (write_table(table, tmp_path / f"{k}.parquet").read_bytes() for k, table in enumerate((whole, joined)))
    assert first == second
    whole.attrs["queries"] = {"q": {"seed": 1}}
    assert pd.read_parquet(write_table(whole, tmp_path / "again.parquet")).attrs == whole.attrs


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_a_query_id_that_looks_like_a_number_stays_text(tmp_path, suffix):
    draws = pd.DataFrame({"participant_id": ["a", "b"], "query_id": ["80560708e851", "012345678901"], "draw": [0, 1]})
    read = read_table(write_table(draws, tmp_path / f"draws.{suffix}"))
    assert read["query_id"].tolist() == ["80560708e851", "012345678901"]
