"""What is known of a simulated trial and never observed: true rates and every potential outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalms.errors import RefusalError, UsageError, near_or_all
from causalms.phantom.design import Design
from causalms.phantom.patient import PhantomPatient, mask_of, patient_anatomy, simulate_patient
from causalms.phantom.placement import net2_density
from causalms.phantom.roster import Enrolled
from causalms.trials import Space

TRUTH_COLUMNS = (
    "participant_id",
    "trial",
    "arm",
    "visit_week",
    "log_rate",
    "true_rate",
    "realised_rate",
    "true_lesions",
    "true_volume_ml",
)


@dataclass(frozen=True)
class LesionList:
    """Potential lesions of one patient: a lesion is there under an arm if its ``u`` is below the arm's share of the largest rate.

    Attributes
    ----------
    u, onset_week : float arrays of shape (lesions,)
    voxels : tuple of int arrays
        Flat indices (C order) on the trial's grid.
    """

    u: np.ndarray
    onset_week: np.ndarray
    voxels: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class PhantomTruth:
    r"""The truth of a simulated trial.

    Attributes
    ----------
    design : Design
    seed : int
    space : Space
    roster : tuple of Enrolled
    table : DataFrame
        One row a patient x arm x week. ``true_rate`` is the expected cumulative count given everything that can be observed
        before treatment (columns and images), ``log_rate`` its logarithm; ``realised_rate`` is the expected count given the
        patient's frailty and structural zero too; ``true_lesions`` and ``true_volume_ml`` are the potential outcome.

    Examples
    --------
    >>> from causalms.phantom import simulate_trial
    >>> truth = simulate_trial("lifelike", patients=4, seed=1).truth
    >>> row = truth.table.query("participant_id == 'sub-0001' and visit_week == 96").set_index("arm")
    >>> float((row.true_rate["laquinimod"] / row.true_rate["placebo"]).round(3))
    0.835
    >>> mask = truth.potential_mask("sub-0001", "placebo", 96)
    >>> float((mask.sum() * 0.064).round(6)) == float(row.true_volume_ml["placebo"].round(6))
    True
    """

    design: Design
    seed: int
    space: Space
    roster: tuple[Enrolled, ...]
    table: pd.DataFrame
    lesions_of: Callable[[str], LesionList] = field(repr=False)

    def potential_mask(self, participant_id: str, arm: str, week: float) -> np.ndarray:
        """NET2 mask the patient would have at a week under an arm, bool on the trial's grid.

        Any week up to the last one may be asked for.

        Raises
        ------
        UsageError
            If the patient, arm or week is not in the trial.
        """
        self._enrolled(participant_id)
        if arm not in self.design.arms:
            raise UsageError(f"unknown arm {arm!r}; {near_or_all(arm, self.design.arms, 'choose one of', always=True)}")
        self._inside(week)
        rows = self._rows(participant_id)
        share = rows.set_index("arm")["realised_rate"] / max(rows["realised_rate"].max(), np.finfo(float).tiny)
        lesions = self.lesions_of(participant_id)
        here = (lesions.u < share[arm]) & (lesions.onset_week <= week)
        return mask_of([voxels for voxels, there in zip(lesions.voxels, here, strict=True) if there], self.space.shape)

    def rates(self, week: float) -> pd.DataFrame:
        """True expected cumulative counts at any week up to the last one, visits or not: one row a patient, one column an arm.

        Rates are constant in time, so ``true_rate(w) = true_rate(last) * w / last``.

        Raises
        ------
        UsageError
            If the week is outside the trial.
        """
        last = self._inside(week)
        ends = self.table[self.table["visit_week"] == last]
        wide = ends.pivot(index="participant_id", columns="arm", values="true_rate")
        return wide[list(self.design.arms)] * (week / last)

    @property
    def scanners(self) -> pd.Series:
        """Name of the scanner that every participant's site has; missing where the design has no scanners."""
        names = [enrolled.scanner.name if enrolled.scanner else None for enrolled in self.roster]
        return pd.Series(names, index=[enrolled.participant_id for enrolled in self.roster], name="scanner", dtype="object")

    def location_intensity(self, participant_id: str) -> np.ndarray:
        """Probability of every voxel to be the first of a new lesion, before lesions keep each other apart; sums to 1.

        The same under every arm. Computed anew from the design and the seed.

        Returns
        -------
        float array of the grid's shape

        Raises
        ------
        RefusalError
            If this version of the package no longer makes the patient that was written.
        """
        enrolled = self._enrolled(participant_id)
        patient = simulate_patient(self.design, enrolled, self.seed, self.space)
        if not np.array_equal(patient.potential.u, self.lesions_of(participant_id).u):
            raise RefusalError(
                f"{participant_id}: this version of causalms makes another patient than the one written; "
                "install the version named in sourcedata/truth/truth.json"
            )
        shape = self.space.shape
        anatomy = patient_anatomy(self.seed, enrolled.index, self.space)
        t2, gd = mask_of(patient.t2_lesions, shape), mask_of(patient.gd_lesions, shape)
        density = net2_density(anatomy, t2, gd, self.design.lesions)
        intensity = np.zeros(shape)
        intensity.ravel()[density.voxels] = density.probability
        return intensity

    def _inside(self, week: float) -> int:
        """Last week of the trial, if the week asked for is not after it."""
        last = max(self.design.weeks)
        if not 0 <= week <= last:
            raise UsageError(f"week {week} is outside the trial; choose a week from 0 to {last}")
        return last

    def _enrolled(self, participant_id: str) -> Enrolled:
        for enrolled in self.roster:
            if enrolled.participant_id == participant_id:
                return enrolled
        raise UsageError(f"no participant {participant_id!r} in this trial; participants.tsv names them")

    def _rows(self, participant_id: str) -> pd.DataFrame:
        table = self.table
        return table[(table["participant_id"] == participant_id) & (table["visit_week"] == max(self.design.weeks))]


def truth_rows(design: Design, patient: PhantomPatient, voxel_volume_mm3: float) -> list[tuple[object, ...]]:
    """Rows of the truth table of one patient, in the order of :data:`TRUTH_COLUMNS`."""
    volumes = np.array([len(voxels) for voxels in patient.potential.voxels], dtype=float) * voxel_volume_mm3 / 1000
    last = max(design.weeks)
    rows: list[tuple[object, ...]] = []
    for number, arm in enumerate(design.arms):
        for week in design.weeks:
            log_rate = float(patient.rates.log_rate[number] + np.log(week / last))
            here = patient.potential.present(patient.rates, number, week)
            realised = float(patient.rates.realised[number] * (week / last))
            outcome = (int(here.sum()), float(volumes[here].sum()))
            key = (patient.participant_id, patient.enrolled.trial.name, arm, week)
            rows.append((*key, log_rate, float(np.exp(log_rate)), realised, *outcome))
    return rows
