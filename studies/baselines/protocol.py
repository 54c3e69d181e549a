"""What every forecaster answers, the reference model and its baselines alike, so that one script trains and scores them all."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from causalms.generator.inputs import PatientArrays
from causalms.generator.model import Generator
from causalms.generator.outcomes import ExpectedOutcome, Scan


class Forecaster(Protocol):
    """A forecaster of new lesions: ``capabilities`` says what it can do.

    ``expect``: the law of the count by one evaluation; ``place``: where a lesion's centre lies; ``masks``: sampled masks.
    """

    @property
    def name(self) -> str:
        """Name in tables and figures."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms it was trained on."""

    @property
    def capabilities(self) -> frozenset[str]:
        """Of ``expect``, ``place`` and ``masks``."""

    @property
    def parameters(self) -> int:
        """Number of fitted parameters."""

    def encode_arrays(self, patient: PatientArrays) -> Any:
        """Read one patient's baseline; made once, used for every arm, week and draw."""

    def expect(self, scan: Any, arm: str, week: float) -> ExpectedOutcome:
        """Law of the count."""

    def log_place(self, scan: Any, arm: str) -> np.ndarray:
        """Log probability of a voxel to hold a new lesion's centre, grid's shape, minus infinity outside the brain."""

    def sample(self, scan: Any, arm: str, week: float, draw: int, seed: int) -> np.ndarray:
        """A mask, bool of the grid's shape; its noise depends on patient, draw and seed alone."""


class FactorisedDiffusion:
    """The package's own generator under the protocol.

    Parameters
    ----------
    generator : Generator
    """

    name: ClassVar[str] = "causalms"
    capabilities: ClassVar[frozenset[str]] = frozenset({"expect", "place", "masks"})

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.arms = generator.arms

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return self.generator.parameters

    def encode_arrays(self, patient: PatientArrays) -> Scan:
        """Encode one patient's baseline."""
        return self.generator.encode_arrays(patient)

    def expect(self, scan: Scan, arm: str, week: float) -> ExpectedOutcome:
        """Law of the count by one evaluation of the risk head."""
        return self.generator.expect(scan, arm, week)

    @torch.no_grad()
    def log_place(self, scan: Scan, arm: str) -> np.ndarray:
        """Place law of the risk head (equation 3 of the network)."""
        index = torch.tensor([self.generator.arm_index(arm)])
        return self.generator.network.risk.log_place(scan.encoded.features, scan.brain, index)[0].cpu().numpy()

    def sample(self, scan: Scan, arm: str, week: float, draw: int, seed: int) -> np.ndarray:
        """One mask by the default sampler."""
        return self.generator.sample(scan, arm, week, self.generator.noise(scan.participant_id, draw, seed))
