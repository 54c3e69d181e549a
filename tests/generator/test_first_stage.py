"""The first stage: penalised counts by evidence, image features against known scans, and what the network takes over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from causalms.errors import RefusalError
from causalms.generator.configurations import COVARIATES
from causalms.generator.image_features import FEATURES, SHELL_ENDS, image_features, uses_image
from causalms.generator.inputs import anatomy_of, patient_arrays
from causalms.generator.model import Generator
from causalms.generator.train import loop
from causalms.generator.train.cross_fitting import Learned, folds_of
from causalms.generator.train.data import read_material
from causalms.generator.train.distributed import Processes
from causalms.generator.train.first_stage import FirstStage, FirstStageData, fit_first_stage, write_first_stage
from causalms.generator.train.resume import known_rate
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial
from causalms.stats import fit_model
from causalms.trials import mni_space, position
from tests.generator.conftest import MODEL, SHORT


def counts(n: int, features: int, sd: float, seed: int) -> tuple[FirstStageData, np.ndarray]:
    """Counts of two arms that depend on a column, on features of that standard deviation, and on their time at risk."""
    rng = np.random.default_rng(seed)
    arm, x, f = rng.integers(0, 2, n), rng.normal(size=(n, 2)), rng.normal(size=(n, features))
    phi, share = rng.normal(0, sd, features), np.log(rng.uniform(0.3, 1.0, n))
    mean = np.exp(1.2 - 0.7 * arm + 0.5 * x[:, 0] + f @ phi + share)
    y = rng.poisson(mean * rng.gamma(0.8, 1 / 0.8, n)).astype(float)
    return FirstStageData(y, arm, x, f, x[:, :1], share), phi


def test_with_a_flat_prior_it_is_the_negative_binomial_regression() -> None:
    """At prior standard deviations of 50 the mode is the maximum of the likelihood that glm's regression has."""
    data, _ = counts(600, 2, 0.3, seed=1)
    design, group = data.design(2)
    reference = fit_model("negbin", design[:, :6], data.counts, np.exp(data.log_share))
    prior_sd = {"a": 50.0, "b": 50.0, "c": 1e-4}
    flat = FirstStage(*(np.zeros(1),) * 3, np.zeros((2, 1)), 1 / float(reference.alpha), prior_sd, np.eye(1))
    fit = fit_first_stage(data, 2, like=flat)
    found = np.concatenate([fit.level, fit.columns, fit.features])
    assert found == pytest.approx(reference.coefficients, abs=2e-3)  # levels keep a prior of standard deviation 2
    assert group == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_known_rate_is_one_more_column_added_to_the_others() -> None:
    """The same mode as with the rate, standardised, as a third column; its log means and their variances are those."""
    data, phi = counts(300, 20, 0.2, seed=4)
    known = np.concatenate([[0.5, 0.0], phi])
    rate = np.column_stack([data.columns, data.features]) @ known
    wide = replace(data, columns=np.column_stack([data.columns, (rate - rate.mean()) / rate.std()]))
    like = fit_first_stage(data, 2)
    like.prior_sd["columns"] = 1.0  # that of a known rate
    folded, column = (fit_first_stage(of, 2, like=like) for of in (replace(data, known=known), wide))
    assert folded.log_mean(data) == pytest.approx(column.log_mean(wide), abs=1e-4)
    assert folded.variance(data) == pytest.approx(column.variance(wide), rel=1e-4)
    assert folded.columns.shape == (2,)


def test_a_rate_known_from_elsewhere_is_worth_much_to_few_patients_and_costs_little_where_it_is_wrong() -> None:
    """R2 of the log rate in 2,000 unseen patients: from 100 patients .2 more by the right one, at most .1 less by a wrong one."""
    data, phi = counts(100, 40, 0.15, seed=5)
    unseen, _ = counts(2000, 40, 0.15, seed=6)
    right = np.concatenate([[0.5, 0.0], phi])
    true = np.column_stack([unseen.columns, unseen.features]) @ right

    def r2(known: np.ndarray | None) -> float:
        fit = fit_first_stage(replace(data, known=known), 2)
        return float(1 - np.var(unseen.columns @ fit.columns + unseen.features @ fit.features - true) / np.var(true))

    wrong = np.random.default_rng(7).permutation(right)
    assert r2(right) > r2(None) + 0.2
    assert r2(wrong) > r2(None) - 0.1


def test_what_is_known_of_a_checkpoint_is_its_log_rate(tiny: tuple[Generator, Path]) -> None:
    network, known = tiny[0].network, known_rate(replace(SHORT, init=str(tiny[1])))
    mean, sd = (torch.cat([getattr(network, f"{of}_{name}") for of in ("covariate", "pooled")]) for name in ("mean", "sd"))
    raw = mean + sd * torch.randn(5, len(known), generator=torch.Generator().manual_seed(0))
    standard = network.standardise(raw[:, : len(COVARIATES)], raw[:, len(COVARIATES) :])
    rate = network.encoder.state_and_rate(*standard, lambda: standard[0])[1].detach().double().numpy()
    assert np.diff(raw.double().numpy() @ known) == pytest.approx(np.diff(rate), abs=1e-4)


def test_evidence_finds_how_much_features_say() -> None:
    """Of 40 features of sd .15 it finds .15 within a third; of 40 that say nothing, next to nothing."""
    telling, phi = counts(2500, 40, 0.15, seed=2)
    fit = fit_first_stage(telling, 2)
    assert fit.prior_sd["features"] == pytest.approx(0.15, rel=0.35)
    assert np.corrcoef(fit.features, phi)[0, 1] > 0.9
    assert fit.size == pytest.approx(0.8, rel=0.2)
    assert fit.level[1] - fit.level[0] == pytest.approx(-0.7, abs=0.25)  # four standard errors
    silent, _ = counts(2500, 40, 0.0, seed=3)
    assert fit_first_stage(silent, 2).prior_sd["features"] < 0.03


def test_handful_of_patients_and_an_arm_without_events_have_a_fit() -> None:
    data, _ = counts(7, 60, 0.0, seed=4)
    fit = fit_first_stage(data, 3)
    assert np.isfinite(np.concatenate([fit.level, fit.columns, fit.features])).all()
    none = replace(data, counts=np.zeros(7))
    assert (fit_first_stage(none, 2).level < 0).all()


def test_folds_hold_everyone_once() -> None:
    rows = folds_of(np.array([0] * 31 + [1] * 12), 10, seed=1)
    assert sorted(np.concatenate(rows)) == list(range(43))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


@pytest.fixture(scope="module")
def head() -> tuple[torch.Tensor, torch.Tensor]:
    """A patient of the template's shape: white matter that brightens towards the ventricles, a bias field, two lesions."""
    anatomy = anatomy_of(mni_space("4mm"))
    planes = anatomy.planes
    shape = planes.shape[1:]
    brain = (planes[1] > 0.5) | (planes[2] > 0.3) | (planes[0] > 0.3)
    x = torch.linspace(-1, 1, shape[0])[:, None, None].expand(shape)
    rng = torch.Generator().manual_seed(0)
    signal = (
        0.5 * (planes[0] >= torch.exp(torch.tensor(-SHELL_ENDS[0] / 10)))
        + 0.3 * x
        + 0.2 * x * x
        + 0.01 * torch.randn(shape, generator=rng)
    )
    lesions = torch.zeros(shape)
    lesions[20:23, 30:33, 25:28] = 1
    lesions[10:12, 25:27, 25:27] = 1
    images = torch.stack([signal, signal, signal + 2 * lesions, signal]) * brain
    return images[None], torch.stack([brain.float(), lesions * brain, torch.zeros(shape)])[None]


def feature(values: torch.Tensor, name: str) -> float:
    return float(values[0, FEATURES.index(name)])


def test_features_see_shells_and_lesions_through_a_bias_field(head: tuple[torch.Tensor, torch.Tensor]) -> None:
    anatomy = anatomy_of(mni_space("4mm"))
    values = image_features(*head, anatomy)
    assert feature(values, "white_matter_FLAIR_to_5mm") == pytest.approx(0.5, abs=0.02)
    assert feature(values, "white_matter_FLAIR_to_10mm") == pytest.approx(0.0, abs=0.02)
    assert feature(values, "white_matter_FLAIR_sd") == pytest.approx(0.01, abs=0.003)
    assert feature(values, "lesion_FLAIR_level") - feature(values, "lesion_T2w_level") == pytest.approx(2.0, abs=1e-3)
    lesion = head[1][0, 1] > 0
    by_shell = sum(
        np.expm1(feature(values, f"lesion_volume_{part}")) for part in ("to_5mm", "to_10mm", "to_15mm", "to_25mm", "beyond")
    )
    assert by_shell / 10 == pytest.approx(float(lesion.sum()) * 0.064, rel=1e-4)


def test_features_of_what_is_missing_are_missing(head: tuple[torch.Tensor, torch.Tensor]) -> None:
    anatomy, (images, masks) = anatomy_of(mni_space("4mm")), head
    whole, blind = image_features(images, masks, anatomy), images.clone()
    blind[:, 0] = 0.0
    without = image_features(blind, masks, anatomy)
    gone = uses_image(("T1w",))
    assert torch.isnan(without[0, gone]).all()
    assert torch.equal(without[0, ~gone], whole[0, ~gone])
    assert {name for name, out in zip(FEATURES, gone, strict=True) if out} == {
        f for f in FEATURES if "_T1w_" in f or "enhancement" in f
    }


def test_a_patient_without_lesions_is_no_average_patient(head: tuple[torch.Tensor, torch.Tensor]) -> None:
    anatomy, (images, masks) = anatomy_of(mni_space("4mm")), head
    empty = torch.cat([masks[:, :1], 0 * masks[:, 1:]], dim=1)
    missing, drawn = (image_features(images, empty, anatomy, torch.tensor([traced])) for traced in (False, True))
    assert torch.equal(missing.isnan(), image_features(images, empty, anatomy).isnan())
    for name in ("lesion_volume_to_5mm", "lesion_volume_cortex", "lesion_compactness"):
        assert np.isnan(feature(missing, name))
        assert feature(drawn, name) == 0
    assert np.isnan(feature(drawn, "lesion_FLAIR_level"))


def test_the_network_reads_whether_lesions_were_drawn(trial: PhantomTrial) -> None:
    """Without a lesion a patient's expected count is lower than where nobody looked for lesions, if lesions raise it."""
    patient = patient_arrays(trial, "sub-0001")
    masks = patient.masks.copy()
    masks[1:] = False
    material = read_material(trial, SHORT, 0, 1, Processes())
    network = loop.new_network(MODEL, material, seed=0)
    Learned.of(network, material)
    with torch.no_grad():
        network.encoder.linear_rate.weight[0, len(COVARIATES) + FEATURES.index("lesion_volume_to_5mm")] = 0.3
    generator = Generator(network, MODEL, material.arms, material.weeks, LesionRule.default())
    free, unknown = (
        generator.encode_arrays(replace(patient, masks=masks, missing=missing)) for missing in ((), ("T2 lesion mask",))
    )
    assert float(free.rate) < float(unknown.rate) - 0.1


def test_the_network_says_what_the_first_stage_says(trial: PhantomTrial) -> None:
    material = read_material(trial, SHORT, 0, 1, Processes())
    network = loop.new_network(MODEL, material, seed=0)
    learned = Learned.of(network, material)
    data = learned.data(network)
    fit = fit_first_stage(data, len(material.arms))
    fit = replace(fit, modification=np.full_like(fit.modification, 0.2))
    write_first_stage(network, fit)
    index = torch.from_numpy(data.arm)
    weeks = torch.tensor([float(patient.last.week) for patient in material.patients])
    standard, features, state = (torch.from_numpy(part).float() for part in (data.columns, data.features, data.modifiers))
    _, rate = network.encoder.state_and_rate(standard, features, lambda: standard)
    with torch.no_grad():
        log_mean = network.risk.log_expected_count(rate, state, index, weeks)
    assert log_mean.numpy() == pytest.approx(fit.log_mean(data), abs=1e-4)


def test_a_simulated_trial_is_not_asked_whether_it_lies_in_place(trial: PhantomTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,000 phantom patients one fits the template better 5.4 mm away; no training shall end for it."""
    monkeypatch.setattr(position, "LARGEST_MOTION_HERE_MM", 0.0)
    assert patient_arrays(trial, "sub-0001").participant_id == "sub-0001"
    monkeypatch.setattr(type(trial.source), "made_in_place", False)
    with pytest.raises(RefusalError, match=r"fits the template better \d\.\d mm away"):
        patient_arrays(trial, "sub-0001")
