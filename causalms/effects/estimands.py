"""What is estimated, in the words of ICH E9(R1), and the measures an effect can be expressed in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from causalms.errors import UsageError

#: A summary, which may hold "of" in parentheses, before the "of" of its variable.
_SUMMARY = re.compile(r"([^()]*?(?: \([^)]*\))?) of (.*)", re.DOTALL)


@dataclass(frozen=True)
class Measure:
    """A summary measure of an effect.

    Attributes
    ----------
    option : str
        Its name on the command line, such as ``rate-ratio``.
    kind : {"rate", "risk", "mean"}
        What is compared between arms.
    scale : {"log", "identity", "logit"}
        The scale of inference; ratios are reported back-transformed, with the standard error of the logarithm.
    """

    option: str
    kind: str
    scale: str

    @property
    def name(self) -> str:
        """The measure as it is printed: ``rate ratio``."""
        return self.option.replace("-", " ")

    @property
    def is_ratio(self) -> bool:
        """True for rate ratio, risk ratio, odds ratio and mean ratio."""
        return self.scale != "identity"

    @property
    def outcome_kind(self) -> str:
        """What the outcome column must hold."""
        return {"rate": "count", "risk": "binary", "mean": "number"}[self.kind]


MEASURES = {
    measure.option: measure
    for measure in (
        Measure("rate-ratio", "rate", "log"),
        Measure("rate-difference", "rate", "identity"),
        Measure("risk-ratio", "risk", "log"),
        Measure("risk-difference", "risk", "identity"),
        Measure("odds-ratio", "risk", "logit"),
        Measure("mean-ratio", "mean", "log"),
        Measure("mean-difference", "mean", "identity"),
    )
}


def measure_named(option: str) -> Measure:
    """Find a measure by its option or printed name.

    Raises
    ------
    UsageError
        For a name that is none of :data:`MEASURES`.

    Examples
    --------
    >>> measure_named("rate ratio").scale
    'log'
    """
    key = str(option).strip().lower().replace(" ", "-").replace("_", "-")
    if key not in MEASURES:
        raise UsageError(f"no measure is called {option!r}; choose one of {', '.join(MEASURES)}")
    return MEASURES[key]


@dataclass(frozen=True)
class Estimand:
    """The five attributes of an estimand (ICH E9(R1), 2019).

    Attributes
    ----------
    population : str
        Whom the effect is about.
    treatment : str
        The conditions compared.
    variable : str
        The endpoint of each patient.
    intercurrent_events : str
        How events after randomisation are handled.
    summary : str
        The population-level summary measure.

    Examples
    --------
    >>> print(Estimand("all randomised patients", "drug against placebo", "relapses", "treatment policy", "rate ratio").sentence)
    rate ratio of relapses, drug against placebo, in all randomised patients; intercurrent events: treatment policy
    """

    population: str
    treatment: str
    variable: str
    intercurrent_events: str
    summary: str

    @property
    def sentence(self) -> str:
        """The record in one sentence, as the results table carries it."""
        return (
            f"{self.summary} of {self.variable}, {self.treatment}, in {self.population}; "
            f"intercurrent events: {self.intercurrent_events}"
        )

    @classmethod
    def of_row(cls, row: Mapping[Any, Any]) -> Estimand:
        """The record that the sentence of a results row holds.

        Examples
        --------
        >>> estimand = Estimand("all", "drug against placebo", "y per week", "treatment policy", "marginal rate ratio")
        >>> row = {"arm": "drug", "reference": "placebo", "population": "all", "estimand": estimand.sentence}
        >>> Estimand.of_row(row) == estimand
        True
        """
        treatment, population = f"{row['arm']} against {row['reference']}", str(row["population"])
        what, _, events = str(row["estimand"]).partition(f", {treatment}, in {population}; intercurrent events: ")
        found = _SUMMARY.match(what)
        summary, variable = found.groups() if found else ("", what)
        return cls(population, treatment, variable, events, summary)

    def lines(self) -> list[str]:
        """The record as five printed lines, named as in the protocol template of ICH M11."""
        return [
            f"population                {self.population}",
            f"treatment                 {self.treatment}",
            f"endpoint                  {self.variable}",
            f"population-level summary  {self.summary}",
            f"intercurrent events       {self.intercurrent_events}",
        ]
