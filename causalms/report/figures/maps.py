"""Risk of a new lesion over the anatomy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from causalms.errors import InputError
from causalms.report.style import WIDTH_INCHES, colour_bar, describe, headline, house_style, new_figure
from causalms.tables import fixed, name_of

_PANELS_PER_ROW = 3


@house_style
def risk_maps(
    flair: NDArray[np.floating],
    risks: Mapping[str, NDArray[np.floating]],
    slice_index: int | None = None,
    voxel_mm: tuple[float, float] = (1.0, 1.0),
    title: str = "",
) -> Figure:
    """Risk maps of several arms over one axial FLAIR slice, with one colour scale for all arms.

    Parameters
    ----------
    flair : array (x, y, z)
        Baseline FLAIR, axes to the right, to the front and upwards.
    risks : mapping of arm to array (x, y, z)
        Probability that the voxel lies in a new or enlarging lesion.
    slice_index : int, optional
        Axial slice; unless given, the one with the largest summed risk over the arms.
    voxel_mm : (float, float)
        Voxel size in x and y.
    title : str

    Raises
    ------
    InputError
        If a map has another shape than the FLAIR or holds what is not a probability.

    Examples
    --------
    >>> import numpy as np
    >>> flair = np.ones((4, 5, 3))
    >>> risk = np.zeros((4, 5, 3)); risk[1, 2, 1] = 0.2
    >>> risk_maps(flair, {"placebo": risk}).get_label()
    'Risk maps over axial FLAIR slice 1: placebo, highest voxel risk 0.200, expected lesion voxels in the slice 0.20.'
    """
    _check(flair, risks)
    total = sum((np.nansum(risk, axis=(0, 1)) for risk in risks.values()), np.zeros(flair.shape[2]))
    z = int(np.argmax(total)) if slice_index is None else slice_index
    columns = min(_PANELS_PER_ROW, len(risks) + 1)
    lines = -(-(len(risks) + 1) // columns)
    width = WIDTH_INCHES / columns
    figure = new_figure(lines * (width * flair.shape[1] * voxel_mm[1] / (flair.shape[0] * voxel_mm[0]) + 0.28) + 0.75)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    top = max(float(np.nanmax(risk[:, :, z])) for risk in risks.values()) or 1.0
    grey = {"cmap": "gray", "vmin": 0, "vmax": float(np.nanpercentile(flair[:, :, z], 99.5)) or 1.0}
    shape = {"origin": "lower", "aspect": voxel_mm[1] / voxel_mm[0], "interpolation": "nearest"}
    colours: Any = None
    for panel, (arm, risk) in zip(panels, [("FLAIR", None), *risks.items()], strict=False):
        panel.imshow(flair[:, :, z].T, **grey, **shape)
        if risk is not None:
            shown = np.ma.masked_less(risk[:, :, z].T, 0.02 * top)
            colours = panel.imshow(shown, cmap="inferno", vmin=0, vmax=top, alpha=0.85, **shape)
        panel.set_title(arm, fontsize=8, weight="normal", loc="center", pad=3)
    for panel in panels:
        panel.set_axis_off()
    colour_bar(figure, colours, list(panels), "Risk of a new or enlarging lesion")
    headline(figure, title)
    words = [
        f"{arm}, highest voxel risk {fixed(np.nanmax(part), 3)}, expected lesion voxels in the slice {fixed(np.nansum(part), 2)}"
        for arm, part in ((arm, risk[:, :, z]) for arm, risk in risks.items())
    ]
    return describe(figure, f"Risk maps over axial FLAIR slice {z}: {'; '.join(words)}.")


def _check(flair: NDArray[np.floating], risks: Mapping[str, NDArray[np.floating]]) -> None:
    if not risks:
        raise InputError("risk maps: no arm given, so there is nothing to draw; give at least one risk map")
    for arm, risk in risks.items():
        if risk.shape != flair.shape:
            raise InputError(
                f"risk map of {arm}: shape {risk.shape}, expected that of the FLAIR {flair.shape}; bring both to one grid"
            )
        low, high = float(np.nanmin(risk)), float(np.nanmax(risk))
        if low < 0 or high > 1:
            raise InputError(
                f"risk map of {arm}: found values from {name_of(low)} to {name_of(high)}, expected probabilities from 0 to 1; "
                "divide counts by draws"
            )
