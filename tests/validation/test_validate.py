"""validate: R's digits pass, a plan is judged, faults of a plan are one line, protocols hold every check; a fault is caught."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from causalms.errors import InputError, UsageError
from causalms.tables import read_table
from causalms.validation import validate, write_protocol
from causalms.validation.numbers import digest, release_digits, release_runs, same_digits
from causalms.validation.shipped_tables import DATA
from studies.mutations.__main__ import mutate, sites

ORACLES = Path(__file__).parents[1] / "oracles"


def _plan(tmp_path: Path, expect: str) -> Path:
    path = tmp_path / "plan.yaml"
    arguments = f"{{table: {ORACLES / 'polyps.csv'}, outcome: number, arm: treat, reference: placebo, variance: influence}}"
    path.write_text(f"- id: a\n  requirement: as planned\n  arguments: {arguments}\n  expect: {{{expect}}}\n", encoding="utf-8")
    return path


def test_r_digits_and_installation_pass_and_a_plan_is_judged(tmp_path: Path) -> None:
    validation = validate(_plan(tmp_path, "n: 9, estimate: 0.5"), parts=["installation", "R"])
    assert [check.id for check in validation.failed] == ["P-a"]
    assert validation.counts.loc["R", "checks"] >= 8
    for ending in (".html", ".docx"):
        assert write_protocol(validation, tmp_path / f"v{ending}").stat().st_size > 2000
    assert "P-a" in (tmp_path / "v.html").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match=r"written as \.html or \.docx"):
        write_protocol(validation, tmp_path / "v.pdf")


def test_a_plan_with_a_fault_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="check 1 expects 'estimat'"):
        validate(_plan(tmp_path, "estimat: 1"), parts=[])
    (tmp_path / "no.yaml").write_text("a: 1\n", encoding="utf-8")
    with pytest.raises(InputError, match="found no list"):
        validate(tmp_path / "no.yaml", parts=[])


def test_release_digits_are_named_once() -> None:
    """The whole table is what ``validate`` runs."""
    names = [name for name, _ in release_runs()]
    assert len(names) == len(set(names)) > 1000
    kinds = {name.partition(":")[0] for name in names}
    assert {"effects", "family", "visits", "batch", "borrow", "simulated", "draws", "example"} <= kinds


@pytest.mark.parametrize("name", ["effects: clusters cr2 negbin age", "visits: ar1 robust True None", "error model", "conformal"])
def test_release_digits_come_again_and_a_change_of_one_number_is_seen(name: str) -> None:
    known = read_table(DATA / "release_digits.csv").set_index("id").loc[name].tolist()
    assert same_digits(release_digits(dict(release_runs())[name]), tuple(known))
    numbers = np.array([0.5, 1e-4, 3000.0, 0.02])
    for place in range(4):
        moved = numbers.copy()
        moved[place] *= 1 + 1e-4
        assert not same_digits(digest(moved), digest(numbers))


def test_faults_change_what_they_are_put_into() -> None:
    tree = ast.parse("def f(x):\n    if x > 1:\n        return x * 2\n    return x + 1\n")
    kinds = [kind for _, kind in sites(tree)]
    assert sorted(kinds) == ["comparison", "condition", "constant", "constant", "constant", "operator", "operator"]
    for index in range(len(kinds)):
        fresh = ast.parse(ast.unparse(tree))
        mutate(*sites(fresh)[index])
        assert ast.unparse(fresh) != ast.unparse(tree)
