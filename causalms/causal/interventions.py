"""Interventions on the arm, one type: a value, a shift, a function of the patient's covariates, or a distribution."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalms.causal.mechanism import Subject
from causalms.errors import InputError, RefusalError, UsageError, near_name
from causalms.stats import keyed_generator
from causalms.tables import condition_columns, name_of, rows_where
from causalms.yaml_files import read_yaml


@dataclass(frozen=True)
class Intervention:
    """What replaces the randomisation of the arm: for every patient, a law over arms.

    Attributes
    ----------
    name : str
        What the ``arm`` column of the draws table calls this world.
    law : callable
        From a :class:`Subject` to probabilities of arms, summing to 1.
    kind : {"value", "shift", "policy", "distribution"}
    words : mapping
        What the query record says; JSON values only.

    Examples
    --------
    >>> patient = Subject("p1", "t", "placebo", {"gd_lesions": 2})
    >>> value("drug").law(patient)
    {'drug': 1.0}
    >>> shift(+1, order=("placebo", "low dose", "high dose")).law(patient)
    {'low dose': 1.0}
    >>> rule = policy("escalate", [("gd_lesions > 0", "high dose")], otherwise="low dose")
    >>> rule.law(patient)
    {'high dose': 1.0}
    >>> distribution({"placebo": 0.5, "drug": 0.5}).name
    '0.5 placebo + 0.5 drug'
    """

    name: str
    law: Callable[[Subject], dict[str, float]] = field(repr=False, compare=False)
    kind: str = "value"
    words: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that it can give, each once; none where they follow from the order of a shift."""
        laws = [rule["arms"] for rule in self.words.get("rules", ())] + [self.words.get("probabilities", {})]
        own = [self.words["arm"]] if "arm" in self.words else []
        return tuple(dict.fromkeys([*own, *(arm for law in laws for arm in law)]))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the participants table that its conditions compare."""
        conditions = [rule["when"] for rule in self.words.get("rules", ()) if rule["when"]]
        return tuple(column for when in conditions for column in sorted(condition_columns(when)))

    def within(self, order: Sequence[str]) -> Intervention:
        """The same intervention put to a model: a shift without an order of its own takes the model's order of arms."""
        if self.kind != "shift" or self.words["order"] is not None:
            return self
        return shift(int(self.words["steps"]), tuple(order))

    def assign(self, subject: Subject, draws: Sequence[int], seed: int) -> list[str]:
        """The arm of every draw: keyed by (patient, intervention, draw, seed), so never by order or worker."""
        law = self.law(subject)
        if len(law) == 1:
            return list(law) * len(draws)
        names, cumulative = list(law), np.cumsum(list(law.values()))
        uniforms = [keyed_generator("assign", self.name, subject.participant_id, draw, seed).random() for draw in draws]
        return [names[min(int(np.searchsorted(cumulative, u, side="right")), len(names) - 1)] for u in uniforms]


#: What may be set: arms, laws over arms, interventions.
Arms = str | Intervention | Mapping[str, float] | Sequence[str | Intervention | Mapping[str, float]]


@dataclass(frozen=True)
class _Always:
    probabilities: tuple[tuple[str, float], ...]

    def __call__(self, subject: Subject) -> dict[str, float]:
        return dict(self.probabilities)


@dataclass(frozen=True)
class _Shift:
    steps: int
    order: tuple[str, ...]

    def __call__(self, subject: Subject) -> dict[str, float]:
        arm = subject.arm_randomised
        if arm not in self.order:
            raise RefusalError(
                f"participant {subject.participant_id}: arm {arm!r} has no place in the order {', '.join(self.order)}; "
                "a shift needs it: leave the patient out or name the arm"
            )
        return {self.order[int(np.clip(self.order.index(arm) + self.steps, 0, len(self.order) - 1))]: 1.0}


@dataclass(frozen=True)
class _Rules:
    name: str
    rules: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]

    def __call__(self, subject: Subject) -> dict[str, float]:
        for when, arms in self.rules:
            if when == "" or _holds(when, subject, self.name):
                return dict(arms)
        raise RefusalError(f"policy {self.name!r}: no rule holds for participant {subject.participant_id}; add 'otherwise'")


def value(arm: str) -> Intervention:
    """Everybody gets one arm."""
    return Intervention(arm, _Always(((arm, 1.0),)), "value", {"arm": arm})


def shift(steps: int, order: Sequence[str] | None = None) -> Intervention:
    """Everybody moves from the randomised arm by so many steps of efficacy, staying at the ends of the order.

    Parameters
    ----------
    steps : int
    order : sequence of str, optional
        Arms from the least to the most effective one; the model's own order by default (:attr:`Mechanism.arms`, or the fitted
        rates of a count model).
    """
    known = None if order is None else tuple(order)
    words = {"steps": steps, "order": None if known is None else list(known)}
    return Intervention(f"shift {steps:+d}", _Shift(steps, known or ()), "shift", words)


def distribution(probabilities: Mapping[str, float], name: str | None = None) -> Intervention:
    """Everybody gets an arm by lot.

    Raises
    ------
    UsageError
        If the probabilities are not a law.
    """
    law = _law(probabilities, "distribution")
    return Intervention(
        name or " + ".join(f"{name_of(p)} {arm}" for arm, p in law), _Always(law), "distribution", {"probabilities": dict(law)}
    )


def policy(
    name: str, rules: list[tuple[str, str | Mapping[str, float]]], otherwise: str | Mapping[str, float] | None = None
) -> Intervention:
    """Each patient gets the arm of the first rule that holds for the covariates.

    Parameters
    ----------
    name : str
    rules : list of (condition, arm)
        A condition compares participants columns, with ``and``, ``or``, ``not``, ``in`` and arithmetic
        (``"gd_lesions > 0 and age < 50"``); an arm is a name or a law ``{"placebo": 0.5, ...}``.
    otherwise : str or mapping, optional
        The arm where no rule holds; without it such a patient is refused.

    Raises
    ------
    UsageError
        If a condition is more than comparisons of columns.
    """
    if not rules and otherwise is None:
        raise UsageError(f"policy {name!r}: no rule and no 'otherwise'; give at least one")
    steps = [(_checked(when, name), _law(arm, name)) for when, arm in rules]
    if otherwise is not None:
        steps.append(("", _law(otherwise, name)))
    words = {"rules": [{"when": when, "arms": dict(law)} for when, law in steps]}
    return Intervention(name, _Rules(name, tuple(steps)), "policy", words)


def read_policy(path: str | os.PathLike[str]) -> Intervention:
    r"""Read a treatment policy from YAML: ``name``, ``rules`` (each ``when`` and ``arm``), ``otherwise``.

    Raises
    ------
    InputError
        Naming the file and the key.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "escalate.yaml"
    >>> text = "name: escalate\nrules: [{when: gd_lesions > 0, arm: high dose}]\notherwise: low dose\n"
    >>> _ = file.write_text(text)
    >>> read_policy(file).name
    'escalate'
    """
    file = Path(path)
    content = read_yaml(file, "write name, rules and otherwise")
    if not isinstance(content, dict):
        raise InputError(f"{file}: found {_kind(content)}; expected the keys {', '.join(_KEYS)}")
    _refuse_unknown_keys(content, _KEYS, f"{file}")
    name, rules = content.get("name", file.stem), content.get("rules") or []
    if isinstance(name, dict | list):
        raise InputError(f"{file}: name: found {_kind(name)}, expected a text")
    if not isinstance(rules, list):
        raise InputError(f"{file}: rules: found {_kind(rules)}, expected a list, each '- when: ...' with its 'arm: ...'")
    steps = [_rule(rule, f"{file}: rule {number}") for number, rule in enumerate(rules, start=1)]
    try:
        return policy(str(name), steps, content.get("otherwise"))
    except UsageError as error:
        raise InputError(f"{file}: {error}") from error


_KEYS = ("name", "rules", "otherwise")


def _rule(rule: Any, place: str) -> tuple[str, Any]:
    """Condition and arm of a rule of a policy file."""
    if not isinstance(rule, dict):
        raise InputError(f"{place}: found {_kind(rule)}; every rule needs 'when' and 'arm'")
    _refuse_unknown_keys(rule, ("when", "arm"), place)
    for key in ("when", "arm"):
        if key not in rule:
            raise InputError(f"{place}: {key!r} is missing; every rule needs 'when' and 'arm'")
    if not isinstance(rule["when"], str):
        raise InputError(f"{place}: when: found {_kind(rule['when'])}, expected a condition such as 'gd_lesions > 0'")
    return rule["when"], rule["arm"]


def _refuse_unknown_keys(content: Mapping[Any, Any], known: Sequence[str], place: str) -> None:
    for key in content:
        if key not in known:
            raise InputError(
                f"{place}: found {key!r}; expected the keys {', '.join(known)}. {near_name(key, known)}".rstrip(". ")
            )


def _kind(value: Any) -> str:
    """What a value of a YAML file is, in words."""
    kinds = {dict: "a mapping", list: "a list", type(None): "nothing", str: "a text"}
    return kinds.get(type(value), f"{value!r}")


def as_interventions(arm: Arms) -> tuple[Intervention, ...]:
    """An arm's name, a law over arms, an intervention, or several of them, as interventions.

    Examples
    --------
    >>> [i.name for i in as_interventions(["placebo", {"placebo": 0.5, "drug": 0.5}])]
    ['placebo', '0.5 placebo + 0.5 drug']
    """
    if arm is None:
        raise UsageError("`arm` is None; name an arm, a law over arms or an intervention")
    several: Sequence[Any] = [arm] if isinstance(arm, str | Intervention | Mapping) else list(arm)
    return tuple(
        what if isinstance(what, Intervention) else value(what) if isinstance(what, str) else distribution(what)
        for what in several
    )


def _law(arm: Any, name: str) -> tuple[tuple[str, float], ...]:
    if isinstance(arm, str):
        return ((arm, 1.0),)
    if not isinstance(arm, Mapping) or not arm:
        raise UsageError(f"policy {name!r}: {arm!r} is no arm; give a name or probabilities by arm")
    try:
        law = tuple((str(a), float(p)) for a, p in arm.items())
    except (TypeError, ValueError):
        raise UsageError(f"policy {name!r}: probabilities must be numbers, found {dict(arm)}") from None
    if any(not p >= 0 for _, p in law) or abs(sum(p for _, p in law) - 1) > 1e-9:
        raise UsageError(f"policy {name!r}: probabilities must be at least 0 and sum to 1, found {dict(law)}")
    return tuple((a, p) for a, p in law if p > 0)


def _checked(when: str, name: str) -> str:
    """Refuse all but comparisons of columns: a policy file is data, never a program."""
    try:
        condition_columns(when, "when")
    except UsageError as error:
        raise UsageError(f"policy {name!r}: {error}") from None
    return when.strip()


def _holds(when: str, subject: Subject, name: str) -> bool:
    columns = condition_columns(when, "when")
    for column in columns:
        covariate = subject.covariates.get(column)
        if column not in subject.covariates:
            raise InputError(f"policy {name!r}: no column {column!r}; known are {', '.join(map(str, subject.covariates))}")
        if covariate is None or pd.isna(covariate):
            raise InputError(
                f"policy {name!r}: participant {subject.participant_id} has no {column!r}; fill it in or leave them out"
            )
    row = pd.DataFrame([{column: subject.covariates[column] for column in columns}])
    try:
        return bool(rows_where(row, when, "when")[0][0])
    except UsageError as error:
        raise InputError(f"policy {name!r}: cannot be decided for {subject.participant_id}: {error}") from error
