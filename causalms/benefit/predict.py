"""Predicted benefit beside what randomisation says of it: one score a patient that averages to the treatment effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.benefit.redraws import Floats, Learns, Redraws, TrialLaw, count_law, pseudo_outcomes, redraw
from causalms.benefit.statistics import REDRAWS, Inference, NullDistribution, Statistic
from causalms.effects import patient_effects, patient_means
from causalms.errors import InputError, RefusalError
from causalms.tables import ResultRow, names_of, one_week, participant_key, patient_order, plain_numbers


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two randomised arms and the outcome that they are compared by.

    Attributes
    ----------
    outcome : str
        Column of the counts.
    drug, reference : str
        The arms.
    arm : str
        Column of the arm.
    population : str
        Its name in results; "patients randomised to ..." unless given.

    Examples
    --------
    >>> Comparison(outcome="y", drug="d", reference="p").who
    'patients randomised to d or p'
    """

    outcome: str
    drug: str
    reference: str
    arm: str = "arm"
    population: str = ""

    @property
    def who(self) -> str:
        """Name of the population."""
        return self.population or f"patients randomised to {self.drug} or {self.reference}"

    def patients(self, people: pd.DataFrame) -> pd.DataFrame:
        """Patients of the two arms with an outcome, in an order that is not that of the file: lots are drawn by patient."""
        known = names_of(people[self.arm]).isin([str(self.drug), str(self.reference)]) & people[self.outcome].notna()
        chosen = people[known].iloc[patient_order(people[known])].reset_index(drop=True)
        values = plain_numbers(chosen[self.outcome])
        for wrong, what in ((~np.isfinite(values), "no number"), (values % 1 != 0, "no count")):
            if wrong.any():
                odd = chosen.iloc[int(np.flatnonzero(wrong)[0])]
                fault = f"{self.outcome} of participant {odd['participant_id']} is {odd[self.outcome]!r}"
                raise InputError(f"benefit: {fault}, {what}; correct it")
        return chosen.assign(**{self.outcome: values})

    def treated(self, patients: pd.DataFrame) -> NDArray[np.bool_]:
        """Which of the patients were randomised to the drug."""
        return (names_of(patients[self.arm]) == str(self.drug)).to_numpy()


@dataclass(frozen=True, eq=False)
class Benefit:
    r"""Two randomised arms with a predicted benefit of every patient.

    The pseudo-outcome of patient i under arm a, :math:`\Gamma_i(a) = m_i(a) + 1\{A_i = a\} (Y_i - m_i(a)) / \pi_a`,
    averages to the mean outcome under a in every group of patients that is formed before treatment, whatever the predictions
    m are: they only reduce its variance.  For the pseudo-outcomes each arm's predictions are shifted to that arm's observed
    mean: the average stays as it is, and a prediction that is off by a constant costs no precision.

    Attributes
    ----------
    score : array (n,)
        Predicted benefit: lesions that the drug spares the patient.
    under_reference, under_drug : array (n,)
        Pseudo-outcomes.
    participant_id : array (n,)
    drug, reference, population : str
    law : TrialLaw or None
        What the trial's counts can be drawn from again, for the quantiles of studentised statistics; t quantiles without it.
    learner : Learner or None
        How the predictions were learned from the trial itself, so that redrawn trials learn theirs
        (:func:`causalms.benefit.cross_fitted_benefit`); without it they are taken as given before the trial.
    """

    score: Floats
    under_reference: Floats
    under_drug: Floats
    participant_id: NDArray[np.object_]
    drug: str
    reference: str
    population: str
    law: TrialLaw | None = None
    learner: Learns | None = None

    @property
    def n(self) -> int:
        """Number of patients."""
        return len(self.score)

    @property
    def spared(self) -> Floats:
        """Pseudo-outcome of the benefit: lesions under the reference minus lesions under the drug."""
        return self.under_reference - self.under_drug

    @property
    def constant(self) -> bool:
        """Every patient has the same predicted benefit, so nothing can be ranked."""
        return bool(np.ptp(self.score) < 1e-12 * max(1.0, np.abs(self.score).max()))

    def null_distribution(
        self, inference: Inference, studentised_of: Callable[[Redraws], Floats], degrees_of_freedom: Floats | float
    ) -> NullDistribution:
        """Null distribution of statistics: of the redrawn trials where there are any, else t."""
        redraws = self.redraws(inference.redraws, inference.seed)
        return NullDistribution(None if redraws is None else studentised_of(redraws), degrees_of_freedom)

    def redraws(self, count: int = REDRAWS, seed: int = 0) -> Redraws | None:
        """The trial drawn again ``count`` times from the law of its counts; None if it has none.

        Also None where predictions could be learned in fewer than half of the redrawn trials: the others are a selection.
        """
        if self.law is None or count < 1:
            return None
        drawn = _redrawn(self, count, seed)
        return drawn if len(drawn.score) >= count / 2 else None


@lru_cache(maxsize=2)
def _redrawn(data: Benefit, count: int, seed: int) -> Redraws:
    """Kept, so that all statistics of a trial are judged by the same redraws."""
    if data.law is None:
        raise RefusalError("benefit: the trial has no law of counts to draw from")
    return redraw(data.score, data.law, count, seed, data.learner)


def benefit(people: pd.DataFrame, predictions: pd.DataFrame, comparison: Comparison) -> Benefit:
    """Join predictions of patients who did not help to make them to their randomised outcomes.

    Parameters
    ----------
    people : DataFrame
        One row a patient of one trial; other arms and missing outcomes are left out.
    predictions : DataFrame
        ``participant_id``, ``under_reference``, ``under_drug``: predicted outcomes, from :func:`predict_from_draws` of a
        generator that has not seen these patients, or from :func:`cross_fit`.
    comparison : Comparison

    Returns
    -------
    Benefit

    Raises
    ------
    InputError
        If a patient has no prediction.
    RefusalError
        If several trials are mixed, or an arm has fewer than two patients.

    References
    ----------
    Robins, Rotnitzky, Zhao (1994), JASA 89:846.

    Examples
    --------
    >>> import pandas as pd
    >>> people = pd.DataFrame({"participant_id": list("abcd"), "arm": ["p", "p", "d", "d"], "y": [4, 2, 1, 1]})
    >>> predictions = pd.DataFrame({"participant_id": list("abcd"), "under_reference": [3.0] * 4, "under_drug": [1.0] * 4})
    >>> benefit(people, predictions, Comparison(outcome="y", drug="d", reference="p")).spared.tolist()
    [4.0, 0.0, 2.0, 2.0]
    """
    rows, drug, reference = comparison.patients(people), comparison.drug, comparison.reference
    if "trial" in rows and rows["trial"].nunique() > 1:
        names = ", ".join(sorted(names_of(rows["trial"]).dropna().unique()))
        raise RefusalError(
            f"benefit: trials {names} are mixed, between which nobody was randomised; give the patients of one trial"
        )
    keyed = rows.assign(key=participant_key(rows["participant_id"]))
    keyed_predictions = predictions.assign(key=participant_key(predictions["participant_id"])).set_index("key")
    if lost := sorted(set(keyed["key"]) - set(keyed_predictions.index)):
        raise InputError(f"benefit: participant {lost[0]} has no prediction; predict every patient of the trial")
    refuse_repeated(keyed["key"], keyed_predictions.index)
    keyed_predictions = keyed_predictions.loc[list(keyed["key"])]
    treated = comparison.treated(keyed)
    if min(treated.sum(), (~treated).sum()) < 2:
        raise RefusalError(f"benefit: {drug!r} has {treated.sum()} patients and {reference!r} {(~treated).sum()}; both need two")
    y = keyed[comparison.outcome].to_numpy(float)
    before, after = keyed_predictions["under_reference"].to_numpy(float), keyed_predictions["under_drug"].to_numpy(float)
    if not (np.isfinite(before) & np.isfinite(after)).all():
        lost = keyed.loc[~(np.isfinite(before) & np.isfinite(after)), "participant_id"].iloc[0]
        raise InputError(f"benefit: the prediction of participant {lost} is no finite number; predict the patient again")
    under_reference, under_drug = pseudo_outcomes(y, before, after, treated)
    return Benefit(
        score=before - after,
        under_reference=under_reference,
        under_drug=under_drug,
        participant_id=keyed["participant_id"].to_numpy(object),
        drug=drug,
        reference=reference,
        population=comparison.who,
        law=count_law(y, np.column_stack([before, after]), treated.astype(np.intp)),
    )


def refuse_repeated(keys: pd.Series, predicted: pd.Index) -> None:
    """Refuse patients with several rows among the people, or several predictions."""
    repeated = [*keys[keys.duplicated()], *predicted[predicted.duplicated() & predicted.isin(keys)]]
    if repeated:
        raise InputError(
            f"benefit: participant {repeated[0]} has several rows; give one row of outcomes and one prediction a patient"
        )


def predict_from_draws(draws: pd.DataFrame, *, drug: str, reference: str, week: float | None = None) -> pd.DataFrame:
    """Predicted mean counts of every patient under both arms, from a draws table of a generator that has not seen the outcomes.

    ``se_generator`` is the model's own error of the predicted benefit, missing where it is unknown.  It is no part of what a
    trial says of the prediction: those statistics rest on randomised outcomes and hold however wrong the prediction is.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [("a", "p", 4.0), ("a", "d", 1.0), ("b", "p", 2.0), ("b", "d", 1.0)]
    >>> draws = pd.DataFrame(rows, columns=["participant_id", "arm", "expected_net2_lesions"]).assign(
    ...     trial="T", arm_randomised="p", visit_week=48.0, query="interventional", query_id="q")
    >>> predict_from_draws(draws, drug="d", reference="p")[["under_reference", "under_drug"]].values.tolist()
    [[4.0, 1.0], [2.0, 1.0]]
    """
    chosen = draws[(draws["query"] == "interventional") & draws["arm"].isin([drug, reference])]
    if chosen["arm"].nunique() < 2:
        raise RefusalError(f"draws: no interventional rows under both {drug!r} and {reference!r}; query both with `do`")
    week = one_week(chosen, week, "draws")
    means = patient_means(chosen, reference=reference, measure="mean-difference", outcome="net2_lesions", week=week)
    errors = patient_effects(chosen, arm=drug, reference=reference, week=week)
    means["se_generator"] = errors["difference_se_generator"].to_numpy()
    return means.rename(columns={reference: "under_reference", drug: "under_drug"})[
        ["participant_id", "under_reference", "under_drug", "se_generator"]
    ]


def benefit_row(
    data: Benefit, analysis: str, measure: str, estimand: str, statistic: Statistic, subgroup: str = "all", n: float | None = None
) -> ResultRow:
    """Row of the results table of one statistic of predicted benefit; ``n``: patients of the subgroup, all unless given."""
    return ResultRow(
        analysis=f"benefit: {analysis}",
        population=data.population,
        subgroup=subgroup,
        arm=data.drug,
        reference=data.reference,
        measure=measure,
        estimand=estimand,
        estimator="augmented inverse-probability scores, predictions held out",
        **vars(statistic),
        n=data.n if n is None else n,
        se_patient=statistic.se,
        randomised=True,
        rung=2,
    )
