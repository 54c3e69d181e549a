"""Which lesions of a reference mask a test mask finds, and which of its lesions are real."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from causalms.errors import UsageError
from causalms.lesions.rule import LesionRule, label_components, voxel_volume_of

#: What the scores are where a mask holds no lesion, by (reference is empty, test is empty). A share of nothing is not a
#: number; two empty masks agree.
EMPTY_SCORES = {
    (True, True): {"sensitivity": math.nan, "ppv": math.nan, "f1": 1.0, "dice": 1.0},
    (True, False): {"sensitivity": math.nan, "ppv": 0.0, "f1": 0.0, "dice": 0.0},
    (False, True): {"sensitivity": 0.0, "ppv": math.nan, "f1": 0.0, "dice": 0.0},
}


@dataclass(frozen=True)
class MatchRule:
    """When a lesion counts as found by the lesions of another mask.

    Parameters
    ----------
    alpha : float
        A lesion is found only if more than this share of its voxels is covered.
    beta : float
        A covering lesion may lie outside the other mask's lesions by at most this share of its voxels.
    gamma : float
        The covering lesions are looked at from the largest overlap on, until they make up this share of the overlap.

    Raises
    ------
    UsageError
        If one of them is not between 0 and 1.
    """

    alpha: float = 0.10
    beta: float = 0.70
    gamma: float = 0.65

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UsageError(f"{name} is {value!r}; give a share between 0 and 1")


@dataclass(frozen=True)
class LesionMatch:
    """Agreement of a test mask with a reference mask.

    Attributes
    ----------
    reference_found : tuple of bool
        For every reference lesion, whether the test mask finds it.
    test_confirmed : tuple of bool
        For every test lesion, whether the reference mask finds it.
    sensitivity, ppv, f1 : float
        Share of reference lesions found; share of test lesions confirmed; their harmonic mean.
    dice : float
        Voxel Dice of the counted lesions.
    """

    reference_found: tuple[bool, ...]
    test_confirmed: tuple[bool, ...]
    sensitivity: float
    ppv: float
    f1: float
    dice: float


def match_lesions(
    reference: np.ndarray,
    test: np.ndarray,
    affine: float | np.ndarray,
    rule: LesionRule | None = None,
    match: MatchRule | None = None,
) -> LesionMatch:
    r"""Lesion-wise sensitivity, positive predictive value and F1 by the rule of the MSSEG challenges, and voxel Dice.

    A reference lesion is found if (1) test lesions cover more than :math:`\alpha` of its voxels, and (2) going through the
    test lesions that cover it from the largest overlap on, until they make up :math:`\gamma` of the covered voxels, each has
    at most :math:`\beta` of its voxels outside all reference lesions. A test lesion is confirmed by the same rule with the
    masks exchanged. Then

    .. math:: S = \frac{\text{found}}{\text{reference lesions}}, \quad
              P = \frac{\text{confirmed}}{\text{test lesions}}, \quad F_1 = \frac{2SP}{S + P}.

    Parameters
    ----------
    reference, test : arrays of shape (X, Y, Z)
        Non-zero inside lesions.
    affine : array of shape (4, 4) or float
        Affine, or volume of one voxel in mm3.
    rule : LesionRule, optional
        What counts as a lesion in both masks; components that are none are left out of every score.
    match : MatchRule, optional
        :math:`\alpha` = .10, :math:`\beta` = .70, :math:`\gamma` = .65 if not given.

    Returns
    -------
    LesionMatch

    Raises
    ------
    UsageError
        If the masks differ in shape.

    Notes
    -----
    Where a mask holds no lesion:

    ========= ===== =========== === == ====
    reference test  sensitivity PPV F1 Dice
    ========= ===== =========== === == ====
    empty     empty NaN         NaN 1  1
    empty     some  NaN         0   0  0
    some      empty 0           NaN 0  0
    ========= ===== =========== === == ====

    References
    ----------
    Commowick O, Istace A, Kain M, et al. Objective evaluation of multiple sclerosis lesion segmentation using a data
    management and processing infrastructure. Scientific Reports 2018;8:13650.

    Examples
    --------
    >>> import numpy as np
    >>> reference, test = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    >>> reference[1:4, 1:4, 1:4] = reference[6:8, 6:8, 6:8] = True
    >>> test[2:5, 1:4, 1:4] = True
    >>> found = match_lesions(reference, test, 1.0)
    >>> found.reference_found, found.sensitivity, found.ppv, round(found.f1, 3), round(found.dice, 3)
    ((True, False), 0.5, 1.0, 0.667, 0.581)
    """
    if np.shape(reference) != np.shape(test):
        raise UsageError(f"the reference has shape {np.shape(reference)}, the test {np.shape(test)}; give both on one grid")
    counted, voxel_mm3 = rule or LesionRule.default(), voxel_volume_of(affine)
    in_reference, of_reference = label_components(reference, counted, voxel_mm3)
    in_test, of_test = label_components(test, counted, voxel_mm3)
    overlap = _overlap(in_reference, in_test, len(of_reference), len(of_test))
    shares = match or MatchRule()
    matched = _found(overlap, of_reference, of_test, shares)
    confirmed = _found(overlap.T, of_test, of_reference, shares)
    empty = (len(of_reference) == 0, len(of_test) == 0)
    if any(empty):
        return LesionMatch(matched, confirmed, **EMPTY_SCORES[empty])
    sensitivity, ppv = sum(matched) / len(matched), sum(confirmed) / len(confirmed)
    f1 = 2 * sensitivity * ppv / (sensitivity + ppv) if sensitivity + ppv else 0.0
    dice = 2 * float(overlap[1:, 1:].sum()) / float(of_reference.sum() + of_test.sum())
    return LesionMatch(matched, confirmed, sensitivity, ppv, f1, dice)


def _overlap(in_reference: np.ndarray, in_test: np.ndarray, n_reference: int, n_test: int) -> np.ndarray:
    """Voxels shared by every pair of lesions; row and column 0 are the background."""
    touched = np.flatnonzero((in_reference > 0) | (in_test > 0))
    pair = in_reference.ravel()[touched].astype(np.int64) * (n_test + 1) + in_test.ravel()[touched]
    return np.bincount(pair, minlength=(n_reference + 1) * (n_test + 1)).reshape(n_reference + 1, n_test + 1)


def _found(overlap: np.ndarray, of_row: np.ndarray, of_column: np.ndarray, rule: MatchRule) -> tuple[bool, ...]:
    """For every row lesion, whether the column lesions find it."""
    outside = overlap[0, 1:] / np.maximum(of_column, 1)
    matched = []
    for row, voxels in zip(overlap[1:, 1:], of_row, strict=True):
        covered = int(row.sum())
        matched.append(covered > rule.alpha * voxels and _covered_by_fitting(row, covered, outside, rule))
    return tuple(bool(value) for value in matched)


def _covered_by_fitting(row: np.ndarray, covered: int, outside: np.ndarray, rule: MatchRule) -> bool:
    explained = 0
    for column in np.argsort(-row, kind="stable"):
        if explained >= rule.gamma * covered:
            break
        if outside[column] > rule.beta:
            return False
        explained += int(row[column])
    return True
