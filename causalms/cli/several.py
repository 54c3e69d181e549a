"""What ``causalms effects`` adds to the contrasts: families, margins, contrasts of one's own, sensitivity to zeros."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from causalms.cli.inputs import read
from causalms.cli.paths import InputPath
from causalms.effects import (
    CLAIMS,
    MULTIPLICITY_METHODS,
    ZERO_MODELS,
    Analysis,
    compare_arms,
    interval,
    margin_tests,
    number,
    weighted_contrast,
    zero_sensitivity,
)
from causalms.errors import ConvergenceError, UsageError
from causalms.stats import with_adjusted_p_values
from causalms.tables import p_value_text, results_table, shown

if TYPE_CHECKING:
    import pandas as pd

_Verb = TypeVar("_Verb", bound=Callable[..., Any])


@dataclass(frozen=True)
class Family:
    """Several contrasts as one family, a margin, a contrast of one's own, and other models of the zeros."""

    all_pairs: bool
    multiplicity: str | None
    graph: Path | None
    margin: float | None
    claim: str | None
    weights: str | None
    sensitivity: tuple[str, ...]

    def refuse_halves(self) -> None:
        """A margin and what is claimed by it go together; a graph goes with its method."""
        if (self.margin is None) != (self.claim is None):
            raise UsageError(f"--margin and --claim ({', '.join(CLAIMS)}) go together")
        if self.graph is not None and self.multiplicity != "graphical":
            raise UsageError("--graph goes with --multiplicity graphical")

    @property
    def named(self) -> bool:
        """Whether anything is wanted beyond each arm against the reference."""
        one = (self.multiplicity, self.margin, self.weights)
        return self.all_pairs or bool(self.sensitivity) or any(value is not None for value in one)

    def added(self, analysis: Analysis) -> tuple[list[str], pd.DataFrame, list[float] | None]:
        """Blocks of text, the results, and adjusted p-values of the arms against the reference."""
        blocks, results, adjusted = self._compared(analysis)
        if self.margin is not None and self.claim is not None:
            tests = margin_tests(analysis, self.margin, self.claim)
            blocks.append("\n".join(test.sentence for test in tests))
            by_pair = {(test.arm, test.reference): test.p_value for test in tests}
            p_margin = [by_pair.get(pair, float("nan")) for pair in zip(results["arm"], results["reference"], strict=True)]
            results = results.assign(claim=self.claim, margin=self.margin, p_margin=p_margin)
        if self.weights is not None:
            results = self._own_contrast(analysis, blocks, results)
        for kind in self.sensitivity:
            try:
                blocks += ["\n".join(part.sentences) for part in zero_sensitivity(analysis, kind)]
            except ConvergenceError as error:
                blocks.append(f"sensitivity  {error}")
        return blocks, results, adjusted

    def _compared(self, analysis: Analysis) -> tuple[list[str], pd.DataFrame, list[float] | None]:
        if analysis.others and self.multiplicity is not None and not self.all_pairs:
            results = with_adjusted_p_values(analysis.results, self.multiplicity)
            adjusted = results["p_adjusted"].tolist()
            pairs = ", ".join(f"{arm} {shown(value)}" for arm, value in zip(results["arm"], adjusted, strict=True))
            return [f"adjusted p ({self.multiplicity}): {pairs}"], results, adjusted
        if not self.all_pairs and self.multiplicity is None:
            return [], analysis.results, None
        graph = None if self.graph is None else read(self.graph)
        compared = compare_arms(analysis, all_pairs=self.all_pairs, multiplicity=self.multiplicity, graph=graph)
        against_reference = compared.p_adjusted is not None and len(compared.pairs) == len(analysis.reported)
        return [repr(compared)], compared.results, compared.results["p_adjusted"].tolist() if against_reference else None

    def _own_contrast(self, analysis: Analysis, blocks: list[str], results: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        try:
            pairs = [part.rsplit("=", 1) for part in str(self.weights).split(",")]
            weights = {name.strip(): float(weight) for name, weight in pairs}
        except ValueError:
            raise UsageError(f"--contrast: found {self.weights!r}, expected weights such as 'high=1,low=-1'") from None
        contrast, measure = weighted_contrast(analysis, weights), analysis.settings.measure
        limits, p = interval(contrast.lower, contrast.upper), p_value_text(contrast.p_value)
        blocks.append(f"contrast  {measure.name}, {self.weights}: {number(contrast.estimate)} ({limits}), p {p}")
        row = analysis.row(
            (analysis.data.arms[1], analysis.data.arms[0]), analysis.estimands[0], contrast, analysis.populations[0].randomised
        )
        estimand = replace(analysis.estimands[0], treatment=f"contrast {self.weights}").sentence
        own = replace(row, arm=self.weights, reference=None, n=float("nan"), n_reference=float("nan"), estimand=estimand)
        return pd.concat([results, results_table([own])], ignore_index=True)


def family_options(verb: _Verb) -> _Verb:
    """Options of :class:`Family`."""
    for declare in (
        click.option("--sensitivity", multiple=True, type=click.Choice(ZERO_MODELS),
                     help="Rate ratio of a model with zeros of their own kind (negative binomial); may be given again."),
        click.option("--contrast", "weights", metavar="WEIGHTS",
                     help="Weights of the arms' means (logarithms for ratios), such as 'high=1,low=-1'."),
        click.option("--claim", type=click.Choice(CLAIMS), help="With --margin: what is claimed."),
        click.option("--margin", type=float, help="Margin of the measure, such as 1.1 for a ratio or 0.5 for a difference."),
        click.option("--graph", type=InputPath(), help="With --multiplicity graphical: columns arm, weight, and one an arm."),
        click.option("--multiplicity", type=click.Choice(MULTIPLICITY_METHODS),
                     help="Adjust p-values of several contrasts; dunnett (each against the reference) and tukey (all pairs) "
                          "add intervals."),
        click.option("--all-pairs", is_flag=True, help="Compare every pair of arms, not only each with the reference."),
    ):  # fmt: skip
        verb = declare(verb)
    return verb
