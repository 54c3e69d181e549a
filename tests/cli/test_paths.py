"""Files that every verb reads and writes: outputs that would destroy something, or cannot be, are refused before any work."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import click
import pandas as pd
import pytest

from causalms.cli.main import VERBS
from causalms.cli.paths import CaptionedPath, InputPath, OutputFolder, OutputPath, Verb
from tests.cli.conftest import EFFECTS
from tests.conftest import Run, files_in, refused


def _command(verb: str) -> click.Command:
    command: click.Command = importlib.import_module(f"causalms.cli.{verb.replace('-', '_')}").command
    return command


def _parameters(kind: type[click.ParamType]) -> Iterator[tuple[str, click.Parameter]]:
    for verb in VERBS:
        for parameter in _command(verb).params:
            if isinstance(parameter.type, kind):
                yield verb, parameter


def _files(kind: type[InputPath | OutputPath]) -> list[object]:
    return [pytest.param(verb, parameter, id=f"{verb} {parameter.opts[0]}") for verb, parameter in _parameters(kind)]


OUTPUTS = _files(OutputPath)
FILES = [each for each in OUTPUTS if not isinstance(each.values[1].type, OutputFolder)]  # type: ignore[attr-defined]
PAIRS = [
    pytest.param(verb, read, written, id=f"{verb} {written.opts[0]} over {read.opts[0]}")
    for verb, written in _parameters(OutputPath)
    for read in _command(verb).params
    if isinstance(read.type, InputPath)
]
TWO_OUTPUTS = [
    pytest.param(verb, one, other, id=f"{verb} {one.opts[0]} and {other.opts[0]}")
    for verb in VERBS
    for number, one in enumerate(_command(verb).params)
    for other in _command(verb).params[:number]
    if isinstance(one.type, OutputPath) and isinstance(other.type, OutputPath)
]


def _line(verb: str, values: dict[str, str], folder: Path) -> list[str]:
    """A command line of a verb with these values, and made-up ones of what else it needs."""
    words: list[str] = []
    arguments: list[str] = []
    for parameter in _command(verb).params:
        name = str(parameter.name)
        value = values.get(name)
        if value is None:
            if not parameter.required:
                continue
            value = str(folder / f"made-up-{name}{_ending(parameter)}") if isinstance(parameter.type, click.Path) else "x"
        if isinstance(parameter, click.Argument):
            arguments.append(value)
        else:
            words += [parameter.opts[0], value]
    return [verb, *words, *arguments]


def _ending(parameter: click.Parameter) -> str:
    return (
        ""
        if isinstance(parameter.type, OutputFolder) or not isinstance(parameter.type, OutputPath)
        else parameter.type.endings[0]
    )


def _value(parameter: click.Parameter, file: Path) -> str:
    return f"{file}=caption" if isinstance(parameter.type, CaptionedPath) else str(file)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """No verb may begin its work."""
    for verb in VERBS:
        monkeypatch.setattr(_command(verb), "callback", lambda **options: pytest.fail("work began"))


def test_every_verb_looks_at_its_files_and_declares_each_as_read_or_written() -> None:
    for verb in VERBS:
        command = _command(verb)
        assert isinstance(command, Verb)
        for parameter in command.params:
            assert not isinstance(parameter.type, click.Path | click.File) or isinstance(parameter.type, InputPath | OutputPath)


def _input(written: click.Parameter, folder: Path) -> Path:
    """Something to read of the kind that the output would be: a file with its ending, or a folder."""
    place = folder / f"Input{_ending(written)}"
    if isinstance(written.type, OutputFolder):
        place = place.with_suffix(".yaml")
        place.mkdir()
        (place / "content").write_text("what is read")
    else:
        place.write_text("what is read")
    return place


def _respelt(place: Path, spelling: str) -> str:
    beside = place.with_name(f"beside{place.suffix}")
    match spelling:
        case "relative":
            return os.path.relpath(place)
        case "with dots":
            return f"{place.parent}/../{place.parent.name}/./{place.name}"
        case "symbolic link":
            beside.symlink_to(place)
        case "hard link" if place.is_file():
            beside.hardlink_to(place)
        case "linked folder":
            beside.with_suffix("").symlink_to(place.parent)
            return str(beside.with_suffix("") / place.name)
        case "other case":
            return str(place.with_name(place.name.swapcase().replace(place.suffix.swapcase(), place.suffix)))
        case _:
            return str(place)
    return str(beside)


@pytest.mark.parametrize(("verb", "read", "written"), PAIRS)
@pytest.mark.parametrize(
    "spelling", ["as it is", "relative", "with dots", "symbolic link", "hard link", "linked folder", "other case"]
)
def test_output_that_is_an_input_is_refused_before_work(
    run: Run, tmp_path: Path, no_work: None, verb: str, read: click.Parameter, written: click.Parameter, spelling: str
) -> None:
    place = _input(written, tmp_path)
    values = {str(read.name): _value(read, place), str(written.name): _respelt(place, spelling)}
    before = files_in(tmp_path)
    refused(run(*_line(verb, values, tmp_path)), 2, "is the same file as", "which is read; name another file")
    assert files_in(tmp_path) == before
    assert "what is read" in ((place / "content") if place.is_dir() else place).read_text()


@pytest.mark.parametrize(("verb", "one", "other"), TWO_OUTPUTS)
@pytest.mark.parametrize("spelling", ["as it is", "with dots", "linked folder", "other case"])
def test_two_outputs_on_one_file_are_refused_before_work(
    run: Run, tmp_path: Path, no_work: None, verb: str, one: click.Parameter, other: click.Parameter, spelling: str
) -> None:
    folders = [isinstance(parameter.type, OutputFolder) for parameter in (one, other)]
    place = tmp_path / ("Same" if all(folders) else f"Same{_ending(other) or _ending(one)}")
    values = {str(one.name): str(place), str(other.name): _respelt(place, spelling)}
    refused(run(*_line(verb, values, tmp_path)), 2, "is written there too; give each a place of its own")


@pytest.mark.parametrize(("verb", "written"), OUTPUTS)
def test_output_below_a_file_is_refused_before_work(
    run: Run, tmp_path: Path, no_work: None, verb: str, written: click.Parameter
) -> None:
    (tmp_path / "note").write_text("a file")
    place = tmp_path / "note" / f"out{_ending(written)}"
    refused(run(*_line(verb, {str(written.name): str(place)}, tmp_path)), 1, "cannot be written", "note is a file, not a folder")


@pytest.mark.parametrize(("verb", "written"), OUTPUTS)
def test_output_of_an_impossible_name_is_refused_before_work(
    run: Run, tmp_path: Path, no_work: None, verb: str, written: click.Parameter
) -> None:
    place = tmp_path / ("long" * 80 + _ending(written))
    refused(run(*_line(verb, {str(written.name): str(place)}, tmp_path)), 1, "cannot be written", "too long")


@pytest.mark.parametrize(("verb", "written"), OUTPUTS)
def test_output_in_a_closed_folder_is_refused_before_work(
    run: Run, tmp_path: Path, no_work: None, monkeypatch: pytest.MonkeyPatch, verb: str, written: click.Parameter
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    access = os.access  # asked, not tried: a superuser may write anywhere
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed" and access(path, mode))
    place = closed / f"out{_ending(written)}"
    refused(run(*_line(verb, {str(written.name): str(place)}, tmp_path)), 1, "cannot be written", "closed")


@pytest.mark.parametrize(("verb", "written"), OUTPUTS)
@pytest.mark.parametrize("there", [False, True])
def test_output_in_a_folder_that_is_missing_is_made_by_every_verb_unless_it_cannot_be(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, written: click.Parameter, there: bool
) -> None:
    began: list[str] = []
    monkeypatch.setattr(_command(verb), "callback", lambda **options: began.append(verb))
    if there:
        (tmp_path / "new").write_text("a file, not a folder")
    ended = run(*_line(verb, {str(written.name): str(tmp_path / "new" / "deep" / f"out{_ending(written)}")}, tmp_path))
    if there:
        refused(ended, 1, "cannot be written, new is a file, not a folder; name another place")
    assert began == ([] if there else [verb])


@pytest.mark.parametrize(("verb", "written"), FILES)
@pytest.mark.parametrize("ending", [".xyz", ""])
def test_output_of_a_format_that_is_not_written_is_refused_before_work(
    run: Run, tmp_path: Path, no_work: None, verb: str, written: click.Parameter, ending: str
) -> None:
    refused(run(*_line(verb, {str(written.name): str(tmp_path / f"out{ending}")}, tmp_path)), 2, f" as {_ending(written)}")


@pytest.mark.parametrize(("verb", "written"), FILES)
def test_output_that_is_a_folder_is_refused_before_work(
    run: Run, tmp_path: Path, no_work: None, verb: str, written: click.Parameter
) -> None:
    place = tmp_path / f"out{_ending(written)}"
    place.mkdir()
    refused(run(*_line(verb, {str(written.name): str(place)}, tmp_path)), 1, "it is a folder; name a file")


@pytest.mark.parametrize(("verb", "written"), FILES)
def test_output_that_is_a_pipe_is_refused_before_work(
    run: Run, tmp_path: Path, no_work: None, verb: str, written: click.Parameter
) -> None:
    place = tmp_path / f"out{_ending(written)}"
    os.mkfifo(place)
    refused(run(*_line(verb, {str(written.name): str(place)}, tmp_path)), 1, "a device or a pipe")


@pytest.mark.parametrize(("verb", "written"), [each for each in OUTPUTS if each not in FILES and not each.values[1].type.fill])
def test_new_folder_that_is_taken_is_refused_before_work(
    run: Run, tmp_path: Path, no_work: None, verb: str, written: click.Parameter
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "note").write_text("finished work")
    line = _line(verb, {str(written.name): str(tmp_path / "taken")}, tmp_path)
    refused(run(*line), 1, "taken: exists and is not an empty folder")
    assert (tmp_path / "taken" / "note").read_text() == "finished work"


def test_output_over_the_tables_of_a_folder_that_is_read_is_refused(run: Run, tmp_path: Path, no_work: None) -> None:
    (tmp_path / "trial" / "sub-1").mkdir(parents=True)
    for name in ("participants.tsv", "sub-1/sessions.tsv"):
        (tmp_path / "trial" / name).write_text("participant_id\tarm\n")
        line = ["effects", tmp_path / "trial", "--reference", "a", "--out", tmp_path / "trial" / name]
        refused(run(*line), 2, "is a part of TABLE", "name another file")


def test_results_may_lie_in_the_folder_that_is_read_and_be_written_again(run: Run, tmp_path: Path, table: pd.DataFrame) -> None:
    table.to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    for _ in range(2):
        assert run("effects", tmp_path, *EFFECTS, "--out", tmp_path / "results.csv").code == 0


def test_record_of_the_draws_that_are_read_is_not_replaced(run: Run, tmp_path: Path, no_work: None) -> None:
    line = ["calibrate", tmp_path / "d.csv", "--observed", tmp_path / "t", "--recalibrate", tmp_path / "d.parquet"]
    refused(run(*line), 2, "--recalibrate (with it", "d.queries.json): is the same file as DRAWS (with it")


def test_output_through_a_link_replaces_what_it_leads_to_and_keeps_its_rights(
    run: Run, tmp_path: Path, table: pd.DataFrame
) -> None:
    (tmp_path / "far").mkdir()
    table.to_csv(tmp_path / "t.csv", index=False)
    results, link = tmp_path / "far" / "results.csv", tmp_path / "link.csv"
    results.write_text("earlier results")
    results.chmod(0o600)
    link.symlink_to(results)
    assert run("effects", tmp_path / "t.csv", *EFFECTS, "--out", link).code == 0
    assert link.is_symlink()
    assert "rate ratio" in results.read_text()
    assert results.stat().st_mode & 0o777 == 0o600
    assert files_in(tmp_path) == ["far", "far/results.csv", "link.csv", "t.csv"]


def test_output_through_a_link_to_nothing_yet_makes_the_file_it_leads_to(run: Run, tmp_path: Path, table: pd.DataFrame) -> None:
    table.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "link.csv").symlink_to(tmp_path / "new.csv")
    assert run("effects", tmp_path / "t.csv", *EFFECTS, "--out", tmp_path / "link.csv").code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert "rate ratio" in (tmp_path / "new.csv").read_text()


def test_links_that_lead_in_a_circle_are_refused(run: Run, tmp_path: Path, no_work: None) -> None:
    (tmp_path / "a.csv").symlink_to(tmp_path / "b.csv")
    (tmp_path / "b.csv").symlink_to(tmp_path / "a.csv")
    refused(run("effects", tmp_path / "t.csv", "--reference", "a", "--out", tmp_path / "a.csv"), 1, "symbolic links")
