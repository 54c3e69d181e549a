"""Who a contrast of two arms is about: one rule for every room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalms.errors import RefusalError
from causalms.tables.keys import names_of


@dataclass(frozen=True)
class ContrastPopulation:
    """The patients that a contrast of an arm with a reference is about.

    Attributes
    ----------
    arm, reference : str
    included : boolean array (n,)
        Rows of the table that belong to the contrast.
    randomised : bool
        Some trial randomised both arms, and only patients of such trials are included.
    trials : tuple of str
        The trials that randomised both arms; empty if none did or the table has no column ``trial``.
    trials_of_arm, trials_of_reference : tuple of str
        Every trial with patients of that arm; empty without a column ``trial``.
    left_out : int
        Patients of the two arms in trials that did not randomise both.
    left_out_trials : tuple of str
        Their trials.
    pooled : bool
        Trials were pooled on request, so that the contrast is not randomised whatever the trials did.
    """

    arm: str
    reference: str
    included: np.ndarray
    randomised: bool
    trials: tuple[str, ...] = ()
    trials_of_arm: tuple[str, ...] = ()
    trials_of_reference: tuple[str, ...] = ()
    left_out: int = 0
    left_out_trials: tuple[str, ...] = ()
    pooled: bool = False

    @property
    def words(self) -> str:
        """The population in words, as it stands in every table."""
        if self.pooled:
            return "all patients of the table, trials pooled on request"
        if not self.randomised:
            return "all patients of the table"
        if not self.left_out:
            return "all randomised patients"
        return f"all randomised patients of {', '.join(self.trials)}"

    @property
    def assumption(self) -> str:
        """What must hold for the contrast to be an effect."""
        if self.randomised:
            within = f" within {', '.join(self.trials)}" if self.trials else ""
            return f"none beyond randomisation{within}"
        given = (
            "given the measured baseline covariates, patients of those trials would have had the same outcome under the same "
            "arm (no unmeasured trial effect), and that covariates overlap"
        )
        of_arm, of_reference = ", ".join(self.trials_of_arm), ", ".join(self.trials_of_reference)
        how = "pooled on request" if self.pooled and self.trials else "never both"
        where = f"{self.arm} was randomised in {of_arm} and {self.reference} in {of_reference}, {how}"
        return f"{where}: the contrast assumes that, {given}"

    @property
    def note(self) -> str:
        """What was left out or must be assumed, for the reader; empty if nothing."""
        if self.left_out:
            return (
                f"{self.arm} against {self.reference}: {self.left_out} patients of {', '.join(self.left_out_trials)} left out, "
                f"where not both were randomised"
            )
        return "" if self.randomised else f"not randomised: {self.assumption}"


def contrast_population(
    table: pd.DataFrame, arm: str, reference: str, *, arm_column: str = "arm", pool: bool = False
) -> ContrastPopulation:
    """The patients of "arm against reference": those of the trials that randomised both.

    One rule for every room.  The patients of all trials that have both arms are compared; patients of the two arms in other
    trials are left out, counted and named.  If no trial has both, or ``pool`` is set, every patient of the table is used and
    the contrast is not randomised.  A table without a column ``trial`` is one trial.

    Parameters
    ----------
    table : DataFrame
        One row a patient, with ``arm_column`` and, for several trials, ``trial``.
    arm, reference : str
    arm_column : str
        Column of the arm as randomised.
    pool : bool
        Use all patients of all trials; the contrast is then not randomised.

    Raises
    ------
    RefusalError
        If nobody was given one of the two arms.

    Examples
    --------
    >>> import pandas as pd
    >>> people = pd.DataFrame({"trial": list("AABB"), "arm": ["placebo", "drug", "drug", "other"]})
    >>> found = contrast_population(people, "drug", "placebo")
    >>> found.included.tolist(), found.randomised, found.note
    ([True, True, False, False], True, 'drug against placebo: 1 patients of B left out, where not both were randomised')
    >>> contrast_population(people, "other", "placebo").randomised
    False
    """
    given = names_of(table[arm_column])
    for name in (reference, arm):
        if not (given == name).any():
            raise RefusalError(f"nobody was given {name!r}, so there is no contrast; name an arm of the table")
    everybody = np.ones(len(table), dtype=bool)
    if "trial" not in table or arm_column == "trial":
        return ContrastPopulation(arm, reference, everybody, randomised=True)
    trial = names_of(table["trial"])
    trial = trial.where(trial.notna(), "")
    of_arm, of_reference = (tuple(sorted(set(trial[given == name]))) for name in (arm, reference))
    both = tuple(name for name in of_arm if name in of_reference)
    if pool or not both:
        one_trial = trial.nunique() == 1
        return ContrastPopulation(
            arm, reference, everybody, randomised=bool(both) and one_trial, trials=both, trials_of_arm=of_arm,
            trials_of_reference=of_reference, pooled=pool and not one_trial,
        )  # fmt: skip
    included = trial.isin(both).to_numpy()
    elsewhere = ~included & given.isin([arm, reference]).to_numpy()
    return ContrastPopulation(
        arm, reference, included, randomised=True, trials=both, trials_of_arm=of_arm, trials_of_reference=of_reference,
        left_out=int(elsewhere.sum()), left_out_trials=tuple(sorted(set(trial[elsewhere]))),
    )  # fmt: skip
