"""What ``causalms effects`` writes beside its page, and ``causalms query`` beside its draws."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalms.effects import Analysis, recomputation, reporting_event, results_data
from causalms.errors import CausalmsError, UsageError
from causalms.files import whole_file
from causalms.tables import counted, write_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Written:
    """What is printed and written."""

    publication: Path | None
    ard: Path | None
    ars: Path | None
    recompute: Path | None
    program: str | None
    out: Path | None

    def results(self, results: pd.DataFrame, outcome: str, arm: str, dataset: str, code: str | None) -> str:
        """Write the results in every form that is wanted, and say so."""
        text = ""
        if self.ars is not None:
            event = reporting_event(results, outcome=outcome, arm=arm, dataset=dataset, program=code)
            with whole_file(self.ars) as beside:
                beside.write_text(json.dumps(event, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            text += f"\n\nreporting event written to {self.ars}"
        if self.ard is not None:
            write_table(results_data(results, outcome=outcome, arm=arm), self.ard)
            text += f"\n\nanalysis results data written to {self.ard}"
        if self.out is not None:
            write_table(results, self.out)
            text += f"\n\nresults written to {self.out}"
        return text

    @property
    def of_observed(self) -> bool:
        """Whether something is written that complete observed rows alone have."""
        return self.publication is not None or self.recompute is not None


def carried(analysis: Analysis, path: Path) -> str:
    """Write the columns of an analysis for a report, and say so."""
    bundle = recomputation(analysis)
    if not bundle["parts"]:
        raise UsageError(f"--recompute: a page does not compute this analysis again ({bundle['left_out'][0]}); leave it out")
    with whole_file(path) as beside:
        beside.write_text(json.dumps(bundle), encoding="utf-8")
    return f"patients for `causalms report --recompute` written to {path}"


def finished_patients(parts: Path) -> int:
    """How many patients are kept for the next run; what holds none is removed."""
    kept = len({file.name for file in parts.glob("*/*.parquet") if file.parent.name != "finished"})
    if not kept:
        shutil.rmtree(parts, ignore_errors=True)
    return kept


def deliver(table: pd.DataFrame, beside: dict[str, Any], out: Path, parts: Path) -> None:
    """Write every file beside, then move them into place, the draws table last: nothing half-written even after a kill."""
    from causalms.causal import write_draws
    from causalms.files import whole_file
    from causalms.tables import write_table

    finished = parts / "finished"
    shutil.rmtree(finished, ignore_errors=True)
    write_draws(table, finished / out.name)
    for suffix, content in beside.items():
        place = finished / out.with_suffix(suffix).name
        if suffix.endswith(".pdf"):
            _write_pages(content, place)
        else:
            write_table(content, place)
    for file in sorted(finished.iterdir(), key=lambda f: f.name == out.name):
        with whole_file(out.with_name(file.name)) as copy:
            shutil.copyfile(file, copy)


def _write_pages(pages: list[Figure] | pd.DataFrame, place: Path) -> None:
    """Write figures, or those that a report draws of a table."""
    from matplotlib.backends.backend_pdf import PdfPages

    from causalms.report import figures

    if not isinstance(pages, list):
        pages = [page for page, _ in (figures.counterfactual_pages(pages) or ([], None))[0]]
    with PdfPages(place, metadata={"CreationDate": None}) as pdf:
        for page in pages:
            pdf.savefig(page)


def say_kept(error: CausalmsError, finished: int, parts: Path) -> None:
    """Add to an error where patients that were finished before it are kept."""
    if finished:
        who = f"{counted(finished, 'finished patient')} {'is' if finished == 1 else 'are'}"
        error.args = (f"{error} ({who} kept in {parts}, where the same command goes on)",)


def missing_words(inputs: str, patients: int) -> str:
    """That so many patients lack some inputs, of which there is a list with semicolons.

    Examples
    --------
    >>> missing_words("T1w; T2w", 1)
    '1 patient has no T1w, T2w; the model ran without them (see column missing_inputs)'
    """
    who, them = f"{counted(patients, 'patient')} {'has' if patients == 1 else 'have'}", "them" if ";" in inputs else "it"
    return f"{who} no {inputs.replace('; ', ', ')}; the model ran without {them} (see column missing_inputs)"
