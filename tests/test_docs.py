"""The pages do what they say: every command and every line of Python on them is run, and what is shown is what is printed.

``python tests/test_docs.py`` writes the shown output anew, for whoever changed what is printed on purpose.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ORACLES = Path(__file__).parent / "oracles"
FAST = (
    "sas_and_r.md",
    "csv_to_table_2.md",
    "effects/formulas.md",
    "effects/visits.md",
    "effects/borrowing.md",
    "effects/planning.md",
)
SLOW = ("bids_to_report.md",)
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def rerun(page: Path, folder: Path) -> str:
    """The page with every shown output as it comes now, its code run in ``folder``."""
    names: dict[str, object] = {}
    before = Path.cwd()
    os.chdir(folder)
    try:
        return BLOCK.sub(lambda block: _run(block[1], block[2], names), page.read_text(encoding="utf-8"))
    finally:
        os.chdir(before)


def _run(language: str, text: str, names: dict[str, object]) -> str:
    if language == "python" and ">>> " not in text:
        exec(compile(text, "page", "exec"), names)
        return f"```python\n{text}```"
    prompt, run = (">>> ", lambda line: _python(line, names)) if language == "python" else ("$ ", _command)
    lines = [f"```{language}"]
    entries: list[str] = []
    for line in text.splitlines():
        if line.startswith(prompt):
            entries.append(line)
        elif entries and (line.startswith("... ") or entries[-1].endswith("\\")):
            entries[-1] += "\n" + line
    for entry in entries:
        lines += [entry, *(line.rstrip() for line in run(entry.removeprefix(prompt)).splitlines() if line.strip() != "")]
    return "\n".join([*lines, "```"])


def _python(source: str, names: dict[str, object]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(source.replace("\n... ", "\n"), "page", "single"), names)
    return out.getvalue()


def _command(line: str) -> str:
    from causalms.cli.main import main

    words = shlex.split(line.replace("\\\n", " "))
    if words[0] != "causalms":
        return subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout
    out, before = io.StringIO(), sys.argv
    sys.argv = words
    try:
        with contextlib.redirect_stdout(out):
            main()
    except SystemExit as stop:
        if stop.code not in (0, None):
            out.write(traceback.format_exc())
    finally:
        sys.argv = before
    return out.getvalue()


def examples(folder: Path) -> Path:
    """A folder with the tables that the pages read."""
    for name in ("polyps.csv", "epil_totals.csv", "epil_visits.csv", "cgd.csv"):
        shutil.copy(ORACLES / name, folder / name)
    shutil.copy(DOCS / "examples" / "trial.csv", folder / "trial.csv")
    return folder


def test_tables_that_pages_show_have_the_rows_and_columns_they_ask_for() -> None:
    shown = 0
    for page in DOCS.rglob("*.md"):
        for name, body in re.findall(
            r"^```\{results-table\} (\S+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            options = dict(re.findall(r"^:([\w-]+): (.*)$", body, re.MULTILINE))
            analysis = ROOT / "analyses" / "results" / name
            table = pd.read_csv(analysis if analysis.exists() else ROOT / "studies" / "results" / name)
            rows = table.query(options["where"], engine="python") if "where" in options else table
            assert len(rows), f"{page}: {name}, {options.get('where')}"
            columns = [part.split(" as ")[0].strip() for part in options.get("columns", ",".join(table)).split(",")]
            assert [column for column in columns if column not in table] == [], f"{page}: {name}"
            shown += 1
    assert shown > 10


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_what_the_page_shows_is_what_is_printed(name: str, tmp_path: Path) -> None:
    assert rerun(DOCS / name, examples(tmp_path)) == (DOCS / name).read_text(encoding="utf-8")


def test_digits_of_the_page_for_sas_and_r_users_are_those_of_the_r_script() -> None:
    """Each row of the page's table: the R script's numbers beside ours, alike to six significant digits."""
    text = (DOCS / "sas_and_r.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `?([^|`]+)`? \| ([−\d.]+) \| ([−\d.]+) \| ([−\d.]+) \| ([−\d.]+) \|$", text, re.MULTILINE)
    truth = pd.read_csv(ORACLES / "software_r.csv").set_index("id")
    assert {row[0].strip() for row in rows} == set(truth.index)
    for name, *shown in rows:
        theirs, theirs_se, ours, ours_se = (float(number.replace("−", "-")) for number in shown)
        np.testing.assert_allclose([theirs, theirs_se], truth.loc[name.strip()], rtol=5e-6)
        assert (ours, ours_se) == (theirs, theirs_se)
        assert f"{shown[2]} ({shown[3]})".replace("−", "-") in text, "the Python above prints it"


def test_every_variance_is_explained() -> None:
    from causalms.effects import CHOICES

    explained = (DOCS / "effects" / "models_and_variances.md").read_text(encoding="utf-8").partition("## Variances by name")[2]
    assert [name for name in CHOICES["variance"] if f"`{name}`" not in explained] == []


def test_lines_of_the_gallery_draw_figures_with_their_alternative_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but those that need an assessment of patients, which the script of the calibration analysis draws."""
    monkeypatch.chdir(ROOT)
    blocks = [code for _, code in BLOCK.findall((DOCS / "gallery.md").read_text(encoding="utf-8"))]
    names: dict[str, object] = {}
    drawn = [code.replace("\nfigures.", "\nfigure = figures.") for code in blocks if "assessment" not in code]
    for code in drawn:
        exec(compile(code, "gallery", "exec"), names)
        assert "figure = " not in code or names["figure"].get_label()  # type: ignore[attr-defined]
    assert len(drawn) == 9


if __name__ == "__main__":
    for page in sys.argv[1:] or [*FAST, *SLOW]:
        with tempfile.TemporaryDirectory() as scratch:
            written = rerun(DOCS / page, examples(Path(scratch)))
        (DOCS / page).write_text(written, encoding="utf-8")
