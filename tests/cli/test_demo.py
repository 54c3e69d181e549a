"""The demonstration says what a trial of its size cannot show, and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from causalms.cli.walkthrough import Walkthrough
from causalms.errors import RefusalError


def test_trials_too_small_for_an_effect_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    walk = Walkthrough(tmp_path, 24, 48, "reference", 4, 1)
    walk.report.add_section("Effects")
    table = walk.randomised_effects()
    progress_lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" not shown: ")[0] for line in progress_lines] == [
        "note: randomised effect of DEFINE",
        "note: randomised effect of OPERA-I",
        "note: randomised effect of OPERA-II",
    ]
    assert {name.split(",")[0] for name in table["population"]} == {"BRAVO"}


def test_a_stage_that_is_refused_stands_in_the_report_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = ("effects", "recalibrated", "truth", "sampled", "calibration", "places", "subgroups", "agreement", "twins")
    done: list[str] = []
    for name in stages:
        monkeypatch.setattr(Walkthrough, name, lambda self, name=name: done.append(name))

    def subgroups(self: Walkthrough) -> None:
        raise RefusalError("no patient has an event")

    monkeypatch.setattr(Walkthrough, "subgroups", subgroups)
    page = Walkthrough(tmp_path, 40, 48, "reference", 1, 1).run().read_text()
    assert done == [name for name in stages if name != "subgroups"]
    assert "Not shown, subgroups: no patient has an event" in page
