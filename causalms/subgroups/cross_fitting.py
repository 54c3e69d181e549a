"""Predicted benefit of every patient from a model that was fitted without the patient."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalms.effects.models import fit_model
from causalms.errors import InputError, UsageError
from causalms.subgroups.redraws import Floats


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

    A fold that by chance had many lesions is predicted by models that saw few, so that over folds predictions would rank
    patients against their outcomes.  Each fold's model is therefore brought to the same mean prediction over all patients,
    arm by arm, by one factor.

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
    told, levels = np.empty((len(design), 2)), np.empty((folds, 2))
    known = np.arange(len(rows))
    for number in range(folds):
        out, seen = fold == number, known[fold[known] != number]
        centre, spread = design[seen].mean(axis=0), np.maximum(design[seen].std(axis=0), 1e-12)
        Z = np.where(design[seen].std(axis=0) > 0, (design - centre) / spread, 1.0)
        fit = fit_model("poisson", np.column_stack([Z[seen], treated[seen, None] * Z[seen]]), y[seen])
        for side in (0, 1):
            predicted = fit.predict(np.column_stack([Z, side * Z]))
            told[out, side], levels[number, side] = predicted[out], predicted[known].mean()
    told *= (levels.mean(axis=0) / levels)[fold]
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
