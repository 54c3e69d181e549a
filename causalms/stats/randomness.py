"""Random numbers that depend on a key alone: the same on every machine, in any order, for any number of workers."""

from __future__ import annotations

import hashlib

import numpy as np


def keyed_generator(*key: str | int, separator: str = "\x1f") -> np.random.Generator:
    """A random generator that depends on its key alone (Philox, keyed by the SHA-256 of the joined key).

    Parameters
    ----------
    *key : str or int
        For noise: mechanism name, participant id, draw, seed.
    separator : str
        Joins the key; two uses with different separators never share a stream.

    Examples
    --------
    >>> keyed_generator("m", "p1", 0, 7).random() == keyed_generator("m", "p1", 0, 7).random()
    True
    >>> keyed_generator("m", "p1", 0, 7).random() == keyed_generator("m", "p2", 0, 7).random()
    False
    """
    digest = hashlib.sha256(separator.join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], dtype=np.uint64)))
