"""Predicted benefit beside what randomisation says of it: one score a patient that averages to the treatment effect."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.effects import patient_means
from causalms.effects.models import fit_model
from causalms.errors import InputError, RefusalError, UsageError
from causalms.groups import participant_key

Floats = NDArray[np.float64]


@dataclass(frozen=True)
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
    """

    score: Floats
    under_reference: Floats
    under_drug: Floats
    participant_id: NDArray[np.object_]
    drug: str
    reference: str
    population: str

    @property
    def n(self) -> int:
        """Number of patients."""
        return len(self.score)

    @property
    def spared(self) -> Floats:
        """Pseudo-outcome of the benefit: lesions under the reference minus lesions under the drug."""
        return self.under_reference - self.under_drug

    def take(self, rows: NDArray[np.intp]) -> Benefit:
        """Some of the patients, or a resample of them."""
        chosen = (self.score[rows], self.under_reference[rows], self.under_drug[rows], self.participant_id[rows])
        score, reference, drug, identifier = chosen
        return replace(self, score=score, under_reference=reference, under_drug=drug, participant_id=identifier)


def benefit(
    people: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    outcome: str,
    drug: str,
    reference: str,
    arm: str = "arm",
    population: str = "",
) -> Benefit:
    """Join predictions of patients who did not help to make them to their randomised outcomes.

    Parameters
    ----------
    people : DataFrame
        One row a patient of one trial; other arms and missing outcomes are left out.
    predictions : DataFrame
        ``participant_id``, ``under_reference``, ``under_drug``: predicted outcomes, from :func:`predict_from_draws` of a
        generator that has not seen these patients, or from :func:`cross_fit`.
    outcome, drug, reference, arm : str
    population : str
        Its name in results.

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
    >>> told = pd.DataFrame({"participant_id": list("abcd"), "under_reference": [3.0] * 4, "under_drug": [1.0] * 4})
    >>> benefit(people, told, outcome="y", drug="d", reference="p").spared.tolist()
    [4.0, 0.0, 2.0, 2.0]
    """
    rows = people[people[arm].isin([drug, reference]) & people[outcome].notna()]
    if "trial" in rows and rows["trial"].nunique() > 1:
        found = ", ".join(sorted(rows["trial"].astype(str).unique()))
        raise RefusalError(
            f"benefit: trials {found} are mixed, between which nobody was randomised; give the patients of one trial"
        )
    keyed = rows.assign(key=participant_key(rows["participant_id"]))
    told = predictions.assign(key=participant_key(predictions["participant_id"])).set_index("key")
    if lost := sorted(set(keyed["key"]) - set(told.index)):
        raise InputError(f"benefit: participant {lost[0]} has no prediction; predict every patient of the trial")
    told = told.loc[list(keyed["key"])]
    treated = (keyed[arm] == drug).to_numpy()
    if min(treated.sum(), (~treated).sum()) < 2:
        raise RefusalError(f"benefit: {drug!r} has {treated.sum()} patients and {reference!r} {(~treated).sum()}; both need two")
    y, share = keyed[outcome].to_numpy(float), treated.mean()
    before, after = told["under_reference"].to_numpy(float), told["under_drug"].to_numpy(float)
    if not (np.isfinite(before) & np.isfinite(after)).all():
        lost = keyed.loc[~(np.isfinite(before) & np.isfinite(after)), "participant_id"].iloc[0]
        raise InputError(f"benefit: the prediction of participant {lost} is no finite number; predict the patient again")
    score = before - after
    before, after = before + (y - before)[~treated].mean(), after + (y - after)[treated].mean()
    return Benefit(
        score=score,
        under_reference=before + np.where(~treated, (y - before) / (1 - share), 0.0),
        under_drug=after + np.where(treated, (y - after) / share, 0.0),
        participant_id=keyed["participant_id"].to_numpy(object),
        drug=drug,
        reference=reference,
        population=population or f"patients randomised to {drug} or {reference}",
    )


def predict_from_draws(draws: pd.DataFrame, *, drug: str, reference: str, week: float | None = None) -> pd.DataFrame:
    """Predicted mean counts of every patient under both arms, from a draws table of a generator that has not seen the outcomes.

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
        raise RefusalError(f"draws: no interventional rows under both {drug!r} and {reference!r}; query --do for both")
    means = patient_means(chosen, reference=reference, measure="mean-difference", outcome="net2_lesions", week=week)
    if means["visit_week"].nunique() > 1:
        raise UsageError("draws: several weeks; name one")
    return means.rename(columns={reference: "under_reference", drug: "under_drug"})[
        ["participant_id", "under_reference", "under_drug"]
    ]


def cross_fit(
    people: pd.DataFrame,
    *,
    outcome: str,
    drug: str,
    reference: str,
    covariates: str,
    arm: str = "arm",
    folds: int = 5,
    seed: int = 0,
    outside: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Predicted counts under both arms from a Poisson model with every covariate x arm interaction, fitted without the patient.

    Parameters
    ----------
    people : DataFrame
    outcome, drug, reference, arm : str
    covariates : str
        Right-hand side of a formula, such as ``"age + gd_lesions"``.
    folds : int
        Balanced within arms.
    seed : int
    outside : DataFrame, optional
        Patients of another population, with ``participant_id`` and the covariates; they are dealt to the folds' models in turn
        and stand at the end of the table.

    Returns
    -------
    DataFrame
        ``participant_id``, ``under_reference``, ``under_drug``, ``fold`` (the one whose patients the model has not seen).

    Raises
    ------
    UsageError
        If there are too few patients for the folds.
    InputError
        If a covariate is no column or is missing for a patient.
    ConvergenceError
        If a fold's model has no finite fit (no event in an arm).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> people = pd.DataFrame({"participant_id": range(80), "arm": ["p", "d"] * 40, "age": rng.uniform(20, 60, 80)})
    >>> people["y"] = rng.poisson(np.where(people["arm"] == "p", 4, 1))
    >>> found = cross_fit(people, outcome="y", drug="d", reference="p", covariates="age")
    >>> bool((found["under_reference"] > found["under_drug"]).all()), found["fold"].nunique()
    (True, 5)
    """
    rows = people[people[arm].isin([drug, reference]) & people[outcome].notna()].reset_index(drop=True)
    if folds < 2 or folds > len(rows) // 4:
        raise UsageError(f"{folds} folds for {len(rows)} patients; give at least 2 and at most a quarter of the patients")
    others = rows.iloc[:0] if outside is None else outside
    design = _covariates(pd.concat([rows, others], ignore_index=True), covariates)
    treated = (rows[arm] == drug).to_numpy(float)
    y = rows[outcome].to_numpy(float)
    fold = np.concatenate([np.empty(len(rows), int), np.arange(len(others)) % folds])
    rng = np.random.default_rng(seed)
    for side in (0, 1):
        members = rng.permutation(np.flatnonzero(treated == side))
        fold[members] = np.arange(len(members)) % folds
    told = np.empty((len(design), 2))
    known = np.arange(len(rows))
    for number in range(folds):
        out, seen = fold == number, known[fold[known] != number]
        centre, spread = design[seen].mean(axis=0), np.maximum(design[seen].std(axis=0), 1e-12)
        Z = np.where(design[seen].std(axis=0) > 0, (design - centre) / spread, 1.0)
        fit = fit_model("poisson", np.column_stack([Z[seen], treated[seen, None] * Z[seen]]), y[seen])
        for side in (0, 1):
            told[out, side] = fit.predict(np.column_stack([Z, side * Z])[out])
    identifiers = pd.concat([rows[["participant_id"]], others[["participant_id"]]], ignore_index=True)
    return identifiers.assign(under_reference=told[:, 0], under_drug=told[:, 1], fold=fold)


def _covariates(people: pd.DataFrame, formula: str) -> Floats:
    """Design matrix of a formula, every patient complete."""
    from formulaic import model_matrix

    try:
        design = np.asarray(model_matrix(formula, people, na_action="raise"), float)
    except Exception as error:  # formulaic has many; all mean that the formula does not fit the columns
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"benefit: covariates {formula!r} cannot be read from the patients ({reason}); name columns without missing values"
        ) from error
    return design
