"""One command line in a process of its own: its end, its words, its memory, and what it left behind."""

from __future__ import annotations

import gc
import hashlib
import os
import re
import resource
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

from causalms.cli.main import main

#: Digest of an input in a table, a page or a print-out.
DIGEST = re.compile(rb"\b(?=[0-9a-f]*[a-f])[0-9a-f]{12,64}\b")
CPU_SECONDS, WALL_SECONDS, MEMORY_BYTES = 30, 300, 2 * 2**30


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes
    ----------
    code : int
        Exit code; negative: the signal that ended it.
    printed, error : str
    outputs : dict
        SHA-256 of every file under ``out/`` by its path.
    hung : bool
        Past 30 processor seconds or 300 seconds.
    peak_bytes : int
        Largest resident memory.
    """

    code: int
    printed: str
    error: str
    outputs: dict[str, str]
    hung: bool
    peak_bytes: int


def load_everything() -> None:
    """Import what the verbs import, once, before processes are forked."""
    import formulaic  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import nibabel  # noqa: F401
    import openpyxl  # noqa: F401
    import pandera  # noqa: F401
    import pyreadstat  # noqa: F401
    import statsmodels.api  # noqa: F401
    import torch

    import causalms.causal
    import causalms.phantom
    import causalms.report  # noqa: F401
    from causalms.cli import (
        agree,
        calibrate,
        check,
        demo,
        effects,
        forecast,
        lesions,
        merge,
        query,
        report,
        simulate,
        subgroups,
        train,
        visits,
    )

    torch.set_num_threads(1)
    _toy_sizes()
    verbs = agree, calibrate, check, demo, effects, forecast, lesions, merge, query, report, simulate, subgroups, train, visits
    assert all(verbs)
    gc.freeze()


def _toy_sizes() -> None:
    """Training of a few steps, and a demonstration of a few patients: the way is the same, the seconds are fewer."""
    from causalms.cli import walkthrough
    from causalms.generator.configurations import CONFIGS

    model, recipe = CONFIGS["tiny"]
    small = replace(model, channels=4, denoiser_sees_scan=False, hidden=4, denoiser_layers=1, steps=2)
    CONFIGS["tiny"] = (
        small,
        replace(recipe, risk_steps=2, denoiser_steps=2, batch_patients=2, batch_masks=2, calibration_patients=2),
    )
    toy = {"SAMPLED_PATIENTS": 2, "DRAWS": 2, "TWINS": 1, "PARTICLES": 1, "MAPPED": 3}
    for name, value in toy.items():
        setattr(walkthrough, name, value)


def start(arguments: list[str], folder: Path) -> int:
    """Fork a process that runs the command in the folder; its identifier."""
    (folder / "out").mkdir(exist_ok=True)
    process = os.fork()
    if process:
        return process
    try:
        os.chdir(folder)
        for name, stream in (("printed", 1), ("error", 2)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, mapped + MEMORY_BYTES))
        code = _run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        code = 70
    os._exit(code)


def _run(arguments: list[str]) -> int:
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    try:
        main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 70
    return 0


def wait(process: int, folder: Path, begun: float) -> Ended | None:
    """How the process ended; None while it runs within its limits."""
    ended, status, used = os.wait4(process, os.WNOHANG)
    overdue = time.monotonic() - begun > WALL_SECONDS
    if not ended and not overdue:
        return None
    if not ended:
        os.kill(process, 9)
        _, status, used = os.wait4(process, 0)
    code = os.waitstatus_to_exitcode(status)
    printed, error = ((folder / name).read_text(errors="replace") for name in ("printed", "error"))
    hung = overdue or code in (-24, -9)
    return Ended(code, printed, error, listed(folder / "out"), hung, used.ru_maxrss * 1024)


def listed(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under a folder by its path, without the digests of inputs that tables and pages name.

    A training log, which holds seconds, counts by its presence.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    timed = {str(file.relative_to(folder)): "" for file in files if ".training." in file.name}
    return {str(file.relative_to(folder)): hashlib.sha256(without_digests(file)).hexdigest() for file in files} | timed


def without_digests(file: Path) -> bytes:
    """The bytes of a file; of a table or page without the digests of its inputs, which tell one input from another."""
    content = file.read_bytes()
    return DIGEST.sub(b"", content) if file.name in ("draws.csv", "report.html") else content
