"""The command line: one verb a module of :mod:`causalms.cli`; errors in one line."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

import click

from causalms import __version__
from causalms.cli.terminal import drop_output, flush_streams, prepare_streams
from causalms.errors import CausalmsError, DataNote, missing_extra

#: The verbs in the order of work, each with what it answers; a verb is the module of its name (- as _).
VERBS = {
    "demo": "Run everything once on a simulated trial and write one report.",
    "simulate": "Simulate a trial whose truth is known, as a BIDS folder.",
    "check": "List every problem of a BIDS folder, one line each.",
    "register": "Bring raw scans to MNI152 space, with their masks.",
    "lesions": "Count and measure the lesions of masks.",
    "inject": "Put known lesions into your own brains: how many a count finds.",
    "train": "Train a generator on a trial.",
    "forecast": "Forecast new and enlarging lesions of patients under an arm.",
    "query": "What each patient would have had under other arms.",
    "merge": "Put the shards of a query or forecast together.",
    "effects": "Treatment effects from a table of outcomes or of draws.",
    "visits": "Treatment effects from a table with a count per visit.",
    "borrow": "Effects whose control arm borrows simulated or historical controls.",
    "external-control": "Treated patients against external controls, doubly robust.",
    "sample-size": "Patients for a rate ratio, with and without a prognosis; schedules of scans.",
    "calibrate": "Judge predicted counts by the counts observed.",
    "subgroups": "Effects by subgroup, interactions, and who benefits.",
    "controls": "Negative controls: questions whose answer is known to be no effect.",
    "agree": "Simulated effects against randomised or published ones.",
    "benchmark": "A model scored on the frozen phantom, beside others.",
    "report": "One HTML page from tables of results.",
    "validate": "Check this installation: R's digits, those of the release, examples, your own plan.",
}
#: Verbs that keep what they have finished until the whole is done.
_GO_ON = ("train", "query", "register")
#: The extra that a verb needs in full, so that one line installs all of it.
_EXTRA_OF_VERB = {
    "demo": "all",
    "register": "register",
    **dict.fromkeys(("train", "forecast", "query", "controls", "merge"), "model"),
    **dict.fromkeys(("simulate", "check", "lesions", "inject", "benchmark"), "images"),
}


class _Verbs(click.Group):
    """Load a verb's module only when that verb is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"causalms.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without loading any of them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; arguments that an error of the library names are said as the verb's options.

        Where a package of an optional extra is missing, the error is the line that installs what the verb needs.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", DataNote)
                warnings.showwarning = self._note_once(ctx, warnings.showwarning)
                return super().invoke(ctx)
        except ModuleNotFoundError as error:
            refusal = missing_extra(error, _EXTRA_OF_VERB.get(ctx.invoked_subcommand or ""))
            raise error if refusal is None else refusal from None
        except CausalmsError as error:
            verb = self.get_command(ctx, ctx.invoked_subcommand or "")
            if verb is not None:
                error.args = (as_options(str(error), verb), *error.args[1:])
            raise

    def _note_once(self, ctx: click.Context, show: Callable[..., None]) -> Callable[..., None]:
        """Print how a table was read as a note, once, in the words of the verb; other warnings are shown as ever."""
        printed: set[str] = set()

        def _shown(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, DataNote):
                show(message, category, *where, **more)
                return
            note, verb = str(message), self.get_command(ctx, ctx.invoked_subcommand or "")
            if note.partition(": ")[2] not in printed:
                printed.add(note.partition(": ")[2])
                click.echo(f"note: {note if verb is None else as_options(note, verb)}", err=True)

        return _shown

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that is asked for; an unknown one is refused with the near name."""
        if args[0] not in VERBS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], VERBS, 1)
            mend = f"did you mean {near[0]!r}?" if near else f"verbs are {', '.join(VERBS)}"
            ctx.fail(f"no verb {args[0]!r}; {mend}")
        return super().resolve_command(ctx, args)


_ARGUMENT = re.compile(r"`([a-z_]+)(?:=([^`]+))?`")


def as_options(message: str, verb: click.Command) -> str:
    """A message of the library in the words of the command line: arguments in backticks become the verb's options.

    Examples
    --------
    >>> verb = click.Command("v", params=[click.Option(["--working-model"])])
    >>> as_options("use `working_model=linear`, not `X`", verb)
    'use --working-model linear, not `X`'
    """
    declared = [parameter for parameter in verb.params if isinstance(parameter, click.Option)]
    options = {parameter.opts[0].lstrip("-").replace("-", "_"): parameter.opts[0] for parameter in declared}
    options |= {parameter.name: parameter.opts[0] for parameter in declared if parameter.name}

    def as_option(match: re.Match[str]) -> str:
        option = options.get(match[1])
        if option is None:
            return match[1] if match[2] is None else f"{match[1]}={match[2]}"
        return option if match[2] is None else f"{option} {match[2]}"

    return _ARGUMENT.sub(as_option, message)


def say_note(note: str) -> None:
    """Print a remark of the library in the words of the verb that runs."""
    click.echo(f"note: {as_options(note, click.get_current_context().command)}")


@click.group(
    cls=_Verbs, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="causalms")
@click.pass_context
def app(ctx: click.Context) -> None:
    """What would this patient, this arm, this subgroup have had under another drug? Not for clinical use.

    \b
    Example:
      causalms effects trial.csv --outcome lesions --reference placebo --exposure years
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every foreseen error is one line on standard error and exit code 1 or 2."""
    stopped_by = _unwind_on_signals()
    prepare_streams()
    try:
        code = app.main(args=arguments, prog_name="causalms", standalone_mode=False)
        flush_streams()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        drop_output()
        sys.exit(1)
    except CausalmsError as error:
        _stop(str(error), error.exit_code)
    except click.UsageError as error:
        _stop(f"{error.format_message()}; see '{error.ctx.command_path if error.ctx else 'causalms'} --help'", 2)
    except (click.Abort, KeyboardInterrupt):
        who = signal.Signals(stopped_by[0]).name if stopped_by else "the user"
        verb = next(iter(sys.argv[1:] if arguments is None else arguments), "")
        on = "goes on where it stopped" if verb in _GO_ON else "starts anew"
        left = f"nothing half-written was left behind; the same command {on}"
        _stop(f"stopped by {who}; {left}", 128 + (stopped_by or [signal.SIGINT])[0])
    except click.ClickException as error:
        _stop(error.format_message(), error.exit_code)
    except (OSError, MemoryError) as error:
        _stop(f"{error}; free some room or memory and run it again", 1)
    except Exception as error:  # a defect of ours: still one line, with the way to the whole story
        if os.environ.get("CAUSALMS_DEBUG"):
            raise
        _stop(f"unexpected {type(error).__name__}: {error}; please report it with the output of CAUSALMS_DEBUG=1", 1)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _unwind_on_signals() -> list[int]:
    """Let SIGTERM and a closed terminal end the run as Ctrl-C does, so that what it was writing is removed.

    Returns
    -------
    list of int
        Holds the signal once it has come.  Signals that the caller ignores (``nohup``) or handles itself are left alone.
    """
    stopped_by: list[int] = []

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_DFL)  # a second one ends at once
        stopped_by.append(number)
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        with contextlib.suppress(ValueError):  # signals are handled in the main thread alone
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, stop)
    return stopped_by


def _stop(message: str, code: int) -> None:
    drop_output()
    with contextlib.suppress(OSError):  # the terminal may be closed
        sys.stderr.write(f"error: {' '.join(message.split())}\n")
        sys.stderr.flush()
    sys.exit(code)
