"""The README: its lines run as they stand, on fewer patients, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_lines_of_the_readme_print_an_effect(capsys: pytest.CaptureFixture[str]) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert "patients=300" in lines
    names: dict[str, object] = {}
    exec(lines.replace("patients=300", "patients=12").replace("[:4]", "[:1]"), names)
    printed = capsys.readouterr().out
    for word in ("rate ratio", "ocrelizumab", "placebo", "simulated"):
        assert word in printed
    assert set(names["twins"]["arm"]) >= {"ocrelizumab"}  # type: ignore[index]


def test_links_of_the_readme_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) >= 6
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_readme_names_the_extras_that_there_are() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(re.findall(r'"\.\[(\w+)\]"', README)) <= set(extras)
