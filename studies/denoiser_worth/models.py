"""The models that are compared: trained on the same patients for the same CPU minutes, and kept as checkpoints.

The generator's two variants (the denoiser sees the scan, or does not) and both laws of independent lesions stand on one encoder:
it has three fifths of the minutes, a denoiser two fifths, and independent lesions cost no more.  With ``start`` the encoder is
that of a checkpoint, both denoisers start from its own, and a denoiser has all the minutes at a third of the learning rate.
Everything is optimised by the baselines' loop in bfloat16, on one core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
import torch
from torch import Tensor

import causalms as cms
from causalms.generator import Generator, config
from causalms.generator.configurations import ModelConfig, TrainingConfig
from causalms.generator.network import Network, channels_last
from causalms.generator.sampling import SAMPLERS, Sampler
from causalms.generator.train.count_calibration import fit_curve, simulate_counts
from causalms.generator.train.cross_fitting import Learned
from causalms.generator.train.data import Material, read_material
from causalms.generator.train.denoiser import PlacedPatient, denoiser_step, place_patients
from causalms.generator.train.distributed import Processes
from causalms.generator.train.first_stage import fit_first_stage, write_first_stage
from causalms.generator.train.loop import new_network
from causalms.generator.train.risk import risk_step
from causalms.generator.train.scores import validation_scores
from causalms.lesions import LesionRule
from causalms.trials import mni_space
from studies import baselines as b
from studies.baselines.optimise import Recipe, optimise

#: Image baselines: how each is trained, and of which class it is.
BASELINES: dict[str, tuple[Callable[..., Any], Any]] = {
    "segmentation": (b.train_stochastic_segmentation, b.StochasticSegmentationForecaster),
    "lineage": (b.train_lineage, b.LineageForecaster),
}
#: Samplers whose counts are matched to their expectation: the default one, and the one that is abducted.
_MATCHED: tuple[Sampler, ...] = ("ode", "ancestral")


@dataclass(frozen=True)
class Setting:
    """What all models have in common.

    Attributes
    ----------
    out : Path
        Where checkpoints and patients are kept.
    design : str
    patients : int
        Of the training trial.
    minutes : float
        CPU minutes of every model.
    matched : int
        Patients with whom sampled counts are matched to their expectation.
    start : str
        Checkpoint whose encoder all stand on and whose denoiser both denoisers start from; empty: trained here.
    """

    out: Path
    design: str
    patients: int
    minutes: float
    matched: int = 60
    start: str = ""

    @property
    def recipe(self) -> TrainingConfig:
        """Recipe of the generator's two stages."""
        return replace(config("small")[1], mixed_precision=True)


def material_of(setting: Setting) -> Material:
    """Patients of the training trial (seed 2026), read once and kept."""
    file = setting.out / "patients.joblib"
    if not file.is_file():
        trial = cms.simulate_trial(setting.design, patients=setting.patients, seed=2026)
        joblib.dump(read_material(trial, setting.recipe, 0, 1, Processes()), file)
    material: Material = joblib.load(file)
    return material


def baseline(name: str, setting: Setting, seed: int) -> Any:
    """An image baseline, loaded or trained."""
    train, kind = BASELINES[name]
    file = setting.out / f"{name}_{seed}.safetensors"
    if not file.is_file():
        material = material_of(setting)
        made = train(
            material.patients,
            material.arms,
            mni_space(config("small")[0].grid),
            seed=seed,
            budget_minutes=setting.minutes,
            mixed_precision=True,
        )
        made.save(file)
    return kind.load(file)


def encoder(setting: Setting) -> Generator:
    """Scan encoder, risk head and first stage of counts, with a denoiser that has learned nothing; loaded or trained."""
    if setting.start:
        return Generator.load(setting.start)
    file = setting.out / "encoder.safetensors"
    if not file.is_file():
        model = replace(config("small")[0], denoiser_sees_scan=False)
        material = material_of(setting)
        network = new_network(model, material, 0)
        learned = Learned.of(network, material)
        loss = risk_step(network, material, setting.recipe, 0, Processes())
        done = _optimised(network, loss, setting, 0.6, 0, lambda: validation_scores(network, material)["place_log_score"])
        write_first_stage(network, fit_first_stage(learned.data(network), len(material.arms)))
        _generator(network, model, material, {"risk": done}).save(file, half=False)
    return Generator.load(file)


@lru_cache(maxsize=1)
def placed(setting: Setting) -> tuple[Material, list[PlacedPatient]]:
    """Training patients with the arms of the encoder, and where it says that their lesions lie: what denoisers learn from."""
    start = encoder(setting)
    material = replace(material_of(setting), arms=start.arms)
    return material, place_patients(start.network, material)


def generator(setting: Setting, seed: int, sees_scan: bool, name: str) -> Generator:
    """The generator of the encoder and of a denoiser, loaded or trained."""
    file = setting.out / f"{name}_{seed}.safetensors"
    if not file.is_file():
        start, (material, patients) = encoder(setting), placed(setting)
        model = replace(start.config, denoiser_sees_scan=sees_scan)
        torch.manual_seed(seed)
        network = channels_last(Network(model, len(start.arms), start.weeks[1]))
        kept = start.network.state_dict().items()
        network.load_state_dict({k: v for k, v in kept if setting.start or not k.startswith("denoiser.")}, strict=False)
        loss = denoiser_step(network, patients, model, material, setting.recipe, seed, Processes())
        done = _optimised(network, loss, setting, 1.0 if setting.start else 0.4, seed)
        made = _generator(network, model, material, {"denoiser": done})
        for sampler in _MATCHED:
            some = [patient.arrays for patient in material.training[: setting.matched]]
            made.network.count_calibration[SAMPLERS.index(sampler)] = torch.tensor([0.0, 1.0, 0.0, -5.0, 5.0])
            curve = fit_curve(*simulate_counts(made, some, sampler, seed))
            made.network.count_calibration[SAMPLERS.index(sampler)] = torch.tensor(curve)
        made.save(file, half=False)
    return Generator.load(file)


def _optimised(
    network: Network,
    loss: Callable[[int], Tensor],
    setting: Setting,
    share: float,
    seed: int,
    validate: Callable[[], float] | None = None,
) -> dict[str, float]:
    """Optimise for a share of the minutes; steps, seconds and the mean loss of the last tenth."""
    rate = setting.recipe.learning_rate / (3 if setting.start else 1)
    recipe = Recipe(10**6, share * setting.minutes, rate, setting.recipe.weight_decay)
    done = optimise(network, lambda step, _: loss(step), recipe, seed, validate)
    return {"steps": done.steps, "seconds": round(done.seconds, 1), "loss": done.loss}


def _generator(network: Network, model: ModelConfig, material: Material, recipe: dict[str, Any]) -> Generator:
    rule = LesionRule.default()
    return Generator(network, model, material.arms, material.weeks, rule, {"recipe": recipe, "patients": len(material.patients)})
