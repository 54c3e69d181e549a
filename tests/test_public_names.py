"""The public face: what dir(), completion, help() and type checkers show is what there is, and it loads when it is first used."""

from __future__ import annotations

import ast
import inspect
import rlcompleter
import subprocess
import sys
from pathlib import Path

import pytest

import causalms
from causalms.errors import UsageError

FUNCTIONS = [name for name in causalms.__all__ if inspect.isfunction(getattr(causalms, name))]


def test_dir_lists_the_public_names_and_nothing_else() -> None:
    assert dir(causalms) == sorted(causalms.__all__)
    assert 20 <= len(causalms.__all__) <= 28


@pytest.mark.parametrize("name", causalms.__all__)
def test_each_public_name_says_what_it_is(name: str) -> None:
    first = (getattr(causalms, name).__doc__ or "").strip().splitlines()[0]
    assert first.endswith(".")
    assert name in (causalms.__doc__ or ""), "help(causalms) names it"


@pytest.mark.parametrize("name", [name for name in causalms.__all__ if name != "figures"])
def test_each_public_name_has_an_example_that_the_doctests_run(name: str) -> None:
    assert ">>> " in (getattr(causalms, name).__doc__ or "")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_misspelt_argument_is_one_line_with_the_near_name(name: str) -> None:
    function = getattr(causalms, name)
    argument = list(inspect.signature(function).parameters)[-1]
    with pytest.raises(UsageError, match=rf"^{name} has no argument '{argument}x'; did you mean '{argument}'\?$"):
        function(**{f"{argument}x": 1})


def test_stub_for_editors_lists_the_same_names_from_the_same_rooms() -> None:
    stub = ast.parse((Path(causalms.__file__).with_name("__init__.pyi")).read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom) and node.module != "causalms"]
    rooms = {alias.name: (node.module or "").removeprefix("causalms.") for node in imports for alias in node.names}
    assert rooms == causalms._ROOM_OF_NAME
    assert sorted(rooms) == sorted(causalms.__all__)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'causalms' has no attribute 'estimates'"):
        causalms.estimates  # noqa: B018


def test_public_name_stays_itself_after_its_room_is_loaded() -> None:
    code = (
        "import causalms, causalms.report, causalms.subgroups\nprint(callable(causalms.write_report), callable(causalms.forest))"
    )
    assert _printed(code) == "True True"


def test_import_loads_no_numpy_and_costs_less_than_fifty_milliseconds() -> None:
    # processor time, because other work on the machine is not the package's; the least of three, because caches fill
    code = "import time, sys; start = time.process_time(); import causalms; took = time.process_time() - start"
    runs = [_printed(f"{code}; print(took, 'numpy' in sys.modules)").split() for _ in range(3)]
    assert {loaded for _, loaded in runs} == {"False"}
    assert min(float(seconds) for seconds, _ in runs) < 0.05


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_function_has_at_most_nine_arguments_each_by_name(name: str) -> None:
    parameters = inspect.signature(getattr(causalms, name)).parameters.values()
    assert all(parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) for parameter in parameters)
    assert len(parameters) <= 9


def test_completion_of_an_interactive_python_offers_the_public_names() -> None:
    complete = rlcompleter.Completer({"causalms": causalms}).attr_matches
    offered = {match.removeprefix("causalms.").rstrip("()") for match in complete("causalms.")}
    assert set(causalms.__all__) <= offered
    assert complete("causalms.sample_s")[0].startswith("causalms.sample_size")


def _printed(code: str) -> str:
    """What a fresh Python prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
