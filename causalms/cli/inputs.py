"""What the verbs share: the tables they read."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import pandas as pd

from causalms.cli.paths import InputPath
from causalms.effects import read_adam
from causalms.errors import InputError, UsageError
from causalms.tables import (
    TALLY,
    completed_draws,
    is_stored_draws,
    names_of,
    net2_column,
    one_week,
    read_table,
    showing,
    validate,
)

#: Leave the model's own error out, for every verb that prints an interval of a simulated number.
given_model_option = click.option(
    "--given-model",
    is_flag=True,
    help="Simulated numbers: the narrower interval that leaves out the model's own error; no p-value then.",
)

#: What becomes of patients who lack a baseline covariate.
missing_covariates_option = click.option(
    "--missing-covariates",
    type=click.Choice(("indicator", "drop")),
    default="indicator",
    show_default=True,
    help="A missing baseline covariate is its mean beside an indicator, or its patient is left out (drop).",
)

#: The model of a verb that loads one.
model_option = click.option(
    "--model",
    default="reference",
    type=InputPath(str, or_name=True),
    show_default=True,
    help="Checkpoint, or the one that ships.",
)


def _show_digits(context: click.Context, _: click.Parameter, digits: int | None) -> None:
    """Print with so many digits until the verb has ended."""
    context.with_resource(showing(digits))


#: Significant digits of every estimate that a verb prints.
digits_option = click.option(
    "--digits",
    type=click.IntRange(2, 15),
    expose_value=False,
    callback=_show_digits,
    help="Significant digits of printed estimates (p-values: decimals).",
)

_TEXT_FORMAT = "causalms.text_format"
_Verb = TypeVar("_Verb", bound=Callable[..., Any])


def grouped(**kinds: type[Any]) -> Callable[[_Verb], _Verb]:
    """Hand a verb its options in dataclasses: each argument named here takes the options that bear its fields' names.

    A field that is no option of the verb keeps its default.
    """
    names = {argument: {field.name for field in fields(kind)} for argument, kind in kinds.items()}

    def declare(verb: _Verb) -> _Verb:
        @functools.wraps(verb)
        def _with_groups(**options: Any) -> Any:
            groups = {
                argument: kind(**{name: value for name, value in options.items() if name in names[argument]})
                for argument, kind in kinds.items()
            }
            single = {name: value for name, value in options.items() if not any(name in known for known in names.values())}
            return verb(**single, **groups)

        return cast(_Verb, _with_groups)

    return declare


@dataclass(frozen=True)
class Adam:
    """An ADaM BDS dataset in place of one row a subject: where its subjects stand, and which records are the outcome."""

    adsl: Path | None
    paramcd: str | None
    avisit: str | None
    population: str | None

    def rows_of(self, place: Path, column: str = "aval") -> pd.DataFrame:
        """The table at ``place``; with ADSL one row a subject, AVAL of the parameter as ``column``."""
        if self.adsl is None:
            if self.paramcd or self.avisit or self.population:
                raise UsageError("--paramcd, --avisit and --population read an ADaM BDS dataset; name its ADSL with --adsl")
            rows = read(place)
            if {"USUBJID", "PARAMCD", "AVAL"} <= set(rows.columns):
                raise InputError(
                    f"{place}: is an ADaM BDS dataset, a row a record; add --adsl, --paramcd and, for several visits, --avisit"
                )
            return rows
        if not self.paramcd:
            raise UsageError("--adsl needs the parameter of the outcome: --paramcd NET2")
        visit: str | float | None = self.avisit
        if self.avisit is not None:
            with contextlib.suppress(ValueError):
                visit = float(self.avisit)
        return read_adam(table_at(self.adsl), place, parameters={self.paramcd: column}, visit=visit, population=self.population)

    def beside_draws(self, place: Path, draws: str | Path, week: float | None, outcome: str | None) -> pd.DataFrame:
        """The patients of a draws table; of a BDS dataset with the outcome as the column of the visit that is asked about."""
        if self.adsl is None:
            return self.rows_of(place)
        at = one_week(read(draws), None, str(draws)) if week is None else week
        return self.rows_of(place, net2_column(int(at), outcome or "net2_lesions"))


def adam_options(verb: _Verb) -> _Verb:
    """Options of :class:`Adam`."""
    for declare in (
        click.option("--avisit", help="With --adsl: AVISIT (text) or AVISITN (a number) of the records."),
        click.option("--population", metavar="FLAG", help="With --adsl: population flag of ADSL, such as FASFL, ITTFL or SAFFL."),
        click.option("--paramcd", help="With --adsl: the parameter whose AVAL is the outcome."),
        click.option("--adsl", type=InputPath(), help="The patients' table is an ADaM BDS dataset: ADSL with its subjects."),
    ):
        verb = declare(verb)
    return verb


@dataclass(frozen=True)
class ScanOptions:
    """Which session is baseline, and where the lesion masks lie."""

    baseline: str | None
    lesions: str | None


def scan_options(verb: _Verb) -> _Verb:
    """Options of every verb that reads scans: which session is baseline, and where the lesion masks lie."""
    for declare in (
        click.option("--lesions", metavar="DIR|PATTERN",
                     help="Baseline lesion masks of LST-AI, SAMSEG, nnU-Net or another tool: their folder, or a pattern such as "
                          "'lst/{participant}/{session}/*seg-lst.nii.gz'.  [default: derivatives/lesions]"),
        click.option("--baseline", metavar="SESSION",
                     help="Session of the baseline scans.  [default: told by names, dates or numbers, and said]"),
    ):  # fmt: skip
        verb = declare(verb)
    return verb


def text_options(verb: _Verb) -> _Verb:
    """Options of a verb that reads tables of text: how they are written. :func:`read` heeds them."""
    for declare in (
        click.option("--na", multiple=True, metavar="WORD", expose_value=False, callback=_kept,
                     help="A word that means missing in every column; repeat for several."),
        click.option("--encoding", expose_value=False, callback=_kept, help="Encoding of text tables.  [default: UTF-8]"),
        click.option("--decimal", expose_value=False, callback=_kept, help="Decimal sign of text tables: '.' or ','."),
        click.option("--sep", "separator", metavar="CHARACTER", expose_value=False, callback=_kept,
                     help="Separator of text tables.  [default: comma in .csv, tab in .tsv and .txt]"),
    ):  # fmt: skip
        verb = declare(verb)
    return verb


def _kept(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Keep what was given for :func:`read`; click hands the verb nothing of it."""
    if value:
        context.meta.setdefault(_TEXT_FORMAT, {})[parameter.name] = value
    return value


def read(path: str | Path) -> pd.DataFrame:
    """A table of the user's, read as the options of :func:`text_options` say."""
    context = click.get_current_context(silent=True)  # none where a script calls this
    return read_table(path, **(context.meta.get(_TEXT_FORMAT, {}) if context else {}))


def read_draws(path: str, participants: pd.DataFrame | None = None, week: float | None = None) -> pd.DataFrame:
    """A draws table, sampled or expected, also of another simulator, checked."""
    table = completed_draws(read(path), participants, week, path)
    if TALLY in table:
        return table
    return validate(table, "draws" if "draw" in table.columns else "expected", path)


def table_at(place: str | Path) -> Path:
    """The table that a path means: the file itself, or participants.tsv of a BIDS folder.

    Raises
    ------
    InputError
        If there is neither.
    """
    path = Path(place)
    if path.is_dir() and not is_stored_draws(path):
        if not (path / "participants.tsv").is_file():
            raise InputError(f"{path}: a folder without participants.tsv; give a BIDS folder or the table itself")
        return path / "participants.tsv"
    if str(path) != "-" and not path.exists():
        raise InputError(f"{path}: no such file or folder; give a table, or a BIDS folder that holds participants.tsv")
    return path


def trial_of(source: Path, scans: ScanOptions) -> Any:
    """The trial of a BIDS folder, or of a participants table alone."""
    from causalms.causal import as_trial

    if source.is_file():
        for option, given in (("--baseline", scans.baseline), ("--lesions", scans.lesions)):
            if given is not None:
                raise UsageError(f"{option} is about scans, and a table has none; leave it out or give a BIDS folder")
        return as_trial(read(source))
    from causalms.trials import load_trial

    return load_trial(source, baseline=scans.baseline, lesions=scans.lesions)


def of_trial(rows: pd.DataFrame, trial: str | None, source: str) -> pd.DataFrame:
    """The rows of one trial, or all where none is named."""
    if trial is None:
        return rows
    if "trial" not in rows or trial not in set(names_of(rows["trial"])):
        trials = ", ".join(sorted(names_of(rows["trial"]).dropna().unique())) if "trial" in rows else "no column of trials"
        raise InputError(f"{source}: no trial {trial!r}; trials found: {trials}")
    return rows[names_of(rows["trial"]) == trial].reset_index(drop=True)
