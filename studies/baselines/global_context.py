r"""Frailty left to a denoiser of global context: the generator without its frailty, and a U-Net that sees the whole volume.

    lambda_v = Lambda(a, w) p(v | a)                      the generator's frozen risk head, U = 1 for everybody
    x = m + sigma e,   m in -1 / +1, not blurred          the generator's noise, ladder and samplers
    logit D = logit_0(lambda) + 2 x / sigma^2 + L + N     L the generator's frozen local denoiser, as it is without a frailty
    N(x, sigma, logit_0, D_local)                       a U-Net modulated by sigma and by sums over the brain: what is trained

Given the risk map, counts are over-dispersed because lesions of one patient come together.  Here no variable says so: the
network has to read from the noisy volume whether this draw is of a patient with many lesions, and raise or lower all voxels
together.  So that nothing but learning stands in its way, the modulation also has the log-likelihood ratios

    l_u(x) = sum_v log[(1 + e^(logit_0 + log u + 2 x_v / sigma^2)) / (1 + e^(logit_0 + log u))]  -  the same at u = 1

of ``u`` times the intensity against the intensity itself, voxels being independent: what a noisy volume says of a frailty.
Loss: binary cross-entropy of the clean mask without weights, every patient's brain counting the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from causalms.errors import InputError, RefusalError
from causalms.generator import noise as exogenous
from causalms.generator import sampling as samplers
from causalms.generator.checkpoint import load_tensors, read_checkpoint, write_checkpoint
from causalms.generator.inputs import anatomy_of
from causalms.generator.model import Generator
from causalms.generator.outcomes import ExpectedOutcome, Scan
from causalms.generator.train.denoiser import MaskBatch, PlacedPatient, drawing_law, seen_scans
from causalms.generator.train.patients import TrainingPatient
from studies.baselines.optimise import Recipe, optimise, split
from studies.baselines.protocol import FactorisedDiffusion
from studies.baselines.unet import UNet

CONFIG = {"widths": [8, 16, 32], "condition": 32}
BATCH_MASKS = 4
#: Multiples ``u`` of the intensity whose log-likelihood ratio the network is given.
MULTIPLES = (0.125, 0.25, 0.5, 2.0, 4.0, 8.0)


class GlobalContextNetwork(nn.Module):
    """The U-Net and its modulation, which raise or lower the log odds of the local denoiser; untrained, they do nothing."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        widths, width = config["widths"], config["condition"]
        self.condition = nn.Sequential(nn.Linear(9 + 2 + len(MULTIPLES), width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.stem = nn.Conv3d(4, widths[0], 3, padding=1)
        self.unet = UNet(widths, width)
        self.norm = nn.GroupNorm(min(8, widths[0]), widths[0])
        self.head = nn.Conv3d(widths[0], 1, 1)
        self.level = nn.Linear(width, 1)
        for parameter in [*self.head.parameters(), *self.level.parameters()]:
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, sigma: Tensor, prior_logit: Tensor, local_logit: Tensor, brain: Tensor) -> Tensor:
        """Log odds of a lesion; ``brain`` is 0 or 1, ``sigma`` (B,), everything else (B, 1, X, Y, Z)."""
        noise = sigma.view(-1, 1, 1, 1, 1)
        evidence = 2 * x / noise**2
        planes = [x / torch.sqrt(1 + noise**2), prior_logit / 5, torch.tanh(evidence / 4), torch.sigmoid(local_logit)]
        seen = torch.cat(planes, dim=1).to(memory_format=torch.channels_last_3d)
        condition = self.condition(torch.cat([_waves(torch.log(sigma)), brain_sums(prior_logit, evidence, brain)], dim=1))
        features = self.unet(self.stem(seen), condition)
        return local_logit + self.head(F.silu(self.norm(features))) + self.level(condition).view(-1, 1, 1, 1, 1)


def _waves(position: Tensor) -> Tensor:
    angles = position[:, None] * torch.tensor([0.5, 1.0, 2.0, 4.0], device=position.device)
    return torch.cat([position[:, None], torch.sin(angles), torch.cos(angles)], dim=1)


def log_likelihood_ratios(prior_logit: Tensor, evidence: Tensor, brain: Tensor) -> Tensor:
    """``l_u(x)`` of every multiple of :data:`MULTIPLES`, (B, multiples); a voxel's odds grow in proportion to its intensity."""

    def of(log_multiple: float) -> Tensor:
        prior = prior_logit + log_multiple
        gained = F.softplus(prior + evidence) - F.softplus(prior)
        return (gained * brain).flatten(1).sum(1)

    at_one = of(0.0)
    return torch.stack([of(float(np.log(multiple))) - at_one for multiple in MULTIPLES], dim=1)


def brain_sums(prior_logit: Tensor, evidence: Tensor, brain: Tensor) -> Tensor:
    """Log voxels expected before and after seeing ``x``, and the ratios, on scales fit for a network; (B, 2 + multiples)."""
    voxels = [(torch.sigmoid(logit) * brain).flatten(1).sum(1) for logit in (prior_logit, prior_logit + evidence)]
    logs = torch.log1p(torch.stack(voxels, dim=1))
    return torch.cat([logs / 3, torch.asinh(log_likelihood_ratios(prior_logit, evidence, brain)) / 3], dim=1)


class GlobalContextForecaster(FactorisedDiffusion):
    """Masks by the global-context denoiser, on the risk map of a generator whose frailty is left out.

    Parameters
    ----------
    network : GlobalContextNetwork
    generator : Generator
        Gives scan encoder, risk head, local denoiser, grid and noise ladder; never changed.
    header : dict
        Seed, optimisation steps, training patients and seconds, kept in the checkpoint.
    """

    name: ClassVar[str] = "global-context denoiser"
    capabilities: ClassVar[frozenset[str]] = frozenset({"masks"})

    def __init__(self, network: GlobalContextNetwork, generator: Generator, header: Mapping[str, Any]) -> None:
        super().__init__(generator)
        self.network = network.eval().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.header = dict(header)

    @property
    def parameters(self) -> int:
        """Number of trained parameters, the generator's own included."""
        return self.generator.parameters + sum(parameter.numel() for parameter in self.network.parameters())

    def expect(self, scan: Scan, arm: str, week: float) -> ExpectedOutcome:
        """Refused: the law of its counts is known by sampling only."""
        raise RefusalError(f"{self.name} has no law of the count but its masks; ask its generator, or sample")

    def log_place(self, scan: Scan, arm: str) -> np.ndarray:
        """Refused: the place law is the generator's, not this model's."""
        raise RefusalError(f"{self.name} has no law of places but its masks; ask its generator, or sample")

    @torch.no_grad()
    def denoise(self, scan: Scan, arm: str, week: float) -> samplers.Denoise:
        """``D(x, sigma)`` of one patient, arm and week, for the samplers."""
        expected = self.generator.expect(scan, arm, week).lesions
        intensity = expected * torch.from_numpy(np.exp(super().log_place(scan, arm)))
        local = self.generator.network.denoiser
        prior = local.prior_logit(intensity.float()[None, None].to(scan.rate.device))
        brain, seen = scan.brain[:, None].float(), scan.encoded.seen

        def found(x: Tensor, sigma: float) -> Tensor:
            level = torch.full((x.shape[0],), sigma, device=x.device)
            parts = (x, level, prior, local(x, level, prior, seen), brain)
            # twice the same volume: of a batch of one with few channels PyTorch makes a CPU convolution three times as slow
            logit = self.network(*(torch.cat([part, part]) for part in parts))[: x.shape[0]]
            return torch.sigmoid(logit) * brain

        return found

    @torch.no_grad()
    def sample(
        self,
        scan: Scan,
        arm: str,
        week: float,
        draw: int,
        seed: int,
        sampler: samplers.Sampler = "ode",
        steps: int | None = None,
    ) -> np.ndarray:
        """One NET2 mask, bool of the grid's shape, from the start field (and step noise) of the generator's own draw."""
        config = self.generator.config
        sigmas = exogenous.sigma_ladder(config.sigma_min, config.sigma_max, steps or config.steps)
        noise = self.generator.noise(scan.participant_id, draw, seed)
        return np.asarray(samplers.sampled_masks(self.denoise(scan, arm, week), [noise], sigmas, sampler, scan.rate)[0])

    def save(self, path: str | Path) -> str:
        """Write the checkpoint, whole or not at all; it names the generator it stands on.  Returns its checksum."""
        header = {**self.header, "kind": self.name, "config": self.network.config, "generator": self.generator.checksum}
        plain = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in self.network.state_dict().items()}
        return write_checkpoint(path, plain, header)

    @classmethod
    def load(cls, path: str | Path, generator: Generator) -> GlobalContextForecaster:
        """Read a checkpoint that :meth:`save` wrote.

        Raises
        ------
        InputError
            If the file is missing, damaged, of another kind of model, or stands on another generator.
        """
        checkpoint = read_checkpoint(path)
        header = checkpoint.header
        if header.get("kind") != cls.name:
            raise InputError(f"{path}: a checkpoint of kind {header.get('kind')!r}, expected {cls.name!r}; give the other file")
        if header["generator"] != generator.checksum:
            raise InputError(
                f"{path}: trained on generator {header['generator'][:12]}, got {generator.checksum[:12]}; "
                "give the generator it was trained on, or train it again"
            )
        network = GlobalContextNetwork(header["config"])
        load_tensors(network, checkpoint.tensors, str(path))
        written = {key: header[key] for key in ("seed", "steps", "seconds", "training_patients", "loss") if key in header}
        return cls(network, generator, written)


@torch.no_grad()
def placed_patients(patients: list[TrainingPatient], generator: Generator) -> list[PlacedPatient]:
    """The generator's place law and log means for every patient's own arm and visits."""
    risk, placed = FactorisedDiffusion(generator), []
    for patient in tqdm(patients, desc="placing lesions", unit="patient", disable=None):
        scan = risk.encode_arrays(patient.arrays)
        laws = [risk.expect(scan, patient.arm, visit.week) for visit in patient.visits]
        log_place = np.maximum(risk.log_place(scan, patient.arm), -60000).astype(np.float16).ravel()
        log_means = tuple(float(np.log(law.lesions)) for law in laws)
        placed.append(PlacedPatient(patient, log_place, log_means, 1 / laws[0].dispersion))
    return placed


def frail_free_batch(
    patients: list[PlacedPatient], law: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[MaskBatch, Tensor]:
    """Patients drawn as for the generator's denoiser, one visit of each, their intensities at U = 1; and the brain masks."""
    cleans, intensities, weights, brains, arrays = [], [], [], [], []
    for index in rng.choice(len(patients), size=BATCH_MASKS, p=law):
        placed = patients[index]
        which = int(rng.integers(len(placed.patient.visits)))
        brain = placed.patient.arrays.masks[0]
        log_intensity = placed.log_place.reshape(shape).astype(np.float32) + placed.log_mean[which]
        cleans.append(np.where(placed.patient.visits[which].mask(shape), 1.0, -1.0))
        intensities.append(np.exp(np.clip(log_intensity, -25, 5)))
        weights.append(brain / brain.sum() / (len(patients) * law[index]))
        brains.append(brain)
        arrays.append(placed.patient.arrays)
    clean, intensity, weight, inside = (
        torch.from_numpy(np.stack(part)[:, None].astype(np.float32)) for part in (cleans, intensities, weights, brains)
    )
    return MaskBatch(clean, intensity, weight, arrays), inside


def train_global_context(
    patients: list[TrainingPatient],
    generator: Generator,
    seed: int = 0,
    steps: int = 2400,
    budget_minutes: float | None = None,
    device: str = "cpu",
) -> GlobalContextForecaster:
    """Train the U-Net; the generator stays as it is.

    Parameters
    ----------
    patients : list of TrainingPatient
        Nine tenths train, drawn as the generator's denoiser draws them; the tenth that the generator validates on is left out.
    generator : Generator
    steps : int
        Of four masks each.
    budget_minutes : float, optional
        CPU minutes of optimisation; see :class:`~studies.baselines.optimise.Recipe`.
    """
    training, _ = split(patients, seed)
    placed = placed_patients(training, generator)
    law, shape, model = drawing_law(placed), tuple(generator.space.shape), generator.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GlobalContextNetwork(CONFIG)
    network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    local = generator.network.denoiser

    def loss(step: int, random: torch.Generator) -> Tensor:
        batch, brain = frail_free_batch(placed, law, shape, np.random.default_rng([seed, step, 2]))
        sigma = exogenous.training_sigmas(BATCH_MASKS, model.sigma_min, model.sigma_max, random)
        x = batch.clean + sigma.view(-1, 1, 1, 1, 1) * torch.randn(batch.clean.shape, generator=random)
        with torch.no_grad():
            prior = local.prior_logit(batch.intensity)
            likelihood = local(x, sigma, prior, seen_scans(generator.network, batch.patients, anatomy_of(generator.space)))
        logit = network(*(part.to(device) for part in (x, sigma, prior, likelihood, brain)))
        each = F.binary_cross_entropy_with_logits(logit, (batch.clean > 0).float().to(device), reduction="none")
        return 1000 * (each * batch.weight.to(device)).flatten(1).sum(1).mean()

    done = optimise(network, loss, Recipe(steps, budget_minutes, 3e-3), seed)
    header = {
        "seed": seed,
        "steps": done.steps,
        "seconds": round(done.seconds, 1),
        "training_patients": len(training),
        "loss": done.loss,
    }
    return GlobalContextForecaster(network.cpu(), generator, header)
