"""The rules of the house that no other tool checks: length, arguments, imports inside functions, names of drugs, words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "causalms").rglob("*.py")) + sorted((ROOT / "studies").rglob("*.py"))
PACKAGE = [file for file in FILES if "causalms" in file.relative_to(ROOT).parts[0]]
LONGEST_FILE, LONGEST_FUNCTION, MOST_ARGUMENTS = 400, 60, 9
#: Libraries that take long to import or belong to an extra: the only ones that a function may import.
HEAVY = {
    "SimpleITK",
    "bids_validator",
    "cc3d",
    "dask",
    "deepbet",
    "distributed",
    "docx",
    "formulaic",
    "jinja2",
    "joblib",
    "matplotlib",
    "narwhals",
    "nibabel",
    "nilearn",
    "pandera",
    "picsl_greedy",
    "pyarrow",
    "pydantic",
    "pyreadstat",
    "pyro",
    "safetensors",
    "scipy",
    "seaborn",
    "sklearn",
    "statsmodels",
    "torch",
    "tqdm",
    "yaml",
    "causalms",
}
DRUGS = re.compile(r"laquinimod|interferon|dimethyl|ocrelizumab|fingolimod|teriflunomide", re.IGNORECASE)


def _named(file: Path) -> str:
    return str(file.relative_to(ROOT))


def _functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef, text: list[str]) -> int:
    """Lines of the body without its docstring, comments and blank lines."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if not body:
        return 0
    lines = text[body[0].lineno - 1 : node.end_lineno]
    return sum(1 for line in lines if line.strip() and not line.strip().startswith("#"))


@pytest.mark.parametrize("file", FILES, ids=_named)
def test_a_file_holds_one_idea_and_a_function_fits_in_a_head(file: Path) -> None:
    text = file.read_text().splitlines()
    assert len(text) <= LONGEST_FILE
    long = {node.name: _code_lines(node, text) for node in _functions(file) if _code_lines(node, text) > LONGEST_FUNCTION}
    assert not long


@pytest.mark.parametrize("file", PACKAGE, ids=_named)
def test_public_functions_take_few_arguments_and_name_each(file: Path) -> None:
    wrong = []
    for node in _functions(file):
        arguments = [
            a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if a.arg not in ("self", "cls")
        ]
        anything = node.args.kwarg is not None and not node.name.startswith("_") and node.name not in ("checked", "grouped")
        if (len(arguments) > MOST_ARGUMENTS and not node.name.startswith("_")) or anything:
            wrong.append(f"{node.name}({', '.join(arguments)}{', **' if anything else ''})")
    assert not wrong


@pytest.mark.parametrize("file", PACKAGE, ids=_named)
def test_functions_import_only_heavy_libraries(file: Path) -> None:
    inside = set()
    for function in _functions(file):
        for node in ast.walk(function):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                inside.add(str(node.module).split(".")[0])
            elif isinstance(node, ast.Import):
                inside |= {alias.name.split(".")[0] for alias in node.names}
    if "cli" in file.parts:
        inside -= {"causalms", "pandas", "numpy"}  # a verb loads its rooms when it runs, so that --help is quick
    assert inside <= HEAVY


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("file", PACKAGE, ids=_named)
def test_a_room_enters_another_by_its_door(file: Path) -> None:
    own = file.relative_to(ROOT).with_suffix("").parts[1]
    past = [
        name for name in _imported(file) if name.startswith("causalms.") and name.count(".") > 1 and name.split(".")[1] != own
    ]
    assert not past


@pytest.mark.parametrize("file", PACKAGE, ids=_named)
def test_drug_names_live_in_the_designs_and_in_published_data_alone(file: Path) -> None:
    if {"phantom", "agreement"} & set(file.parts):
        return
    named = [line for line in file.read_text().splitlines() if DRUGS.search(line)]
    assert not named


@pytest.mark.parametrize("file", PACKAGE, ids=_named)
def test_the_library_names_arguments_and_the_command_line_options(file: Path) -> None:
    if "cli" in file.parts:
        return
    options = [
        node.value
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"(?<![\w-])--[a-z]", node.value)
    ]
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(ast.parse(file.read_text()))
                  if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)}  # fmt: skip
    assert not [text for text in options if text not in docstrings]
