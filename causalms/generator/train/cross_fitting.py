"""The error of counts by cross-fitting: every patient is predicted by a first stage that was fitted to other patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from causalms.generator.inputs import lesions_traced, stack
from causalms.generator.network import Network
from causalms.generator.seen import Seen
from causalms.generator.train.data import Material
from causalms.generator.train.first_stage import FirstStageData, fit_first_stage, write_first_stage
from causalms.generator.train.held_out import HeldOut, fit_to_held_out, fold_means, held_out, network_sizes, seen_of
from causalms.generator.train.lacking import FEWEST, MOST, expected_without, fit_patterns
from causalms.generator.train.resume import Kept
from causalms.stats import Array, ErrorModel, NegativeBinomialLaw, score
from causalms.trials import Space


@dataclass(frozen=True)
class Learned:
    """What the counts of a network are learned from.

    Attributes
    ----------
    material : Material
    columns, signals : array (n, Q), (n, P)
        Columns and image signals of the patients, not standardised; NaN where missing.
    known : array (Q + P,), optional
        Their weights in a log rate that is known from another checkpoint.
    """

    material: Material
    columns: Array
    signals: Array
    known: Array | None = None

    @classmethod
    @torch.no_grad()
    def of(cls, network: Network, material: Material, known: Array | None = None) -> Learned:
        """Read all patients; means and spreads of their columns and signals become the network's."""
        columns, signals = [], []
        for start in tqdm(range(0, len(material.patients), 16), desc="reading signals", unit="batch", disable=None):
            arrays = [patient.arrays for patient in material.patients[start : start + 16]]
            images, masks, covariates = stack(arrays, material.anatomy.planes.device)
            columns.append(covariates.double().cpu().numpy())
            traced = lesions_traced(arrays, images.device)
            signals.append(network.signals(images, masks, material.anatomy, traced).double().cpu().numpy())
        own = cls(material, np.concatenate(columns), np.concatenate(signals), known)
        for name, values in (("covariate", own.columns), ("pooled", own.signals)):
            seen = np.isfinite(values).any(axis=0)
            mean, sd = np.zeros(values.shape[1]), np.ones(values.shape[1])
            mean[seen], sd[seen] = np.nanmean(values[:, seen], axis=0), np.nanstd(values[:, seen], axis=0)
            getattr(network, f"{name}_mean").copy_(torch.from_numpy(mean))
            getattr(network, f"{name}_sd").copy_(torch.from_numpy(np.where(sd < 1e-4, 1.0, sd)))
        return own

    def data(self, network: Network) -> FirstStageData:
        """Last counts, and inputs as the network standardises them."""
        patients = self.material.patients
        arm = np.array([self.material.arms.index(patient.arm) for patient in patients])
        week = np.array([float(patient.last.week) for patient in patients])
        counts = np.array([float(patient.last.lesions) for patient in patients])
        data = first_stage_data(network, self.columns, self.signals, counts, arm, week)
        if self.known is None:
            return data
        return replace(data, known=self.known * torch.cat([network.covariate_sd, network.pooled_sd]).double().cpu().numpy())


@torch.no_grad()
def first_stage_data(
    network: Network, columns: Array, signals: Array, counts: Array, arm: np.ndarray, week: Array
) -> FirstStageData:
    """Counts (n,) by ``week``, arms by position, and inputs as the network standardises them.

    ``columns`` (n, Q) and ``signals`` (n, P) come as they were read.  The share of follow-up is the one that the risk head has.
    """
    device = network.covariate_mean.device
    standard, features = network.standardise(*(torch.from_numpy(values).to(device).float() for values in (columns, signals)))
    modifiers, _ = network.encoder.state_and_rate(standard, features, lambda: standard)
    power = torch.exp(network.risk.time_power).double().cpu().numpy()
    arrays = [values.double().cpu().numpy() for values in (standard, features, modifiers)]
    return FirstStageData(counts, arm, arrays[0], arrays[1], arrays[2], np.log(week / network.risk.last_week) * power[arm])


def folds_of(arm: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """Rows of every fold, at random and in proportion in every arm.

    Examples
    --------
    >>> [len(rows) for rows in folds_of(np.repeat([0, 1], [50, 30]), 4, seed=0)]
    [20, 20, 20, 20]
    """
    order = np.random.default_rng([seed, 0, 17]).permutation(len(arm))
    by_arm = order[np.argsort(arm[order], kind="stable")]
    return [np.sort(by_arm[number::folds]) for number in range(min(folds, len(arm)))]


def own_error(
    network: Network, learned: Learned, space: Space, folds: int, seed: int, kept: Kept
) -> tuple[ErrorModel, Seen, dict[str, Any]]:
    """Error model and summary of a network's patients, and what the checkpoint says of its first stage.

    Every patient is predicted by a first stage that was fitted to the other folds, its prior that of all patients.  The network
    ends with the first stage of all patients, levels and sizes moved to the law of cross-fitted counts. Finished folds are
    kept in ``kept``.
    """
    material, data = learned.material, learned.data(network)
    arms, patients, anatomy = material.arms, material.patients, material.anatomy
    whole = fit_first_stage(data, len(arms))
    every = max(1, -(-len(patients) // MOST))
    parts, without, chosen, variance = [], [], [], []

    def fold(rows: np.ndarray) -> dict[str, np.ndarray]:
        others = np.setdiff1d(np.arange(len(patients)), rows)
        fit = fit_first_stage(data.rows(others), len(arms), like=whole)
        write_first_stage(network, fit)
        unseen = held_out(network, [patients[row] for row in rows], arms, anatomy, space, learned.signals[rows])
        found = {**vars(unseen), "variance": fit.variance(data.rows(rows))}
        if len(patients) < FEWEST * every:
            return found
        some = [patients[row] for row in rows[::every]]
        return found | {"without": expected_without(network, some, len(arms), anatomy)}

    for number, rows in enumerate(folds_of(data.arm, folds, seed)):
        found_there = kept.part(f"fold{number}", partial(fold, rows))
        if "without" in found_there:
            chosen.append(rows[::every])
            without.append(found_there.pop("without"))
        variance.append(found_there.pop("variance"))
        parts.append(HeldOut(**found_there))
    write_first_stage(network, whole)
    unseen = HeldOut.together(parts)
    model = fit_to_held_out(unseen, arms, network, "cross-fitted")
    error, levels = fold_means(network, unseen, model, np.concatenate(variance))
    if without:
        some = np.concatenate(chosen)
        exposure = np.log([patients[row].last.week / network.risk.last_week for row in some])
        missing = [patients[row].arrays.missing for row in some]
        together = np.concatenate(without, axis=1) + np.log(list(levels.values()))  # as the network forecasts from now on
        error = replace(error, lacking=fit_patterns(error, together, missing, data.counts[some], data.arm[some], exposure))
    found = {"prior_sd": whole.prior_sd, "size": whole.size, **cross_fitted_scores(network, unseen, levels)}
    return error, seen_of(unseen), {"first_stage": found, "held_out_levels": levels}


def cross_fitted_scores(network: Network, unseen: HeldOut, levels: Mapping[str, float]) -> dict[str, float]:
    """Mean CRPS and log score of the counts of patients, each predicted by the others; every arm times its factor."""
    sizes, _ = network_sizes(network, unseen.log_expected.shape[1])
    mean = np.exp(unseen.log_expected[np.arange(len(unseen)), unseen.arm]) * np.array(list(levels.values()))[unseen.arm]
    law = NegativeBinomialLaw(mean, sizes[unseen.arm])
    counts = unseen.counts.astype(np.int64)
    return {f"count_{name}": float(score(name, law, counts).mean()) for name in ("crps", "log")}
