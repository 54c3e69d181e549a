"""The trained generator: encode a scan once, then expect, sample and abduct for any arm, week and draw."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from causalms.errors import InputError, RefusalError, UsageError, near_or_all
from causalms.generator import noise as exogenous
from causalms.generator import sampling as samplers
from causalms.generator.batched import sample_across
from causalms.generator.checkpoint import checksum, load_tensors, read_checkpoint, write_checkpoint
from causalms.generator.configurations import ModelConfig, chosen_device
from causalms.generator.error_of_counts import correction_of_lacking, error_of_expected_count, log_means
from causalms.generator.inputs import (
    PatientArrays,
    anatomy_of,
    blurred_twice,
    covariate_vector,
    lesions_traced,
    patient_arrays,
)
from causalms.generator.network import Network, channels_last
from causalms.generator.noise import DiffusionNoise
from causalms.generator.outcomes import Abduction, ExpectedOutcome, Scan
from causalms.generator.sampling import one_thread
from causalms.generator.seen import Seen, error_columns, features_of, scanner_features
from causalms.lesions import LesionRule
from causalms.stats import ErrorModel
from causalms.tables import ModelError, name_of
from causalms.trials import MODALITIES, Space, Trial, mni_space, template_anatomy


def supported_week(week: float, trained: tuple[float, float]) -> float:
    """The week, if it lies in the trained range.

    Raises
    ------
    RefusalError
        If it does not.
    """
    if not trained[0] <= week <= trained[1]:
        raise RefusalError(
            f"week {name_of(week)} is outside the trained range {name_of(trained[0])}-{name_of(trained[1])}; "
            "ask for a week inside it"
        )
    return float(week)


def _arms_of(arms: Any) -> tuple[str, ...]:
    """Arms of a header: a list of different names."""
    if not isinstance(arms, list) or not arms or len({str(arm) for arm in arms}) < len(arms):
        raise ValueError(f"arms {str(arms)[:60]!r} are no list of different names")
    return tuple(str(arm) for arm in arms)


class Generator:
    """A treatment-conditioned diffusion model of NET2 masks.

    Parameters
    ----------
    network : Network
    config : ModelConfig
    arms : tuple of str
    weeks : (float, float)
        Trained range of follow-up weeks.
    rule : LesionRule
        The counting rule the expected counts speak of.
    header : dict
        What the checkpoint says of itself.
    checksum : str
    error_model : ErrorModel, optional
        How far its expected counts may be wrong; unknown for checkpoints of older versions.
    seen : Seen, optional
        Summary of patients like those it learned from; unknown for checkpoints of older versions.
    """

    def __init__(
        self,
        network: Network,
        config: ModelConfig,
        arms: tuple[str, ...],
        weeks: tuple[float, float],
        rule: LesionRule,
        header: dict[str, Any] | None = None,
        checksum: str = "",
        error_model: ErrorModel | None = None,
        seen: Seen | None = None,
    ) -> None:
        self.network = channels_last(network.eval())
        self.config, self.arms, self.weeks, self.rule = config, arms, weeks, rule
        self.header, self.checksum, self.error_model = header or {}, checksum, error_model
        self.seen = seen
        self.space: Space = mni_space(config.grid)
        self.sigmas = exogenous.sigma_ladder(config.sigma_min, config.sigma_max, config.steps)

    @classmethod
    def load(cls, path: str | Path = "reference", device: str = "cpu") -> Generator:
        """Load a checkpoint, or ``reference``, the one that ships, onto a device (``cpu``, ``cuda`` or ``auto``).

        Raises
        ------
        InputError
            If the file is missing, damaged, of another version, or holds other tensors than the model.
        UsageError
            If a GPU is wanted and none is there.
        """
        where = chosen_device(device)
        file = Path(str(files("causalms.generator") / "reference.safetensors")) if str(path) == "reference" else Path(path)
        if str(path) == "reference" and not file.is_file():
            raise InputError(
                "the reference checkpoint is not part of this installation; train one with 'causalms train' and name its file"
            )
        checkpoint = read_checkpoint(file)
        header = dict(checkpoint.header)
        try:
            config = ModelConfig(**header["config"])
            arms, weeks = _arms_of(header["arms"]), (float(header["weeks"][0]), float(header["weeks"][1]))
            rule = LesionRule(**header["lesion_rule"])
            network = Network(config, len(arms), weeks[1])
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError, UsageError) as error:
            raise InputError(
                f"{file}: incomplete header ({error}); the checkpoint is of another version, train it again"
            ) from error
        load_tensors(network, checkpoint.tensors, str(file))
        return cls(
            network.to(where), config, arms, weeks, rule, header, checkpoint.checksum, checkpoint.error_model, checkpoint.seen
        )

    def save(self, path: str | Path, half: bool = True) -> str:
        """Write the checkpoint, weights in half precision unless told otherwise; returns its checksum.

        Standardisation, levels and count curves stay in single precision: rounding them would shift every patient alike.
        """
        small = {name for name, weight in self.network.named_parameters() if half and weight.dim() > 1}
        tensors = {name: tensor.half() if name in small else tensor for name, tensor in self.network.state_dict().items()}
        header = {
            **{key: value for key, value in self.header.items() if key not in ("checksum", "header_checksum", "schema_version")},
            "config": self.config.as_dict(),
            "arms": list(self.arms),
            "weeks": list(self.weeks),
            "lesion_rule": asdict(self.rule),
        }
        return write_checkpoint(path, tensors, header, self.error_model, self.seen)

    @property
    def digest(self) -> str:
        """Of all that its numbers depend on; the checksum is of the network alone."""
        parts = [part for part in (self.error_model, self.seen) if part is not None]
        arrays = {f"{k}.{name}": torch.from_numpy(array) for k, part in enumerate(parts) for name, array in part.arrays().items()}
        said = (self.checksum, self.header, self.arms, self.weeks, self.rule, [part.words_and_numbers() for part in parts])
        return hashlib.sha256(f"{checksum(arrays)} {said}".encode()).hexdigest()[:16]

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def encode(self, trial: Trial, participant_id: str) -> Scan:
        """Encode one patient's baseline; the trial must be on the model's grid.

        Raises
        ------
        InputError
            If the trial is on another grid.
        """
        if not trial.space.same_as(self.space):
            raise InputError(
                f"{trial.name}: images on {trial.space.describe()}, the model works on {self.space.describe()}; "
                "resample them explicitly with causalms.trials.resample_trial (causalms forecast does)"
            )
        return self.encode_arrays(patient_arrays(trial, participant_id))

    @one_thread()
    @torch.no_grad()
    def encode_arrays(self, patient: PatientArrays) -> Scan:
        """Encode a patient already read."""
        device = next(self.network.parameters()).device
        images = torch.from_numpy(patient.images[None]).to(device).float()
        masks = torch.from_numpy(patient.masks[None]).to(device).float()
        covariates = torch.from_numpy(patient.covariates[None]).to(device)
        anatomy = anatomy_of(self.space).to(device)
        blurred = blurred_twice(masks[:, 1:2])
        signals = self.network.signals(images, masks, anatomy, lesions_traced([patient], device), blurred)
        reading = self.network.read(images, masks, covariates, anatomy, signals, blurred)
        distances = self._distances(patient, reading.observed)
        shift, log_size = correction_of_lacking(self, reading.state, reading.rate, patient.missing)
        rate, brain = reading.rate + shift, masks[:, 0] > 0
        return Scan(patient.participant_id, reading, rate, brain, patient.missing, patient.covariates, distances, log_size)

    def _distances(self, patient: PatientArrays, signals: Tensor) -> dict[str, float]:
        if self.seen is None:
            return {}
        features = features_of(patient.covariates[None], signals.cpu().numpy(), scanner_features(patient, self.space)[None])
        return {group: float(distance[0]) for group, distance in self.seen.distances(features).items()}

    def arm_index(self, arm: str) -> int:
        """Position of an arm.

        Raises
        ------
        RefusalError
            If the model was not trained on it.
        """
        if arm not in self.arms:
            raise RefusalError(f"the model knows no arm {arm!r}; {near_or_all(arm, self.arms, 'it was trained on', always=True)}")
        return self.arms.index(arm)

    def check_week(self, week: float) -> float:
        """Return the week if it lies in the trained range.

        Raises
        ------
        RefusalError
            If it does not.
        """
        return supported_week(week, self.weeks)

    @torch.no_grad()
    def _head(self, scan: Scan, arm: str, week: float) -> tuple[Tensor, Tensor, float]:
        device = scan.rate.device
        index = torch.tensor([self.arm_index(arm)], device=device)
        weeks = torch.tensor([self.check_week(week)], device=device)
        log_mean = self.network.risk.log_expected_count(scan.rate, scan.encoded.state, index, weeks)
        return log_mean[0], self._log_place(scan, index), self._size(scan, index)

    def _log_place(self, scan: Scan, arm: Tensor) -> Tensor:
        """Log probability of the next lesion's place; where fewer than three images show the tissue, the template tells CSF."""
        log_place = self.network.risk.log_place(scan.encoded.features, scan.brain, arm)
        if sum(name in scan.missing for name in MODALITIES) < 2:
            return log_place
        tissue = torch.from_numpy(1 - np.asarray(template_anatomy(self.space).csf)).to(log_place).clamp(1e-3, 1.0)
        weighted = log_place + 3 * torch.log(tissue)
        return weighted - torch.logsumexp(weighted.flatten(), 0)

    def _size(self, scan: Scan, arm: Tensor) -> float:
        """Negative-binomial size of a patient's count; smaller where inputs are missing."""
        return float(self.network.risk.size(arm)[0]) * float(np.exp(scan.log_size))

    @one_thread()
    @torch.no_grad()
    def expect(self, scan: Scan, arm: str, week: float, risk: bool = False) -> ExpectedOutcome:
        """Expected count and volume, activity probability and, if asked for, the risk map, by one evaluation.

        The count is negative binomial with mean ``Lambda(a, w)`` and size ``k_a``;
        ``P(any) = 1 - (k / (k + Lambda))^k``; the risk map is
        ``1 - E_U exp(-U r_v) = 1 - (k / (k + r_v))^k`` with ``r`` of equation 5 of the network at U = 1, scaled down where it
        would promise more than the expected volume (the kernel of equation 5 is the denoiser's prior, not a fit to volumes).
        """
        index = torch.tensor([self.arm_index(arm)], device=scan.rate.device)
        mean = float(torch.exp(log_means(self, scan, self.check_week(week))[index[0]]))
        size = self._size(scan, index)
        volume = mean * float(torch.exp(self.network.risk.log_mean_volume[index[0]]))
        risk_map = None
        if risk:
            intensity = mean * torch.exp(self._log_place(scan, index))
            covered = torch.log1p(torch.exp(self.network.denoiser.prior_logit(intensity[:, None])))[0, 0]
            promised = (1 - (size / (size + covered)) ** size).mul(scan.brain[0])
            volume_ml = float(promised.sum()) * self.space.voxel_volume_mm3 / 1000
            risk_map = (promised * min(1.0, volume / max(volume_ml, 1e-12))).cpu().numpy()
        return ExpectedOutcome(mean, volume, 1 - (size / (size + mean)) ** size, 1 / size, risk_map)

    @torch.no_grad()
    def model_error(self, scan: Scan, arm: str, week: float) -> ModelError | None:
        """How far the expected count may be wrong, from the error model; None where the checkpoint has none."""
        return error_of_expected_count(self, scan, self.arm_index(arm), self.check_week(week))

    def error_columns(self, row: Mapping[Any, Any]) -> np.ndarray:
        """Columns (q,) of a participants row that the error model reads; NaN where missing."""
        return np.asarray(error_columns(covariate_vector(row)[None].astype(float))[0])

    def noise(self, participant_id: str, draw: int, seed: int) -> DiffusionNoise:
        """Exogenous noise of a patient and draw; the same for every arm and week."""
        return exogenous.draw_noise(participant_id, draw, seed, tuple(self.space.shape))

    def prior(self, scan: Scan, arm: str, week: float, frailty_normal: float, sampler: str) -> Tensor:
        """Log odds (1, 1, X, Y, Z) that a voxel is covered, which the denoiser starts from."""
        log_mean, log_place, size = self._head(scan, arm, week)
        frailty = float(exogenous.frailty_from_normal(frailty_normal, size))
        wanted = float(torch.exp(log_mean)) * frailty
        intensity = self.sampler_intensity(wanted, sampler) * torch.exp(log_place)
        return self.network.denoiser.prior_logit(intensity[:, None])

    def denoise(self, scans: Sequence[Scan], prior: Tensor) -> samplers.Denoise:
        """The denoiser of as many draws as there are priors (B, 1, X, Y, Z): of one scan, or of a scan each."""
        brain = torch.cat([scan.brain for scan in scans])[:, None].float()
        parts = [part for scan in scans if (part := scan.encoded.seen) is not None]
        seen = torch.cat(parts) if parts else None
        if seen is not None:
            seen = seen.expand(len(prior), *seen.shape[1:])

        def denoise(x: Tensor, sigma: float) -> Tensor:
            level = torch.full((x.shape[0],), sigma, device=x.device)
            return torch.sigmoid(self.network.denoiser(x, level, prior, seen)) * brain

        return denoise

    def sampler_intensity(self, expected_lesions: float, sampler: str) -> float:
        """Intensity at which the sampler's mean count is ``expected_lesions``: the inverse of the curve fitted after training.

        ``log mean sampled = a + b log mu + c (log mu)^2`` for each sampler; identity before calibration.
        """
        row = self.network.count_calibration[samplers.SAMPLERS.index(sampler)].tolist()
        target = float(np.log(max(expected_lesions, 1e-8)))
        low, high = row[3], row[4]
        inside = float(np.clip(target, low, high))
        a, b, c = row[:3]
        log_mu = (inside - a) / b if abs(c) < 1e-8 else (-b + np.sqrt(max(b * b - 4 * c * (a - inside), 1e-12))) / (2 * c)
        return float(np.exp(log_mu + target - inside))

    def sample(
        self,
        scan: Scan,
        arm: str,
        week: float,
        noise: DiffusionNoise,
        sampler: samplers.Sampler = "ode",
        steps: int | None = None,
    ) -> np.ndarray:
        """One NET2 mask, a deterministic function of (scan, arm, week, noise); several at once: :func:`sample_across`."""
        return next(sample_across(self, [(scan, arm, week, noise)], sampler, steps))

    def count(self, mask: np.ndarray) -> int:
        """Lesions in a mask by the model's rule."""
        return int(self.rule.label(mask, self.space.voxel_volume_mm3).max())

    @one_thread()
    @torch.no_grad()
    def abduct(
        self,
        scan: Scan,
        arm: str,
        week: float,
        mask: np.ndarray,
        draw: int,
        seed: int,
        sampler: samplers.Sampler = "ancestral",
        method: Literal["stochastic", "deterministic"] = "stochastic",
    ) -> Abduction:
        """One particle of the posterior of the exogenous noise given a factual mask.

        The frailty is drawn from ``U | N ~ Gamma(k + N, k + Lambda)`` (deterministic: its median).  ``ancestral``: the
        noising path is drawn from its forward
        law given the mask and every step's noise is solved.  ``ode``: the mask is dequantised at the smallest noise
        level  and the sampler is inverted by fixed-point refinement.
        """
        if mask.shape != tuple(self.space.shape):
            raise InputError(
                f"factual mask of shape {mask.shape}; the model's grid is {tuple(self.space.shape)}, resample it first"
            )
        log_mean, _, size = self._head(scan, arm, week)
        stream = exogenous.stream("abduct", scan.participant_id, draw, seed)
        posterior = (size + self.count(mask), size + float(torch.exp(log_mean)))
        if method == "deterministic":
            from scipy.stats import gamma

            frailty = float(gamma.median(posterior[0]) / posterior[1])
        else:
            frailty = float(stream.gamma(posterior[0]) / posterior[1])
        z = float(exogenous.normal_from_frailty(max(frailty, 1e-12), size))
        denoise = self.denoise([scan], self.prior(scan, arm, week, z, sampler))
        clean = torch.from_numpy(np.where(mask, 1.0, -1.0).astype(np.float32))[None, None].to(scan.rate.device)
        shape = mask.shape
        count = len(self.sigmas) if sampler == "ancestral" else 1
        fields = stream.standard_normal((count, *shape), dtype=np.float32)
        if sampler == "ancestral":
            start, noises = samplers.abduct_ancestral(denoise, clean, self.sigmas, fields)
            path = torch.cat([part[:, 0] for part in noises]).cpu().numpy()
        else:
            end = clean + float(self.sigmas[-1]) * torch.from_numpy(fields[0]).to(clean)
            start, _ = samplers.invert_ode(denoise, end, self.sigmas)
            path = None
        field_ = ((start + 1) / float(self.sigmas[0]))[0, 0].cpu().numpy()
        noise = DiffusionNoise(z, field_, path, (scan.participant_id, draw, seed))
        replay = self.sample(scan, arm, week, noise, sampler)
        return Abduction(noise, float((replay != mask).sum()))


def loaded_once(path: str, device: str = "cpu") -> Generator:
    """The generator of a file, read once a process, and again where the file has changed."""
    file = Path(path)
    return _loaded(path, device, (file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else (0, 0))


@lru_cache(maxsize=2)
def _loaded(path: str, device: str, _: tuple[int, int]) -> Generator:
    return Generator.load(path, device)
