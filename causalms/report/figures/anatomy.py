"""Lesions over the anatomy: the risk of a new one, and expected beside observed frequency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from causalms.errors import InputError
from causalms.report.style import (
    OBSERVED,
    SIMULATED,
    WIDTH_INCHES,
    colour_bar,
    describe,
    headline,
    house_style,
    new_axes,
    new_figure,
    require_columns,
    shade,
)
from causalms.tables import fixed, name_of, significant

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


_FWHM_TO_SIGMA = 2.3548


@house_style
def lesion_frequency(
    background: NDArray[np.floating],
    expected: NDArray[np.floating],
    observed: NDArray[np.floating],
    slices: Sequence[int] | None = None,
    voxel_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    smooth_mm: float = 8.0,
    title: str = "",
) -> Figure:
    """Share of patients with a new or enlarging lesion at each place: expected above, observed below, over axial slices.

    Few patients share a voxel, so both maps are smoothed alike before they are drawn.

    Parameters
    ----------
    background : array (x, y, z)
        An anatomical image, axes to the right, to the front and upwards, such as the template's T1.
    expected, observed : array (x, y, z)
        Mean voxel risk, and share of patients, as :func:`causalms.calibration.frequency_maps` gives them.
    slices : sequence of int, optional
        Axial slices; unless given, four that part the observed lesions evenly.
    voxel_mm : (float, float, float)
    smooth_mm : float
        Full width at half maximum of the Gaussian; 0 draws the maps as they are.
    title : str

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> expected, observed = np.zeros((2, 8, 9, 6))
    >>> expected[3:5, 4, 2:4], observed[3, 4, 2] = 0.2, 0.7
    >>> lesion_frequency(np.ones((8, 9, 6)), expected, observed, smooth_mm=0).get_label()[:76]
    'Lesion frequency over axial slices 2: expected lesion voxels a patient 0.80,'
    """
    for name, part in (("expected", expected), ("observed", observed)):
        if part.shape != background.shape:
            raise InputError(
                f"lesion frequency: {name} map of shape {part.shape}, expected that of the anatomy {background.shape}; "
                "bring both to one grid"
            )
    chosen = list(slices) if slices is not None else _slices(observed + expected * 1e-6)
    sigma = [smooth_mm / _FWHM_TO_SIGMA / size for size in voxel_mm]
    drawn = [ndimage.gaussian_filter(part.astype(float), sigma) if smooth_mm > 0 else part for part in (expected, observed)]
    top = max(float(part[:, :, chosen].max()) for part in drawn) or 1.0
    panel = 4.8 / len(chosen)
    ratio = background.shape[1] * voxel_mm[1] / (background.shape[0] * voxel_mm[0])
    figure = new_figure(2 * panel * ratio + 0.95)
    axes = figure.subplots(2, len(chosen), squeeze=False)
    shape: Any = {"origin": "lower", "aspect": voxel_mm[1] / voxel_mm[0], "interpolation": "nearest"}
    grey: Any = {"cmap": "gray", "vmin": 0, "vmax": float(np.percentile(background, 99.5)) or 1.0}
    colours: Any = None
    for line, (name, part) in enumerate(zip(("expected", "observed"), drawn, strict=True)):
        for column, z in enumerate(chosen):
            ax = axes[line, column]
            ax.imshow(background[:, :, z].T, **grey, **shape)
            shown = np.ma.masked_less(part[:, :, z].T, 0.05 * top)
            colours = ax.imshow(shown, cmap="inferno", vmin=0, vmax=top, alpha=0.9, **shape)
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set_visible(False)
            if column == 0:
                ax.set_ylabel(name)
    colour_bar(figure, colours, axes, "Share of patients with a lesion here")
    headline(figure, title)
    inside = np.corrcoef(drawn[0].ravel(), drawn[1].ravel())[0, 1] if drawn[0].std() > 0 and drawn[1].std() > 0 else float("nan")
    return describe(
        figure,
        f"Lesion frequency over axial slices {', '.join(map(str, chosen))}: expected lesion voxels a patient "
        f"{fixed(expected.sum(), 2)}, observed {fixed(observed.sum(), 2)}; correlation of the drawn maps {fixed(inside, 2)}.",
    )


def _slices(observed: NDArray[np.floating]) -> list[int]:
    """Slices at the 20, 40, 60 and 80% points of all lesion voxels from below."""
    by_slice = observed.sum(axis=(0, 1))
    if by_slice.sum() <= 0:
        return [observed.shape[2] // 2]
    place = np.searchsorted(np.cumsum(by_slice) / by_slice.sum(), [0.2, 0.4, 0.6, 0.8])
    return sorted({int(z) for z in place})


@house_style
def voxel_risk(table: pd.DataFrame, title: str = "") -> Figure:
    """Frequency of lesion voxels in classes of voxel risk, on log axes, with the band between patients under calibration.

    Parameters
    ----------
    table : DataFrame
        ``forecast``, ``frequency``, ``lower``, ``upper`` of :func:`causalms.calibration.voxel_reliability`; classes without any
        lesion voxel are drawn at the foot of the axis.
    title : str

    Examples
    --------
    >>> rows = {"forecast": [1e-3, 1e-2], "frequency": [2e-3, 1e-2], "lower": [5e-4, 5e-3], "upper": [1.5e-3, 2e-2]}
    >>> voxel_risk(pd.DataFrame(rows)).get_label()
    'Voxel risk from 0.001 to 0.01: frequency from 0.002 to 0.01; 1 of 2 classes lie outside the band.'
    """
    require_columns(table, ("forecast", "frequency", "lower", "upper"), "voxel risk")
    rows = table.sort_values("forecast")
    figure, axes = new_axes(3.9, 4.4)
    foot = float(rows["forecast"].min()) / 10
    shade(axes, rows["forecast"], rows["lower"].clip(lower=foot), rows["upper"], "band")
    ends = [foot, float(max(rows["forecast"].max(), rows["frequency"].max())) * 2]
    axes.plot(ends, ends, color=OBSERVED, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.plot(
        rows["forecast"], rows["frequency"].clip(lower=foot), "o-", color=SIMULATED, markersize=4, linewidth=1.4, label="observed"
    )
    axes.set(xscale="log", yscale="log", xlim=(foot, ends[1]), ylim=(foot, ends[1]))
    axes.set(xlabel="Forecast risk of the voxel", ylabel="Share of voxels with a lesion")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
    if title:
        axes.set_title(title, pad=20)
    outside = int(((rows["frequency"] < rows["lower"]) | (rows["frequency"] > rows["upper"])).sum())
    first, last = rows.iloc[0], rows.iloc[-1]
    return describe(
        figure,
        f"Voxel risk from {significant(first['forecast'], 2)} to {significant(last['forecast'], 2)}: frequency from "
        f"{significant(first['frequency'], 2)} to {significant(last['frequency'], 2)}; {outside} of {len(rows)} "
        "classes lie outside the band.",
    )
