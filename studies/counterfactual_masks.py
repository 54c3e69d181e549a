r"""Counterfactual masks of the shipped model against the phantom's true ones: effectiveness and amplification of the change.

python -m studies.counterfactual_masks --out studies/results

With :math:`z` the true counterfactual mask less the factual one and :math:`\hat z` the model's, effectiveness is
:math:`\sum \langle z, \hat z \rangle / \sum |z|^2` (1: the true change is made in full) and amplification
:math:`(\sum |\hat z - \mathrm{effectiveness}\, z|^2 / \sum |z|^2)^{1/2}` (0: nothing else is changed), sums over patients.

No fact says which of its lesions the other arm would have prevented.  Twins of the phantom's own law (``exact``) keep each
with the ratio of the two true rates, and so make a share of one less that ratio of the true change: what twins are held against.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy import ndimage
from tqdm import tqdm

import causalms as cms
from causalms.tables import net2_column, write_table
from studies.common import model_option, out_option, seed_option

#: A redraw by do() knows nothing of the fact.
COUPLINGS = ("ancestral", "monotone", "do()")
RESAMPLES = 1000
#: Exact twins of a patient, so that their own luck does not count.
EXACT = 50


def tea(true: list[np.ndarray], simulated: list[np.ndarray]) -> tuple[float, float]:
    """Effectiveness and amplification of changes, patient by patient.

    >>> tea([np.array([-1, -1, 0])], [np.array([-1, 0, 1])])
    (0.5, 0.8660254037844386)
    """
    size = sum(float(z @ z) for z in true)
    effectiveness = sum(float(z @ own) for z, own in zip(true, simulated, strict=True)) / size
    rest = sum(float(((own - effectiveness * z) ** 2).sum()) for z, own in zip(true, simulated, strict=True))
    return effectiveness, float(np.sqrt(rest / size))


def exact_twin(factual: np.ndarray, kept: float, rng: np.random.Generator) -> np.ndarray:
    """A twin of the phantom's own law under a better arm: every lesion stays with probability ``kept``.

    >>> exact_twin(np.array([[[1, 1, 0, 1]]]), 1.0, np.random.default_rng(0)).tolist()
    [[[1, 1, 0, 1]]]
    """
    labels, lesions = ndimage.label(factual, np.ones((3, 3, 3)))
    return factual * np.concatenate([[False], rng.random(lesions) < kept])[labels]


def row_of(true: list[np.ndarray], simulated: list[np.ndarray], exact: list[np.ndarray], seed: int) -> dict[str, float]:
    """Both numbers, and effectiveness over that of the exact twins, with 95% bootstrap intervals over patients."""

    def numbers(rows: np.ndarray) -> tuple[float, float, float]:
        own = [true[k] for k in rows]
        effectiveness, amplification = tea(own, [simulated[k] for k in rows])
        return effectiveness, amplification, effectiveness / tea(own, [exact[k] for k in rows])[0]

    rng, resampled = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(true), len(true))
        if any(true[k].any() for k in rows):
            resampled.append(numbers(rows))
    low, high = np.nanquantile(resampled, (0.025, 0.975), axis=0)
    names = ("effectiveness", "amplification", "effectiveness_over_exact")
    values = dict(zip(names, numbers(np.arange(len(true))), strict=True))
    ends = {f"{name}_{end}": float(at[k]) for k, name in enumerate(values) for end, at in (("lower", low), ("upper", high))}
    return {**values, **ends}


@click.command()
@out_option
@model_option()
@click.option("--patients", default=10, show_default=True, help="On the own arm, with lesions at the visit.")
@click.option("--own", default="placebo", show_default=True)
@click.option("--arm", "arms", multiple=True, default=("laquinimod", "dimethyl-fumarate", "ocrelizumab"), show_default=True)
@click.option("--week", default=48, show_default=True)
@seed_option(77)
def main(out: Path, model: str, patients: int, own: str, arms: tuple[str, ...], week: int, seed: int) -> None:
    """Write counterfactual_masks.csv, a row a pair of arms and coupling."""
    trial, causal_model = cms.simulate_trial("lifelike", patients=6 * patients + 60, seed=seed), cms.CausalModel.load(model)
    people = trial.participants
    seen = people[(people["arm"] == own) & (people[net2_column(week)] > 0)]["participant_id"].head(patients)
    true: dict[str, list[np.ndarray]] = {arm: [] for arm in arms}
    simulated: dict[tuple[str, str], list[np.ndarray]] = {(arm, c): [] for arm in arms for c in (*COUPLINGS, "exact")}
    rates, rng = trial.truth.rates(week), np.random.default_rng(seed)
    for name in tqdm(seen, desc="patients", unit="patient", disable=None):
        mask = np.asarray(trial.mask(name, "NET2", week), float)
        factual = mask.ravel()
        for arm in arms:
            true[arm].append(trial.truth.potential_mask(name, arm, week).ravel() - factual)
            kept = min(1.0, rates.loc[name, arm] / rates.loc[name, own])
            simulated[arm, "exact"].append(np.mean([exact_twin(mask, kept, rng).ravel() for _ in range(EXACT)], axis=0) - factual)
        for coupling in COUPLINGS:
            given = {} if coupling == "do()" else {"coupling": coupling, "evidence_week": week}
            for (arm, _), masks in causal_model.masks(trial, name, list(arms), week, 1, seed, **given).items():
                simulated[arm, coupling].append(masks[0].ravel() - factual)
    rows = [
        {
            "own": own,
            "arm": arm,
            "coupling": coupling,
            "patients": len(masks),
            **row_of(true[arm], masks, simulated[arm, "exact"], seed),
        }
        for (arm, coupling), masks in simulated.items()
    ]
    table = pd.DataFrame(rows).assign(week=week, model=causal_model.mechanism.checksum[:12], seed=seed)
    write_table(table, out / "counterfactual_masks.csv")
    click.echo(table.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
