"""Put one fault at a time into effects, calibration and stats and run the checks of ``causalms validate`` that reach it.

A fault changes one operator, comparison, constant or condition of a function.  Passed over, by rules set down before any fault
was drawn (``sites``), is what cannot change a number: what only makes words (functions that give text, errors, messages), guards
whose only effect is an error, choices between words, tolerances (constants up to 1e-3), limits of iterations, seeds, clips far
out, typing.

One process loads the package and notes which lines each check runs.  Each fault is put into the functions of a fork of it,
which runs the checks that reach its line, the quickest first, and stops at the first that fails; one that never ends fails too.
Run again, the study goes on where it stopped.

    python -m studies.mutations --out results [--faults 200] [--seed 1]
"""

import ast
import contextlib
import functools
import gc
import os
import pickle
import random
import resource
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd

from causalms.tables import read_table, write_table

ROOMS = ("effects", "calibration", "stats")
PACKAGE = Path(__file__).parents[2] / "causalms"
#: Files that only make words, options or files for people.
WORDS = ("printing.py", "wording.py", "publication.py", "visit_printing.py", "programs.py", "analysis_results_data.py")
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Add}
COMPARISONS = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
#: Calls whose arguments are words or belong to them.
_SPEAK = (
    "significant",
    "number",
    "fixed",
    "warn",
    "DataNote",
    "p_value_text",
    "percent_in_full",
    "percentage",
    "interval",
    "tqdm",
)
_COLUMNS = ["module", "line", "kind", "code", "caught", "by", "checks", "seconds"]


def sites(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Places in functions where a fault can be put, with its kind."""
    found: list[tuple[ast.AST, str]] = []

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.FunctionDef) and _gives_words(node):
            return
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.arg | ast.AnnAssign | ast.Assert) or (
            isinstance(node, ast.If) and any(isinstance(line, ast.Raise) for line in node.body)
        ):
            return
        if isinstance(node, ast.Call) and _called(node) in _SPEAK:
            return
        if isinstance(node, ast.IfExp) and any(_is_word(part) for part in (node.body, node.orelse)):
            return
        inside = inside or isinstance(node, ast.FunctionDef)
        if inside and (kind := _kind(node)):
            found.append((node, kind))
        passed = _limits(node)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and child not in passed:
                    visit(child, inside)

    visit(tree, False)
    return found


def _kind(node: ast.AST) -> str | None:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not _of_words(node):
        return "operator"
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        return "comparison"
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and not 0 < abs(node.value) <= 1e-3:
        return "constant"
    return "condition" if isinstance(node, ast.If | ast.IfExp) else None


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _limits(node: ast.AST) -> list[ast.AST]:
    """Parts of a node that are limits of iterations, clips far out, or positions in the call stack."""
    if isinstance(node, ast.For) and isinstance(node.iter, ast.Call) and _called(node.iter) == "range":
        return [part for part in node.iter.args if isinstance(part, ast.Constant) and part.value >= 10]
    if isinstance(node, ast.keyword) and node.arg in ("maxiter", "max_iter", "stacklevel", "limit", "width", "seed"):
        return [node.value]
    if isinstance(node, ast.Call) and _called(node) in ("clip", "minimum", "maximum", "min", "max"):
        inner = [part.operand if isinstance(part, ast.UnaryOp) else part for part in node.args]
        far = {
            id(part)
            for part in inner
            if isinstance(part, ast.Constant) and type(part.value) in (int, float) and abs(part.value) >= 20
        }
        return [part for part, own in zip(node.args, inner, strict=True) if id(own) in far]
    return []


def _gives_words(node: ast.FunctionDef) -> bool:
    said = ast.unparse(node.returns) if node.returns else ""
    return said.replace(" | None", "") in ("str", "list[str]", "tuple[str, ...]") or node.name in ("__repr__", "_repr_html_")


def _is_word(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _of_words(node: ast.BinOp) -> bool:
    return _is_word(node.left) or _is_word(node.right)


def mutate(node: ast.AST, kind: str) -> None:
    """Put the fault in."""
    if isinstance(node, ast.BinOp):
        node.op = OPERATORS[type(node.op)]()
    elif isinstance(node, ast.Compare):
        node.ops[0] = COMPARISONS[type(node.ops[0])]()
    elif isinstance(node, ast.Constant):
        assert isinstance(node.value, (int, float))
        node.value = node.value + 1 if isinstance(node.value, int) else node.value * 1.1 + (node.value == 0)
    elif isinstance(node, ast.If | ast.IfExp):
        node.test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)
        ast.fix_missing_locations(node)


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all inside it, in order."""
    yield code
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from codes(part)


def put_in(file: Path, index: int) -> None:
    """Give every living function of a file its faulty code."""
    tree, faulty = ast.parse(file.read_text()), ast.parse(file.read_text())
    mutate(*sites(faulty)[index])
    pairs = zip(codes(compile(tree, str(file), "exec")), codes(compile(faulty, str(file), "exec")), strict=True)
    defaults = {(one.name, one.lineno): one.args for one in ast.walk(faulty) if isinstance(one, ast.FunctionDef)}
    new = {(old.co_qualname, old.co_firstlineno, old.co_code, old.co_consts): code for old, code in pairs}
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType) and thing.__code__.co_filename == str(file):
            own = thing.__code__
            thing.__code__ = new.get((own.co_qualname, own.co_firstlineno, own.co_code, own.co_consts), own)
            if (args := defaults.get((own.co_name, own.co_firstlineno))) is not None:
                _give_defaults(thing, args)
    forget()


def forget() -> None:
    """Clear what functions of the package remember, but for tables."""
    for thing in gc.get_objects():
        if isinstance(thing, functools._lru_cache_wrapper) and thing.__module__.startswith(
            ("causalms.effects", "causalms.stats")
        ):
            thing.cache_clear()


def _give_defaults(function: types.FunctionType, args: ast.arguments) -> None:
    """Default values that are numbers as a faulty file has them."""

    def value(node: ast.expr | None, now: object) -> object:
        return ast.literal_eval(node) if isinstance(node, ast.Constant) else now

    if function.__defaults__:
        function.__defaults__ = tuple(map(value, args.defaults, function.__defaults__))
    if function.__kwdefaults__:
        given = dict(zip((arg.arg for arg in args.kwonlyargs), args.kw_defaults, strict=True))
        function.__kwdefaults__ = {name: value(given[name], now) for name, now in function.__kwdefaults__.items()}


def all_checks() -> dict[str, Callable]:
    """Every check of ``causalms validate`` but those of the installation."""
    from causalms.validation import checks_of

    return {name: run for part in ("release", "R", "examples") for name, run in checks_of(part)}


def reached(checks: dict[str, Callable]) -> tuple[dict[str, dict[str, set[int]]], dict[str, float]]:
    """Lines that each check runs, by file, and its seconds."""
    rooms = tuple(f"{PACKAGE / room}{os.sep}" for room in ROOMS)
    lines: dict[str, dict[str, set[int]]] = {}
    seconds = {}
    for name, run in checks.items():
        own = lines[name] = {}

        def local(frame, event, _, own=own):
            own.setdefault(frame.f_code.co_filename, set()).add(frame.f_lineno)
            return local

        def enter(frame, event, _, local=local):
            return local(frame, event, _) if frame.f_code.co_filename.startswith(rooms) else None

        forget()
        start = time.monotonic()
        sys.settrace(enter)
        try:
            passed = run().passed
        finally:
            sys.settrace(None)
        if not passed:
            raise click.ClickException(f"{name} fails without a fault; write the release's digits anew or mend it")
        seconds[name] = time.monotonic() - start
    return lines, seconds


def lines_of(tree: ast.Module, node: ast.AST) -> set[int]:
    """Lines whose running means that a place was reached: of its statement, or of the head of a compound one."""
    for one in ast.walk(tree):
        if isinstance(one, ast.FunctionDef) and any(node is part for part in ast.walk(one.args)):
            return set(range(one.body[0].lineno, (one.end_lineno or one.lineno) + 1))
    best: tuple[int, set[int]] = (10**9, set())
    for one in ast.walk(tree):
        if isinstance(one, ast.stmt) and not isinstance(one, ast.FunctionDef | ast.ClassDef):
            last = one.body[0].lineno - 1 if hasattr(one, "body") else one.end_lineno
            span = set(range(one.lineno, max(last, one.lineno) + 1))
            if node.lineno in span and len(span) < best[0]:
                best = len(span), span
    return best[1] or {node.lineno}


def judged(file: Path, index: int, names: list[str], checks: dict[str, Callable], limit: int) -> str:
    """The first check that fails with the fault, in a fork of this process; "-" if none does."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        said = "-"
        try:
            with open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
            put_in(file, index)
            said = next((name for name in names if not checks[name]().passed), "-")
        except BaseException as error:
            said = f"stopped by {type(error).__name__}"
        os.write(write, said[:200].encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text or "never ended"


@click.command()
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of mutations.csv.")
@click.option("--faults", default=200, show_default=True)
@click.option("--limit", default=200, show_default=True, help="Processor seconds of one fault.")
@click.option("--seed", default=1, show_default=True)
@click.option("--lines", type=click.Path(path_type=Path), help="File that keeps which lines each check runs.")
def main(out: Path, faults: int, limit: int, seed: int, lines: Path | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    checks = all_checks()
    if lines is not None and lines.is_file():
        reach, seconds = pickle.loads(lines.read_bytes())
    else:
        reach, seconds = reached(checks)
        if lines is not None:
            lines.write_bytes(pickle.dumps((reach, seconds)))
    places = []
    for room in ROOMS:
        for file in sorted((PACKAGE / room).glob("*.py")):
            if file.name not in ("__init__.py", *WORDS):
                places += [(file, index) for index in range(len(sites(ast.parse(file.read_text()))))]
    chosen = random.Random(seed).sample(places, faults)
    table, rows = out / "mutations.csv", []
    if table.is_file():
        rows = [tuple(row) for row in read_table(table)[_COLUMNS].itertuples(index=False)]
    for file, index in chosen[len(rows) :]:
        start, tree = time.monotonic(), ast.parse(file.read_text())
        node, kind = sites(tree)[index]
        own = lines_of(tree, node)
        names = sorted((name for name in checks if own & reach[name].get(str(file), set())), key=seconds.__getitem__)
        said = judged(file, index, names, checks, limit) if names else "-"
        module = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        code = file.read_text().splitlines()[node.lineno - 1].strip()[:100]
        rows.append((module, node.lineno, kind, code, said != "-", said, len(names), round(time.monotonic() - start, 1)))
        write_table(pd.DataFrame(rows, columns=_COLUMNS), table)
    caught = np.mean([row[4] for row in rows])
    click.echo(f"{sum(row[4] for row in rows)} of {len(rows)} faults caught ({100 * caught:.1f}%); {len(places)} places for one")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
