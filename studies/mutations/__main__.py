"""Change one operator, comparison, constant or condition at a time in a copy of the package and run the checks of ``validate``.

Each fault runs in a process of its own, which stops at the first check that fails: first the examples of the changed file, then
the digits of the release, then those of R, then all other examples.  A fault that never ends within the limit is caught too.

    python -m studies.mutations --out results [--faults 200] [--seed 1]
"""

import ast
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd

from causalms.tables import write_table
from studies.common import out_option, seed_option

ROOMS = ("effects", "calibration", "stats")
PACKAGE = Path(__file__).parents[2] / "causalms"
#: Files whose faults only change words, options or typing.
WORDS = ("printing.py", "wording.py", "publication.py")
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Add}
COMPARISONS = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}


def sites(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Places in functions where a fault can be put, with its kind; annotations, errors and docstrings are passed over."""
    found: list[tuple[ast.AST, str]] = []

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.arg | ast.AnnAssign) or (
            isinstance(node, ast.If) and any(isinstance(line, ast.Raise) for line in node.body)
        ):
            return
        inside = inside or isinstance(node, ast.FunctionDef)
        if inside and isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not _of_words(node):
            found.append((node, "operator"))
        elif inside and isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
            found.append((node, "comparison"))
        elif inside and isinstance(node, ast.Constant) and type(node.value) in (int, float):
            found.append((node, "constant"))
        elif inside and isinstance(node, ast.If | ast.IfExp):
            found.append((node, "condition"))
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child, inside)

    visit(tree, False)
    return found


def _of_words(node: ast.BinOp) -> bool:
    return any(isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and isinstance(part.value, str))
               for part in (node.left, node.right))  # fmt: skip


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
        node.test = ast.UnaryOp(ast.Not(), node.test)


def judge(module: str) -> str:
    """Run the checks in this process: the first that fails, or nothing."""
    from causalms.validation import checks

    room = module.split(".")[1]
    digits = checks._release_digits(room)
    for part in (checks._examples_of(module), digits, checks._r_digits(), checks._examples()):
        for check in part:
            if not check.passed:
                return check.id
    return ""


def in_a_process(root: Path, module: str, limit: int) -> str:
    """What ``judge`` says of the package at ``root``, in a fork of this process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        signal.alarm(limit)
        sys.path.insert(0, str(root))
        for name in [name for name in sys.modules if name.split(".")[0] == "causalms"]:
            del sys.modules[name]
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        try:
            said = judge(module) or "-"
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
@out_option
@click.option("--faults", default=200, show_default=True)
@click.option("--limit", default=180, show_default=True, help="Seconds of one fault.")
@seed_option(1)
def main(out: Path, faults: int, limit: int, seed: int) -> None:
    import sklearn.isotonic  # noqa: F401  loaded once, before the processes part

    out.mkdir(parents=True, exist_ok=True)
    places = []
    for room in ROOMS:
        for file in sorted((PACKAGE / room).glob("*.py")):
            if file.name not in ("__init__.py", *WORDS):
                places += [(file, index) for index in range(len(sites(ast.parse(file.read_text()))))]
    chosen = random.Random(seed).sample(places, faults)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        shutil.copytree(PACKAGE, root / "causalms", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors", "*.npz"))
        for file, index in chosen:
            start, text = time.monotonic(), file.read_text()
            tree = ast.parse(text)
            node, kind = sites(tree)[index]
            line = getattr(node, "lineno", 0)
            mutate(node, kind)
            place = root / "causalms" / file.relative_to(PACKAGE)
            place.write_text(ast.unparse(tree))
            module = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
            said = in_a_process(root, module, limit)
            place.write_text(text)
            rows.append(
                (module, line, kind, text.splitlines()[line - 1].strip()[:100], said != "-", said, time.monotonic() - start)
            )
            columns = ["module", "line", "kind", "code", "caught", "by", "seconds"]
            write_table(pd.DataFrame(rows, columns=columns).round({"seconds": 1}), out / "mutations.csv")
    caught = np.mean([row[4] for row in rows])
    click.echo(f"{sum(row[4] for row in rows)} of {len(rows)} faults caught ({100 * caught:.1f}%)")


if __name__ == "__main__":
    main()
