"""Predicted benefit of every patient from a model that was fitted without the patient."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.benefit.predict import Benefit, Comparison, benefit
from causalms.benefit.redraws import Floats
from causalms.errors import InputError, UsageError
from causalms.stats import Batch, fit_batch, fit_or_limit
from causalms.tables import formula, name_of, patient_order, refuse_arm_and_outcome_by_name, refuse_copies

Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Learner:
    """The cross-fitted prediction as a rule, so that redrawn trials can learn theirs (:func:`causalms.benefit.redraws.redraw`).

    Attributes
    ----------
    design : array (n, q)
        Covariates of the trial's patients.
    folds : int
    """

    design: Floats
    folds: int

    def learn(self, rows: Places, treated: NDArray[np.bool_], y: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Predictions (R, n, 2) of trials of the patients ``rows`` (R, n), and (R, n, 2) of the patients they were drawn from.

        Those are dealt to the folds' models in turn.  A trial that one fold cannot be fitted in has missing predictions.
        """
        spread = self.design.std(axis=0)
        Z = np.where(spread > 0, (self.design - self.design.mean(axis=0)) / np.maximum(spread, 1e-12), 1.0)
        X = np.concatenate([Z[rows], treated[:, :, None] * Z[rows]], axis=2)
        sides = np.stack([np.column_stack([Z, side * Z]) for side in (0, 1)], axis=1)  # (n, 2, 2q)
        fold, dealt = balanced_folds(treated, self.folds, rng), np.arange(len(Z)) % self.folds
        batch = Batch(X, y, np.ones((1, y.shape[1])))
        start = fit_batch("poisson", replace(batch, weights=np.ones(y.shape)))
        own, beyond, levels = np.empty((*y.shape, 2)), np.empty((*y.shape, 2)), []
        for number in range(self.folds):
            fit = fit_batch("poisson", replace(batch, weights=(fold != number).astype(float)), start)
            predicted = np.exp(np.einsum("nsp,rp->rns", sides, fit.coefficients))  # of every patient, by the model of the fold
            inside = np.take_along_axis(predicted, rows[:, :, None], axis=1)
            own = np.where((fold == number)[:, :, None], inside, own)
            beyond[:, dealt == number] = predicted[:, dealt == number]
            levels.append(inside.mean(axis=1))
        factor = np.mean(levels, axis=0) / np.array(levels)  # (folds, R, 2)
        trial = np.arange(len(y))[:, None]
        return own * factor[fold, trial], beyond * factor[dealt].transpose(1, 0, 2)


def balanced_folds(treated: NDArray[np.bool_], folds: int, rng: np.random.Generator) -> Places:
    """Fold of every patient of trials (R, n), as many of each arm in every fold as can be."""
    order = np.argsort(rng.random(treated.shape) + treated, axis=1)  # the reference arm's patients first, each arm shuffled
    place = np.arange(treated.shape[1])
    place = np.where(place < (~treated).sum(axis=1, keepdims=True), place, place - (~treated).sum(axis=1, keepdims=True))
    fold = np.empty(treated.shape, np.intp)
    np.put_along_axis(fold, order, place % folds, axis=1)
    return fold


def cross_fitted_benefit(
    people: pd.DataFrame, comparison: Comparison, covariates: str, *, folds: int = 5, seed: int = 0
) -> Benefit:
    """Predict the benefit by :func:`cross_fit` and join it to the outcomes; redrawn trials learn their predictions anew.

    Intervals from :func:`causalms.benefit.benefit` alone take the predictions as given before the trial; here they also
    hold what comes of having learned them from its outcomes.  Arguments and errors are those of :func:`cross_fit`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> people = pd.DataFrame({"participant_id": range(80), "arm": ["p", "d"] * 40, "age": rng.uniform(20, 60, 80)})
    >>> people["y"] = rng.poisson(np.where(people["arm"] == "p", 4, 1))
    >>> data = cross_fitted_benefit(people, Comparison(outcome="y", drug="d", reference="p"), "age")
    >>> data.n, data.learner.folds, data.redraws(20).law_score.shape
    (80, 5, (20, 80))
    """
    predictions = cross_fit(people, comparison, covariates, folds=folds, seed=seed)
    data = benefit(people, predictions, comparison)
    return replace(data, learner=Learner(_covariates(comparison.patients(people), covariates), folds))


def cross_fit(
    people: pd.DataFrame,
    comparison: Comparison,
    covariates: str,
    *,
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
    comparison : Comparison
    covariates : str
        Right-hand side of a formula, such as ``"age + gd_lesions"``.
    folds : int
        Balanced within arms.
    seed : int
    outside : DataFrame, optional
        Patients of another population, with ``participant_id`` and the covariates; they are dealt to the folds' models in turn
        and stand at the end of the table, in the order given.

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
    >>> predictions = cross_fit(people, Comparison(outcome="y", drug="d", reference="p"), "age")
    >>> bool((predictions["under_reference"] > predictions["under_drug"]).all()), predictions["fold"].nunique()
    (True, 5)
    """
    outcome, read = comparison.outcome, formula(covariates, people, "covariates")
    refuse_arm_and_outcome_by_name(read, comparison.arm, outcome)
    rows = comparison.patients(people)
    if folds < 2 or folds > len(rows) // 4:
        raise UsageError(f"{folds} folds for {len(rows)} patients; give four patients or more a fold, and at least 2 folds")
    others = rows.iloc[:0] if outside is None else outside
    design = _covariates(rows, covariates, others)
    treated = comparison.treated(rows).astype(float)
    y = rows[outcome].to_numpy(float)
    refuse_copies(rows[list(read.columns)], treated.astype(int), y, argument="covariates")
    if (y < 0).any():
        below = rows.iloc[int((y < 0).argmax())]
        who, value = below["participant_id"], below[outcome]
        raise InputError(f"benefit: {outcome} of participant {who} is {name_of(value)}; counts are not negative: correct it")
    own = balanced_folds(treated[None] > 0, folds, np.random.default_rng(seed))[0]
    dealt = np.empty(len(others), dtype=int)
    dealt[patient_order(others)] = np.arange(len(others)) % folds
    fold = np.concatenate([own, dealt])
    means, levels = np.empty((len(design), 2)), np.empty((folds, 2))
    known = np.arange(len(rows))
    for number in range(folds):
        out, seen = fold == number, known[fold[known] != number]
        centre, spread = design[seen].mean(axis=0), np.maximum(design[seen].std(axis=0), 1e-12)
        Z = np.where(design[seen].std(axis=0) > 0, (design - centre) / spread, 1.0)
        fit = fit_or_limit("poisson", np.column_stack([Z[seen], treated[seen, None] * Z[seen]]), y[seen])
        for side in (0, 1):
            predicted = fit.predict(np.column_stack([Z, side * Z]))
            means[out, side], levels[number, side] = predicted[out], predicted[known].mean()
    identifiers = pd.concat([rows[["participant_id"]], others[["participant_id"]]], ignore_index=True)
    if means.max() > 1000 * max(y.max(), 1.0):
        farthest = identifiers["participant_id"][int(means.max(axis=1).argmax())]
        raise InputError(
            f"benefit: covariates of participant {farthest} lie so far outside that the "
            "prediction exceeds a thousand times the largest outcome; correct or transform them"
        )
    means *= (levels.mean(axis=0) / levels)[fold]
    return identifiers.assign(under_reference=means[:, 0], under_drug=means[:, 1], fold=fold)


def _covariates(people: pd.DataFrame, text: str, outside: pd.DataFrame | None = None) -> Floats:
    """Design matrix of a formula fitted to the trial's patients, those of another population below; every patient complete."""
    read = formula(text, people, "covariates")
    for name in read.outside_factors:
        if pd.api.types.is_string_dtype(people[name]):
            _refuse_a_word_among_numbers(people, name)
    others = people.iloc[:0] if outside is None else outside
    for name in read.columns:
        if name not in others:
            raise InputError(f"benefit: no column {name!r} among the patients of the other population; add it")
    together = pd.concat([people[list(read.columns)], others[list(read.columns)]], ignore_index=True)
    if together.isna().any(axis=None):
        row, place = np.argwhere(together.isna().to_numpy())[0]
        name, who = read.columns[place], [*people["participant_id"], *others["participant_id"]][row]
        raise InputError(f"benefit: participant {who} lacks covariate {name!r}; fill it in or leave them out")
    fitted = read.fit(together.iloc[: len(people)])
    design = fitted.matrix(together).to_numpy(dtype=float)
    return np.column_stack([np.ones(len(design)), design])


def _refuse_a_word_among_numbers(people: pd.DataFrame, name: str) -> None:
    """A text column most of whose entries are numbers is no factor: one of them was mistyped."""
    words = people[name].notna() & pd.to_numeric(people[name], errors="coerce").isna()
    if 0 < words.sum() < len(people) / 2:
        row = people.loc[words].iloc[0]
        raise InputError(f"benefit: {name} of participant {row['participant_id']} is {row[name]!r}, no number; correct it")
