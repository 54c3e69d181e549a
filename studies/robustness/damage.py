"""What a damage is: a named function on an undamaged input, with the right answer to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

#: What may be right: an error of one line; a line that names what was done; the same numbers as without the damage.
Right = Literal["refused", "said", "harmless"]
#: What a damage works on: a table before it is written, the bytes of a file, or the path of a file or folder.
Level = Literal["table", "bytes", "path"]


@dataclass(frozen=True)
class Damage:
    """One way in which an input can be wrong.

    Attributes
    ----------
    name : str
        The name of the function, in words.
    group : str
        Such as ``cells`` or ``file``.
    right : {"refused", "said", "harmless"}
    level : {"table", "bytes", "path"}
    kinds : tuple of str
        Kinds of input that it is made for.
    apply : callable
        From the undamaged thing and a generator to the damaged one (for paths: changes what lies there).
    """

    name: str
    group: str
    right: Right
    level: Level
    kinds: tuple[str, ...]
    apply: Callable[[Any, np.random.Generator], Any]


#: Every damage, in the order of the files that define them.
DAMAGES: list[Damage] = []


def damage(group: str, right: Right, level: Level, *kinds: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function in :data:`DAMAGES`."""

    def entered(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__.strip("_").replace("_", " ")
        DAMAGES.append(Damage(name, group, right, level, kinds, function))
        return function

    return entered
