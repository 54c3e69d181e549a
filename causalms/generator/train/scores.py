"""Validation score of the places of lesions on patients from whom no step learned: only what was observed is needed."""

from __future__ import annotations

import torch

from causalms.generator.network import Network, Places
from causalms.generator.train.data import Material
from causalms.generator.train.risk import risk_batch, risk_log_likelihood


@torch.no_grad()
def validation_scores(network: Network, material: Material) -> dict[str, float]:
    """Nats a lesion of the place, at the last visit."""
    network.eval()
    log_where, lesions = 0.0, 0.0
    for start in range(0, len(material.validation), 16):
        batch = risk_batch(material.validation[start : start + 16], material.arms, material.anatomy.planes.device)
        features = Places(network.encoder, batch.images, batch.masks, material.anatomy.planes).features
        log_where += float(risk_log_likelihood(network, batch, features)["where"])
        lesions += float(batch.last_count.sum())
    return {"place_log_score": -log_where / max(lesions, 1.0)}
