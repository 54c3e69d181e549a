"""On which device the network runs."""

from __future__ import annotations

import torch

from causalms.errors import UsageError


def chosen_device(name: str) -> torch.device:
    """The device of that name: ``cpu``, ``cuda``, or ``auto``, the GPU where there is one.

    Raises
    ------
    UsageError
        If a GPU is wanted and none is there.

    Examples
    --------
    >>> chosen_device("cpu")
    device(type='cpu')
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"`device={name}`: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("`device=cuda`: no GPU is visible to torch; use `device=cpu`, or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
