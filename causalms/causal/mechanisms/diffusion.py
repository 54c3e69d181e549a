"""The diffusion model of NET2 masks as a mechanism: a thin adapter, no numerics of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from causalms.causal.evidence import participant_row
from causalms.causal.mechanism import Expected, MechanismBase, Noise, Outcome, Subject
from causalms.errors import RefusalError
from causalms.generator import DiffusionNoise, kept_scan, loaded_once, masks_at_once, sample_across
from causalms.lesions import count_lesions
from causalms.stats import ErrorModel
from causalms.tables import REGIONS, ModelError
from causalms.trials import template_anatomy


@dataclass(frozen=True)
class DiffusionMechanism(MechanismBase):
    """Structural equation of a mask: a sampler driven by patient frailty and Gaussian fields.

    Coupling ``monotone`` shares frailty and start field of the deterministic sampler; ``ancestral`` shares the fields of every
    step of the ancestral sampler as well.  A factual mask is abducted by the sampler that will replay it.

    Attributes
    ----------
    generator : causalms.generator.Generator
    source : str
        Where it was loaded from: workers load it there, once a process, instead of being sent its weights.
    sampler : {"ode", "ancestral"}
    device : {"cpu", "cuda", "auto"}
        Where it runs in each process.
    cache : str
        Folder in which encoded scans are kept for expected outcomes; empty keeps none.
    """

    generator: Any = field(repr=False)
    source: str = ""
    sampler: str = "ode"
    device: str = "cpu"
    cache: str = ""
    name: str = "diffusion"
    capabilities = frozenset({"push", "expect", "abduct", "mask", "deterministic-abduct"})
    couplings = frozenset({"monotone", "ancestral", "independent", "rho"})

    @classmethod
    def load(
        cls, model: str | os.PathLike[str] = "reference", device: str = "cpu", cache: str | os.PathLike[str] = ""
    ) -> DiffusionMechanism:
        """Load a checkpoint, or ``reference``, the one that ships with the package, onto a device."""
        return _loaded(str(model), "ode", device, str(cache))

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source:
            return _loaded, (self.source, self.sampler, self.device, self.cache)
        return DiffusionMechanism, (self.generator, self.source, self.sampler)

    @property
    def arms(self) -> tuple[str, ...]:  # type: ignore[override]
        """The arms it was trained on."""
        return tuple(self.generator.arms)

    @property
    def weeks(self) -> tuple[float, float]:  # type: ignore[override]
        """First and last trained visit week."""
        return self.generator.weeks[0], self.generator.weeks[1]

    @property
    def checksum(self) -> str:  # type: ignore[override]
        """Of the checkpoint."""
        return str(self.generator.checksum)

    @property
    def digest(self) -> str:
        """Of the checkpoint with its error model and its summary of patients, which the checksum leaves out."""
        return str(self.generator.digest)

    @property
    def description(self) -> dict[str, Any]:  # type: ignore[override]
        """What the query record says: guidance 1 and no clipping, the only way this sampler runs."""
        return {
            "kind": "diffusion model of NET2 masks",
            "guidance": 1.0,
            "clipping": False,
            "sampler": self.sampler,
            "steps": len(self.generator.sigmas) - 1,
            "lesion_rule": asdict(self.generator.rule),
            "grid": list(self.generator.space.shape),
        }

    def prepare(self, trial: Any, participant_id: str) -> Subject:
        """The patient's row and encoded scan."""
        row = participant_row(trial, participant_id)
        if not hasattr(trial, "image"):
            raise RefusalError(
                f"participant {participant_id}: the diffusion model needs a baseline scan and this is only a table; "
                "give the trial's folder, or use a model of counts"
            )
        arm = row.get("arm")
        if self.cache:
            scan = kept_scan(self.generator, trial, row, Path(self.cache))
        else:
            scan = self.generator.encode(trial, participant_id)
        return Subject(participant_id, str(row["trial"]), arm if isinstance(arm, str) else None, row, scan, scan.missing)

    def noise(self, subject: Subject, draw: int, seed: int) -> Noise:
        """Normal score of the frailty, start field and, for the ancestral sampler, one field a step."""
        drawn = self.generator.noise(subject.participant_id, draw, seed)
        return self._noise(drawn)

    def push(self, subject: Subject, arm: str, week: float, noise: Noise) -> Outcome:
        """The mask that the sampler makes of the noise, measured by the model's lesion rule."""
        return next(self.push_each([(subject, arm, week, noise)]))

    def push_each(self, asked: Iterable[tuple[Subject, str, float, Noise]]) -> Iterator[Outcome]:
        """The outcomes of several patients, arms, weeks and draws: in batches on a GPU."""
        drawn = ((subject.encoding, arm, week, _of_generator(noise)) for subject, arm, week, noise in asked)
        return (self.measure(mask) for mask in sample_across(self.generator, drawn, self.sampler))  # type: ignore[arg-type]

    @property
    def at_once(self) -> int:
        """Masks of a batch: one on a CPU."""
        return masks_at_once(self.generator)

    def expect(self, subject: Subject, arm: str, week: float) -> Expected:
        """Count, volume and activity by one evaluation of the risk head."""
        outcome = self.generator.expect(subject.encoding, arm, week)
        return Expected(outcome.lesions, outcome.volume_ml, outcome.activity_probability, outcome.dispersion)

    def error(self, subject: Subject, arm: str, week: float) -> ModelError | None:
        """From the checkpoint's error model; unknown where it has none."""
        return self.generator.model_error(subject.encoding, arm, week)  # type: ignore[no-any-return]

    @property
    def error_model(self) -> ErrorModel | None:
        """The checkpoint's."""
        return self.generator.error_model  # type: ignore[no-any-return]

    def error_columns(self, row: Mapping[Any, Any]) -> npt.NDArray[np.floating[Any]]:
        """The columns that the checkpoint's error model was learned with."""
        return self.generator.error_columns(row)  # type: ignore[no-any-return]

    def risk_map(self, subject: Subject, arm: str, week: float) -> npt.NDArray[np.floating[Any]]:
        """P(voxel is in a NET2 lesion)."""
        return np.asarray(self.generator.expect(subject.encoding, arm, week, risk=True).risk)

    def abduct(
        self, subject: Subject, arm: str, week: float, outcome: Outcome, draw: int, seed: int, method: str = "stochastic"
    ) -> Noise:
        """One particle of U given the factual mask; replaying it gives the mask back."""
        particle = self.generator.abduct(
            subject.encoding, arm, week, outcome.mask, draw, seed, sampler=self.sampler, method=method
        )
        return self._noise(particle.noise)

    def measure(self, mask: npt.NDArray[np.bool_]) -> Outcome:
        """Count, volume and regions of a mask by the model's lesion rule."""
        space = self.generator.space
        lesions = count_lesions(mask, space.voxel_volume_mm3, self.generator.rule, template_anatomy(space).regions)
        regions = tuple(int(n) for n in lesions.by_region)
        return Outcome(float(lesions.lesions), float(lesions.volume_ml), regions if len(regions) == len(REGIONS) else None, mask)

    def for_coupling(self, coupling: str) -> DiffusionMechanism:
        """The ancestral sampler for ``ancestral``, the deterministic one for the others."""
        super().for_coupling(coupling)
        return replace(self, sampler="ancestral" if coupling == "ancestral" else "ode")

    def _noise(self, drawn: DiffusionNoise) -> Noise:
        normals = {"frailty": np.array([drawn.frailty_normal]), "field": drawn.field}
        if self.sampler == "ancestral":
            steps = range(len(self.generator.sigmas) - 1)
            normals["path"] = np.stack([drawn.step_noise(step, drawn.field.shape) for step in steps])
        return Noise(normals)


def _of_generator(noise: Noise) -> DiffusionNoise:
    return DiffusionNoise(float(noise.normals["frailty"][0]), noise.normals["field"], noise.normals.get("path"))


def _loaded(source: str, sampler: str, device: str = "cpu", cache: str = "") -> DiffusionMechanism:
    return DiffusionMechanism(loaded_once(source, device), source, sampler, device, cache)
