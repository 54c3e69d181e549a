"""A cohort in parts: which patients a shard holds, and patients that were left out with the reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from causalms.errors import UsageError

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Shard:
    """Part ``number`` of ``of`` parts of a cohort, counted from 1.

    Raises
    ------
    UsageError
        If there is no such part.

    Examples
    --------
    >>> [Shard(k, 3).part(["a", "b", "c", "d"]) for k in (1, 2, 3)]
    [['a'], ['b'], ['c', 'd']]
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise UsageError(f"`shard={self.number}/{self.of}`: no such part; give 1/{self.of} to {self.of}/{self.of}")

    @classmethod
    def read(cls, text: str) -> Shard:
        """From ``3/8``.

        Raises
        ------
        UsageError
            If the text is no such fraction.
        """
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if match is None:
            raise UsageError(f"`shard={text}`: expected a part and how many there are, for example 3/8")
        return cls(int(match[1]), int(match[2]))

    def part(self, items: Sequence[_Item]) -> list[_Item]:
        """Its items: a run of them, so that the parts one after another are the whole.

        Raises
        ------
        UsageError
            If it is empty.
        """
        first, end = (len(items) * k // self.of for k in (self.number - 1, self.number))
        if first == end:
            raise UsageError(f"`shard={self}`: no patient is left for it; make at most {len(items)} parts")
        return list(items[first:end])

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class Skipped:
    """A patient who was left out, and why."""

    participant_id: str
    reason: str


def refuse_incomplete(parts: Sequence[tuple[str, Shard]]) -> None:
    """Refuse parts that are not each of a whole exactly once; each is given with the name of its file.

    Raises
    ------
    UsageError
        Naming what is missing, doubled or of another division.

    Examples
    --------
    >>> refuse_incomplete([("a", Shard(1, 2)), ("b", Shard(2, 2))])
    """
    seen: dict[int, str] = {}
    of = parts[0][1].of
    for name, shard in parts:
        if shard.of != of:
            raise UsageError(f"{name} is shard {shard}, {parts[0][0]} shard {parts[0][1]}; merge the shards of one division")
        if shard.number in seen:
            raise UsageError(f"{name} and {seen[shard.number]} are both shard {shard}; give each shard once")
        seen[shard.number] = name
    missing = [f"{k}/{of}" for k in range(1, of + 1) if k not in seen]
    if missing:
        raise UsageError(f"shard {', '.join(missing)} is missing; run it first, with the command of the others")
