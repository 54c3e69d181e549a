"""Validation scores of the risk head on patients kept out of training: no truth is needed, only what was observed."""

from __future__ import annotations

import numpy as np
import torch
from scipy import optimize, stats
from torch import Tensor

from causalms.generator.network import Network
from causalms.generator.train.patients import TrainingPatient
from causalms.generator.train.risk import risk_batch, risk_log_likelihood
from causalms.stats import NegativeBinomialLaw, score


def maximum_likelihood_size(counts: np.ndarray, means: np.ndarray) -> float:
    """Size of a negative binomial with given means, between 0.01 and 1,000.

    Examples
    --------
    >>> round(maximum_likelihood_size(np.array([0, 0, 1, 7]), np.full(4, 2.0)), 2)
    0.37
    """

    def loss(log_size: float) -> float:
        size = np.exp(log_size)
        return -float(stats.nbinom.logpmf(counts, size, size / (size + means)).sum())

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(np.log(0.01), np.log(1000)), method="bounded").x))


@torch.no_grad()
def validation_scores(
    network: Network, patients: list[TrainingPatient], arms: tuple[str, ...], planes: Tensor, regions: Tensor, voxel_ml: float
) -> dict[str, float]:
    """Mean CRPS and log score of the count, and nats a lesion of the place, at the last visit."""
    network.eval()
    log_count, log_where, lesions = 0.0, 0.0, 0.0
    means, sizes, counts = [], [], []
    for start in range(0, len(patients), 16):
        part = patients[start : start + 16]
        batch = risk_batch(part, arms, planes.device)
        terms = risk_log_likelihood(network, batch, planes, regions, voxel_ml)
        log_count, log_where = log_count + float(terms["count"]), log_where + float(terms["where"])
        lesions += float(batch.last_count.sum())
        means.append(torch.exp(terms["log_mean"]).cpu().numpy())
        sizes.append(network.risk.size(batch.arm).cpu().numpy())
        counts.append(batch.last_count.cpu().numpy())
    law = NegativeBinomialLaw(np.concatenate(means).astype(float), np.concatenate(sizes).astype(float))
    crps = score("crps", law, np.concatenate(counts).astype(np.int64))
    return {
        "count_crps": float(crps.mean()),
        "count_log_score": -log_count / len(patients),
        "place_log_score": -log_where / max(lesions, 1.0),
    }
