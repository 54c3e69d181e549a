"""Registered scans with the outline of the template's brain, so that one look tells whether they lie on it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from causalms.errors import InputError
from causalms.report.style import SIMULATED, WARNING, WIDTH_INCHES, describe, headline, house_style, new_figure


@house_style
def registration(
    images: Mapping[str, NDArray[np.floating]],
    outlines: Mapping[str, NDArray[np.bool_]],
    title: str = "",
) -> Figure:
    """Middle slices of each image along the three axes, with the outlines of structures of the template.

    Parameters
    ----------
    images : mapping of name to array (x, y, z)
        On one grid of cubic voxels, axes to the right, to the front and upwards.
    outlines : mapping of name to array of bool (x, y, z)
        Structures whose edge is drawn: at most two, the brain first.
    title : str

    Raises
    ------
    InputError
        If there is no image, or the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> brain = np.zeros((6, 8, 6), bool); brain[1:5, 1:7, 1:5] = True
    >>> registration({"T1w": brain * 1.0}, {"brain": brain}).get_label()
    'T1w in the middle slices along three axes, with the outline of the template: brain.'
    """
    shapes = {array.shape for array in (*images.values(), *outlines.values())}
    if not images or len(shapes) != 1:
        raise InputError(f"registration: images and outlines of shapes {sorted(shapes)}; give one image or more, all on one grid")
    x, y, z = shapes.pop()
    heights = (y / x, z / x, z / y)
    figure = new_figure(len(images) * WIDTH_INCHES / 3 * max(heights) + 0.6)
    panels = figure.subplots(len(images), 3, squeeze=False)
    for row, (name, image) in zip(panels, images.items(), strict=True):
        top = float(np.quantile(image[image > 0], 0.99)) if (image > 0).any() else 1.0
        for panel, at in zip(row, (np.s_[:, :, z // 2], np.s_[:, y // 2, :], np.s_[x // 2, :, :]), strict=True):
            panel.imshow(image[at].T, cmap="gray", vmin=0, vmax=top, origin="lower")
            for outline, colour in zip(outlines.values(), (WARNING, SIMULATED), strict=False):
                if outline[at].any() and not outline[at].all():
                    panel.contour(outline[at].T, levels=[0.5], colors=[colour], linewidths=0.7)
            panel.set_axis_off()
        row[0].set_title(name, fontsize=8, weight="normal", pad=3)
    headline(figure, title)
    shown = ", ".join(images)
    words = f"{shown} in the middle slices along three axes, with the outline of the template: {', '.join(outlines)}."
    return describe(figure, words)
