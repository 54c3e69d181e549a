"""The part of a design that says how scans are taken and read: scanners of the sites, and readers who miss and invent lesions."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from causalms.phantom.parts import BelowOne, Number, Part

Factor = Annotated[float, Field(ge=0.05, le=20), Number]


class Scanner(Part):
    """A scanner: what it does to the signal of every image taken on it.

    The signal (1 is white matter on T1w) is raised to the power ``contrast``, blurred by a Gaussian of ``blur_mm`` full width at
    half maximum, given noise ``noise`` times as strong, and multiplied by ``gain``.
    """

    name: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    gain: Factor = 1.0
    contrast: Factor = 1.0
    noise: Factor = 1.0
    blur_mm: Annotated[float, Field(ge=0, le=20), Number] = 0.0


class Annotation(Part):
    """How follow-up scans are read: every visit anew, a lesion is missed by chance, and others are seen that are not there."""

    missed: BelowOne = 0.0
    spurious_per_visit: Annotated[float, Field(ge=0, le=50), Number] = 0.0


def deal(scanners: tuple[Scanner, ...], held_out: str | None, sites: int, rng: np.random.Generator) -> list[Scanner | None]:
    """The scanner of every site: as evenly as their number allows, in random order; none goes to the one held out.

    Examples
    --------
    >>> import numpy as np
    >>> three = tuple(Scanner(name=name) for name in "ABC")
    >>> sorted(one.name for one in deal(three, "C", 4, np.random.default_rng(0)))
    ['A', 'A', 'B', 'B']
    """
    used = [scanner for scanner in scanners if scanner.name != held_out]
    if not used:
        return [None] * sites
    order = rng.permutation(sites)
    return [used[int(place) % len(used)] for place in order]
