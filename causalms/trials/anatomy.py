"""The MNI152 template on any grid: tissue, ventricles, distances and the four lesion regions, without a download."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from causalms.trials.space import Space, mni_space
from causalms.trials.template import Anatomy, make_anatomy

#: Grids whose template ships with the package; that of any other is made, in about five seconds and 1.3 GiB.
SHIPPED = ("4mm", "3mm")


@lru_cache(maxsize=8)
def template_anatomy(space: Space) -> Anatomy:
    """The MNI152 template on a grid in MNI coordinates.

    Read from a file that ships for the grids of the models (``SHIPPED``), made by ``make_anatomy`` for any other.

    Parameters
    ----------
    space : Space

    Returns
    -------
    Anatomy

    References
    ----------
    Fonov V, Evans AC, Botteron K, et al. Unbiased average age-appropriate atlases for pediatric studies. NeuroImage 2011.
    Regions after Filippi M, Preziosa P, Banwell BL, et al. Assessment of lesions on MRI in MS. Brain 2019.

    Examples
    --------
    >>> from causalms.trials import mni_space
    >>> anatomy = template_anatomy(mni_space("4mm"))
    >>> anatomy.regions.shape, sorted(int(label) for label in np.unique(anatomy.regions))
    ((40, 48, 40), [0, 1, 2, 3, 4])
    """
    for grid in SHIPPED:
        file = template_file(grid)
        if space == mni_space(grid) and file.is_file():
            with np.load(file, allow_pickle=False) as arrays:
                return _frozen(Anatomy(**arrays))
    return _frozen(make_anatomy(space))


def template_file(grid: str) -> Path:
    """Where the template of a grid ships; ``studies/template_files.py`` writes it."""
    return Path(str(files("causalms.trials") / f"template_{grid}.npz"))


def _frozen(anatomy: Anatomy) -> Anatomy:
    for array in vars(anatomy).values():
        array.setflags(write=False)
    return anatomy
