"""Facts about the three trained image baselines: exact training, exact noise, laws that are what they claim to be."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from causalms.errors import InputError, RefusalError
from causalms.generator.train.data import training_set
from causalms.generator.train.patients import TrainingPatient
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial
from studies.baselines.count_network import CONFIG, CountForecaster, CountNetwork, train_count_network
from studies.baselines.image_forecaster import ImageForecaster
from studies.baselines.lineage import LineageForecaster, train_lineage
from studies.baselines.stochastic_segmentation import (
    StochasticSegmentationForecaster,
    base_logit,
    train_stochastic_segmentation,
)
from studies.common import ARMS

STEPS = 2
TRAINERS: dict[str, Callable[..., Any]] = {
    "count": train_count_network,
    "segmentation": train_stochastic_segmentation,
    "lineage": train_lineage,
}


@pytest.fixture(scope="module")
def patients(trial: PhantomTrial) -> list[TrainingPatient]:
    return training_set(trial, LesionRule.default())


@pytest.fixture(scope="module")
def arms(patients: list[TrainingPatient]) -> tuple[str, ...]:
    return tuple(arm for arm in ARMS if arm in {patient.arm for patient in patients})


@pytest.fixture(scope="module")
def trained(patients: list[TrainingPatient], arms: tuple[str, ...], trial: PhantomTrial) -> dict[str, ImageForecaster]:
    return {name: train(patients, arms, trial.space, seed=5, steps=STEPS) for name, train in TRAINERS.items()}


@pytest.mark.parametrize("name", list(TRAINERS))
def test_training_is_exact_under_a_seed_and_leaves_the_global_generator_alone(
    name: str,
    trained: dict[str, ImageForecaster],
    patients: list[TrainingPatient],
    arms: tuple[str, ...],
    trial: PhantomTrial,
) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = TRAINERS[name](patients, arms, trial.space, seed=5, steps=STEPS)
    assert torch.equal(before, torch.get_rng_state())
    for key, value in trained[name].network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[key]), key
    assert again.header["steps"] == STEPS
    assert again.header["training_patients"] == len(patients) - max(1, round(0.1 * len(patients)))


@pytest.mark.parametrize("name", list(TRAINERS))
def test_a_saved_baseline_gives_the_same_numbers(
    name: str, trained: dict[str, ImageForecaster], patients: list[TrainingPatient], tmp_path: Path
) -> None:
    model = trained[name]
    model.save(tmp_path / "model.safetensors")
    loaded = type(model).load(tmp_path / "model.safetensors")
    assert (loaded.arms, loaded.weeks, loaded.header) == (model.arms, model.weeks, model.header)
    assert loaded.space.same_as(model.space)
    assert loaded.parameters == model.parameters > 10_000
    answers = []
    for each in (model, loaded):
        scan = each.encode_arrays(patients[0].arrays)
        if isinstance(each, CountForecaster):
            answers.append(np.asarray(each.expect(scan, model.arms[0], 48).lesions))
        elif isinstance(each, StochasticSegmentationForecaster):
            answers.append(each.law(scan, model.arms[0], 48).mean.numpy())
        else:
            assert isinstance(each, LineageForecaster)
            answers.append(each.sample_field(scan, model.arms[0], 48, 0, 0, 2, 3.5))
    assert np.array_equal(answers[0], answers[1])


def test_a_checkpoint_of_another_kind_is_refused(trained: dict[str, ImageForecaster], tmp_path: Path) -> None:
    trained["count"].save(tmp_path / "count.safetensors")
    with pytest.raises(InputError, match="multi-head count network"):
        LineageForecaster.load(tmp_path / "count.safetensors")


@pytest.mark.parametrize("name", list(TRAINERS))
def test_unknown_arms_and_untrained_weeks_are_refused(name: str, trained: dict[str, ImageForecaster]) -> None:
    with pytest.raises(RefusalError, match="trained on"):
        trained[name].arm_index("natalizumab")
    with pytest.raises(RefusalError, match="trained range"):
        trained[name].log_week(200)


def test_what_a_baseline_lacks_is_refused_in_one_line(
    trained: dict[str, ImageForecaster], patients: list[TrainingPatient]
) -> None:
    questions: dict[str, Callable[[ImageForecaster, Any], object]] = {
        "expect": lambda model, scan: model.expect(scan, model.arms[0], 96),
        "place": lambda model, scan: model.log_place(scan, model.arms[0]),
        "masks": lambda model, scan: model.sample(scan, model.arms[0], 96, 0, 0),
    }
    for model in trained.values():
        scan = model.encode_arrays(patients[0].arrays)
        for capability in questions.keys() - model.capabilities:
            with pytest.raises(RefusalError, match=f"^{model.name} has no"):
                questions[capability](model, scan)


def test_an_arms_head_is_untouched_by_patients_of_other_arms(
    patients: list[TrainingPatient], arms: tuple[str, ...], trial: PhantomTrial
) -> None:
    torch.manual_seed(0)
    network = CountNetwork(len(arms), CONFIG)
    own = [patient for patient in patients if patient.arm == arms[0]][:2]
    inputs = network.read([patient.arrays for patient in own], trial.space)
    network.log_likelihood(inputs, own, arms).backward()
    for index, head in enumerate(network.heads):
        touched = [parameter.grad is not None and bool(parameter.grad.abs().sum() > 0) for parameter in head.parameters()]
        assert all(touched) if index == 0 else not any(touched)


def test_count_network_starts_at_the_observed_rate_of_every_arm(patients: list[TrainingPatient], arms: tuple[str, ...]) -> None:
    network = CountNetwork(len(arms), CONFIG)
    network.start(patients, arms)
    for index, arm in enumerate(arms):
        own = [patient for patient in patients if patient.arm == arm]
        lesions, time = sum(p.last.lesions for p in own), sum(p.last.week / 96 for p in own)
        log_mean, size = network.heads[index](torch.zeros(1, CONFIG["hidden"]), torch.zeros(1))
        assert torch.exp(log_mean).item() == pytest.approx((lesions + 0.5) / (time + 0.5), rel=1e-5)
        assert size.item() == pytest.approx(0.5, rel=1e-5)


def test_count_network_states_one_negative_binomial_law(
    trained: dict[str, ImageForecaster], patients: list[TrainingPatient]
) -> None:
    model = trained["count"]
    assert isinstance(model, CountForecaster)
    scan = model.encode_arrays(patients[0].arrays)
    early, late = (model.expect(scan, model.arms[0], week) for week in (24, 96))
    assert 0 < early.lesions < late.lesions  # counts are cumulative
    size = 1 / late.dispersion
    nothing = stats.nbinom.pmf(0, size, size / (size + late.lesions))
    assert late.activity_probability == pytest.approx(1 - nothing, rel=1e-6)


def test_samples_depend_on_patient_draw_and_seed_and_not_on_order(
    trained: dict[str, ImageForecaster], patients: list[TrainingPatient], trial: PhantomTrial
) -> None:
    for name, options in (("segmentation", {}), ("lineage", {"steps": 2})):
        model: Any = type(trained[name])(copy.deepcopy(trained[name].network), trained[name].arms, trial.space, (24, 96), {})
        head = model.network.heads if name == "segmentation" else model.network.head
        with torch.no_grad():  # two steps of training leave every mask empty: at even odds masks say something
            head.bias[0] = 0
        scans = [model.encode_arrays(patient.arrays) for patient in patients[:2]]
        arm = model.arms[0]
        forward = [model.sample(scan, arm, 96, draw, 3, **options) for scan in scans for draw in (0, 1)]
        backward = [model.sample(scan, arm, 96, draw, 3, **options) for scan in reversed(scans) for draw in (1, 0)][::-1]
        assert (forward[0] != forward[1]).any()
        assert (forward[0] != model.sample(scans[0], arm, 96, 0, 4, **options)).any()
        for one, other in zip(forward, backward, strict=True):
            assert one.shape == model.space.shape
            assert one.dtype == bool
            assert np.array_equal(one, other)


def test_segmentation_places_lesions_with_probability_one_inside_the_brain(
    trained: dict[str, ImageForecaster], patients: list[TrainingPatient]
) -> None:
    model = trained["segmentation"]
    assert isinstance(model, StochasticSegmentationForecaster)
    brain = patients[0].arrays.masks[0]
    place = model.log_place(model.encode_arrays(patients[0].arrays), model.arms[0])
    assert np.exp(place).sum() == pytest.approx(1, abs=1e-9)
    assert np.isneginf(place[~brain]).all()
    assert np.isfinite(place[brain]).all()


def test_base_logit_is_the_prevalence_of_new_lesion_voxels(patients: list[TrainingPatient], trial: PhantomTrial) -> None:
    lesion = sum(int(patient.last.mask(trial.space.shape).sum()) for patient in patients)
    brain = sum(int(patient.arrays.masks[0].sum()) for patient in patients)
    assert base_logit(patients) == pytest.approx(np.log((lesion + 1) / brain))


def test_drawn_voxels_are_as_many_as_their_probabilities_say(
    trained: dict[str, ImageForecaster], patients: list[TrainingPatient]
) -> None:
    model = trained["segmentation"]
    assert isinstance(model, StochasticSegmentationForecaster)
    scan = model.encode_arrays(patients[0].arrays)
    chance = float(model.law(scan, model.arms[0], 96).marginal_probability().sum())
    voxels = [int(model.sample(scan, model.arms[0], 96, draw, 0, voxels="drawn").sum()) for draw in range(40)]
    assert np.mean(voxels) == pytest.approx(chance, abs=4 * np.std(voxels) / 40**0.5)
    assert model.sample(scan, model.arms[0], 96, 0, 0).sum() == 0 < chance  # nowhere is a lesion likelier than none
