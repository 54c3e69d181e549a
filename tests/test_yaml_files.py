"""YAML of users is data: sizes, depths, aliases, dates and keys are checked, and the fault is one line with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from causalms.errors import InputError
from causalms.yaml_files import LARGEST_YAML, read_yaml


def content(folder: Path, text: str | bytes) -> object:
    file = folder / "a.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(file, "write name and rules")


def test_plain_data_are_read(tmp_path: Path) -> None:
    assert content(tmp_path, "name: x\nrules: [{when: a > 1, arm: b}]\n") == {
        "name": "x",
        "rules": [{"when": "a > 1", "arm": "b"}],
    }


def test_an_alias_is_what_it_stands_for(tmp_path: Path) -> None:
    assert content(tmp_path, "a: &a {x: 1}\nb: *a\nc:\n  <<: *a\n  y: 2\n") == {
        "a": {"x": 1},
        "b": {"x": 1},
        "c": {"x": 1, "y": 2},
    }


BOMB = "a: &a [x, x]\n" + "".join(f"{chr(98 + k)}: &{chr(98 + k)} [*{chr(97 + k)}, *{chr(97 + k)}]\n" for k in range(20))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "stands for more than 50,000 values"),
        ("a: 1\nb: *a\n", "line 2: not readable as YAML (found undefined alias"),
        ("a: &a [*a]\n", "line 1: an alias stands for what holds it"),
        ("a: &a [x]\n" + "".join(f"b{k}: &b{k} [*b{k - 1}]\n" for k in range(1, 40)).replace("*b0", "*a"), "more than 20 deep"),
        ("[" * 3000, "line 1: nested more than 20 deep"),
        ("a:\n" + "".join("  " * k + "- \n" for k in range(1, 60)) + "  " * 60 + "x", "nested more than 20 deep"),
        ("a: !!python/object/apply:os.system ['touch ran']\n", "line 1: not readable as YAML"),
        ("a: !!python/name:os.system\n", "line 1: not readable as YAML"),
        ("a: 1\nwritten: 2026-02-31\n", "line 2: '2026-02-31' is no date that exists"),
        ("a: 2026-13-01 10:00:00\n", "is no date that exists"),
        ("a: " + "9" * 5000, "is no number that exists"),
        ("a: 1\na: 2\n", "line 2: key 'a' stands twice"),
        ("? [1, 2]\n: x\n", "a key is a list or mapping"),
        ("a: [1\n", "line 2: not readable as YAML"),
        ("a: 1\n--- \nb: 2\n", "not readable as YAML"),
        ("a: \x00\n", "not readable as YAML"),
        (b"a: \xff\n", "byte 4 is not UTF-8"),
        ("a: " + "x" * LARGEST_YAML, f"longer than {LARGEST_YAML:,} characters"),
    ],
)
def test_everything_else_is_one_line_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        content(tmp_path, text)
    message = str(refused.value)
    assert words in message
    assert message.startswith(str(tmp_path / "a.yaml"))
    assert message.endswith(("write name and rules", "save it as UTF-8"))
    assert "\n" not in message
    assert [file.name for file in tmp_path.iterdir()] == ["a.yaml"]
