"""Is a patient like those that the generator learned from?  Three distances: of columns, of image signals, of scanner and space.

Each is a Mahalanobis distance from patients the error model was learned from, with the limit that 99 of 100 of them keep within.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from causalms.errors import InputError
from causalms.generator.configurations import COVARIATES
from causalms.generator.inputs import PatientArrays
from causalms.stats import ColumnSummary, median, sorted_quantiles
from causalms.tables import limit_of
from causalms.trials import MODALITIES, Space, template_anatomy

_FOLDS = 20
_OF_AN_IMAGE = ("quantile_02", "quantile_10", "quantile_90", "quantile_98", "log_noise", "log_shading")
_OF_THE_BRAIN = ("overlap", "x_mm", "y_mm", "z_mm", "width_mm", "length_mm", "height_mm")
#: Names of the scanner's features: of every modality, then of the brain mask.
SCANNER = (*(f"{modality}_{name}" for modality in MODALITIES for name in _OF_AN_IMAGE), *(f"brain_{n}" for n in _OF_THE_BRAIN))


#: Columns of the error model: those of the network, the number of T2 lesions (nearly the volume) replaced by any enhancement.
ERROR_COLUMNS = (*(name for name in COVARIATES if name != "t2_lesions"), "any_gd")


def error_columns(covariates: np.ndarray) -> np.ndarray:
    """Columns :data:`ERROR_COLUMNS` (n, 8) of covariate vectors (n, columns); NaN where missing."""
    gd = covariates[:, COVARIATES.index("gd_lesions")]
    kept = [index for index, name in enumerate(COVARIATES) if name != "t2_lesions"]
    return np.column_stack([covariates[:, kept], np.where(np.isnan(gd), np.nan, gd > 0)])


def features_of(covariates: np.ndarray, signals: np.ndarray, scanner: np.ndarray) -> dict[str, np.ndarray]:
    """The features that are compared, from covariate vectors (n, columns), observed signals and scanner features."""
    return {"columns": error_columns(np.asarray(covariates, float)), "signals": signals, "scanner": scanner}


def scanner_features(patient: PatientArrays, space: Space) -> np.ndarray:
    """Features :data:`SCANNER` of a patient's images: contrast, noise, shading, and how the brain lies on the template.

    Of every modality, scaled to median 0 and interquartile range 1 in the brain: quantiles of the brain's signal (contrast); in
    normal-appearing white matter the noise (second differences along x, median absolute deviation) and the shading (standard
    deviation of a fitted quadratic field), both as logarithms.  Of the brain mask: Dice overlap with the template's, centroid
    and extent.  A missing modality is NaN.
    """
    brain = patient.masks[0]
    white, neighbours, shapes, inverse, template = _white_matter(space)
    features: list[float] = []
    for image in patient.images.astype(np.float32):
        values = np.sort(image[brain])
        if not len(values) or not values.any():
            features += [np.nan] * len(_OF_AN_IMAGE)
            continue
        flat = image.ravel()
        second = flat[neighbours[0]] - 2 * flat[white] + flat[neighbours[1]]
        noise = 1.4826 * median(np.abs(second - np.float32(median(second)))) / np.sqrt(6)
        shading = float(np.std(shapes @ (inverse @ flat[white])))
        features += [*sorted_quantiles(values, (0.02, 0.10, 0.90, 0.98)), np.log(max(noise, 1e-4)), np.log(max(shading, 1e-4))]
    return np.array([*features, *_of_the_brain(brain, template, space)], dtype=np.float32)


def _of_the_brain(brain: np.ndarray, template: np.ndarray, space: Space) -> list[float]:
    if not brain.any():
        return [np.nan] * len(_OF_THE_BRAIN)
    overlap = 2 * float((brain & template).sum()) / float(brain.sum() + template.sum())
    counts = (brain.sum(axis=(1, 2)), brain.sum(axis=(0, 2)), brain.sum(axis=(0, 1)))
    centroid = np.array([voxels @ np.arange(len(voxels)) / voxels.sum() for voxels in counts])
    ends = np.array([_counted_quantiles(voxels, (0.01, 0.99)) for voxels in counts])
    return [overlap, *space.world(centroid[None])[0], *((ends[:, 1] - ends[:, 0]) * np.array(space.voxel_sizes_mm))]


def _counted_quantiles(counts: np.ndarray, shares: tuple[float, float]) -> list[float]:
    """Two quantiles of whole numbers from 0 on, of which there are ``counts``."""
    reached, quantiles = counts.cumsum(), []
    for share in shares:
        at = share * (reached[-1] - 1)
        low, high = np.searchsorted(reached, [int(at), min(int(at) + 1, reached[-1] - 1)], side="right")
        quantiles.append(low + (high - low) * (at - int(at)))
    return quantiles


@lru_cache(maxsize=4)
def _white_matter(space: Space) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """The template's white matter as flat indices, its neighbours along x, quadratic shapes on it, their inverse; the brain."""
    anatomy = template_anatomy(space)
    inside = np.asarray(anatomy.white) > 0.9
    inside[[0, -1]] = False
    white = np.flatnonzero(inside)
    step = int(np.prod(space.shape[1:]))
    x, y, z = (2 * np.argwhere(inside) / np.array(space.shape) - 1).T
    shapes = np.column_stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, y * z, x * z])
    template = np.asarray(anatomy.brain)
    return white, (white - step, white + step), shapes, np.linalg.pinv(shapes), template


@dataclass(frozen=True)
class Seen:
    """Summary of the patients the error model was learned from, by group of features, with what 99 of 100 keep within.

    Attributes
    ----------
    summaries : mapping of str to ColumnSummary
        By the names of :data:`causalms.tables.COMPARED`.
    limits : mapping of str to float
        By cross-validation in 20 folds.
    patients : int
    usual : mapping of str to (float, float)
        Mean and standard deviation of the squared distance in units of the limit, from the same cross-validation.
    """

    summaries: Mapping[str, ColumnSummary] = field(repr=False)
    limits: Mapping[str, float]
    patients: int
    usual: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, features: Mapping[str, np.ndarray]) -> Seen:
        """Summary of features (patients, q) by group."""
        numbered = tuple(f"signal_{k}" for k in range(features["signals"].shape[1]))
        names = {"columns": ERROR_COLUMNS, "signals": numbered, "scanner": SCANNER}
        summaries = {group: ColumnSummary.of(values, names[group]) for group, values in features.items()}
        others = {group: _distances_of_others(values, names[group]) for group, values in features.items()}
        limits = {group: limit_of(distances) for group, distances in others.items()}
        squares = {group: (distances / limits[group]) ** 2 for group, distances in others.items() if len(distances)}
        usual = {group: (float(values.mean()), float(values.std())) for group, values in squares.items()}
        return cls(summaries, limits, max((len(values) for values in features.values()), default=0), usual)

    def distances(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Distances (patients,) by group, in units of the group's limit: above 1, a patient lies outside."""
        return {
            group: np.sqrt(summary.distance(features[group])) / self.limits[group] for group, summary in self.summaries.items()
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays by name, for a file; what is no array is in :meth:`words_and_numbers`."""
        return {
            f"{group}.{name}": getattr(summary, name) for group, summary in self.summaries.items() for name in _SUMMARY_ARRAYS
        }

    def words_and_numbers(self) -> dict[str, Any]:
        """What is no array, as JSON values."""
        groups = {
            name: {
                "features": list(summary.names),
                "limit": self.limits[name] if np.isfinite(self.limits[name]) else None,
                "usual": list(self.usual.get(name, ())),
            }
            for name, summary in self.summaries.items()
        }
        return {"groups": groups, "patients": self.patients}

    @classmethod
    def read(cls, arrays: Mapping[str, np.ndarray], words: Mapping[str, Any]) -> Seen:
        """The summary that :meth:`arrays` and :meth:`words_and_numbers` describe.

        Raises
        ------
        InputError
            If a part is missing, or an array has another shape than the names of the features ask for.
        """
        summaries, limits, usual = {}, {}, {}
        try:
            for group, content in words["groups"].items():
                names = tuple(map(str, content["features"]))
                parts = {name: np.asarray(arrays[f"{group}.{name}"], float) for name in _SUMMARY_ARRAYS}
                shapes = {"mean": (len(names),), "sd": (len(names),), "correlation": (len(names), len(names))}
                if any(parts[name].shape != shape or not np.isfinite(parts[name]).all() for name, shape in shapes.items()):
                    raise ValueError(f"{group}: expected finite numbers of {len(names)} features")
                summaries[str(group)] = ColumnSummary(names, **parts)
                limits[str(group)] = np.inf if content["limit"] is None else float(content["limit"])
                if pair := content.get("usual"):
                    usual[str(group)] = (float(pair[0]), float(pair[1]))
            return cls(summaries, limits, int(words["patients"]), usual)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(f"summary of the training patients: incomplete or unreadable ({error}); fit it again") from error


def _distances_of_others(values: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Distance of every patient (n,) from the patients of the other folds; none of fewer than 20 patients."""
    if len(values) < _FOLDS:
        return np.zeros(0)
    fold = np.arange(len(values)) % _FOLDS
    distances = np.empty(len(values))
    for number in range(_FOLDS):
        own = fold == number
        distances[own] = np.sqrt(ColumnSummary.of(values[~own], names).distance(values[own]))
    return distances


_SUMMARY_ARRAYS = ("mean", "sd", "correlation")
