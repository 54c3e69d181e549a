"""What ``causalms effects`` writes beside its page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from causalms.effects import Analysis, recomputation, reporting_event, results_data
from causalms.errors import UsageError
from causalms.files import whole_file
from causalms.tables import write_table

if TYPE_CHECKING:
    import pandas as pd


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
