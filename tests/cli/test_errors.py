"""Errors of the library in the words of the command line: its arguments are said as the options of the verb that runs."""

from __future__ import annotations

import importlib

import pytest

from causalms.cli.main import as_options
from tests.conftest import Run, refused


@pytest.mark.parametrize(
    ("verb", "message", "printed"),
    [
        ("effects", "`variance=small-sample` for few patients", "--variance small-sample for few patients"),
        ("subgroups", "`outcome`: found 'x'", "--outcome: found 'x'"),
        ("agree", "name it with `reference`", "name it with --reference"),
        ("query", "found two; name one `week`", "found two; name one --week"),
        ("query", "give `draws=64` or more to `reference`", "give --draws 64 or more to --reference"),
    ],
)
def test_argument_in_backticks_becomes_the_option_of_the_verb(verb: str, message: str, printed: str) -> None:
    assert as_options(message, importlib.import_module(f"causalms.cli.{verb}").command) == printed


@pytest.mark.parametrize("verb", ["effects", "subgroups", "agree", "query"])
def test_argument_that_is_no_option_stays_readable(verb: str) -> None:
    command = importlib.import_module(f"causalms.cli.{verb}").command
    assert as_options("`inner_name`: found 3; give `inner_name=4`", command) == "inner_name: found 3; give inner_name=4"


def test_unknown_verb_is_refused_with_the_near_name(run: Run) -> None:
    refused(run("effcts"), 2, "no verb 'effcts'; did you mean 'effects'?", "causalms --help")


def test_unknown_verb_like_no_other_lists_the_verbs(run: Run) -> None:
    refused(run("zzz"), 2, "no verb 'zzz'; verbs are demo, simulate")
