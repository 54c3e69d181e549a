"""Training writes whole checkpoints, resumes exactly and conditions only on what was observed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from causalms.errors import InputError, RefusalError, UsageError
from causalms.generator import Generator
from causalms.generator.checkpoint import write_checkpoint
from causalms.generator.configurations import config
from causalms.generator.network import Network
from causalms.generator.train import cross_fitting, loop, resume
from causalms.generator.train.augment import augment
from causalms.generator.train.data import training_set
from causalms.generator.train.distributed import Share
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial, simulate_trial
from causalms.shards import Skipped
from tests.generator.conftest import MODEL, SHORT


def test_training_writes_checkpoint_and_log_and_leaves_no_resume_file(tiny: tuple[Generator, Path]) -> None:
    generator, path = tiny
    assert sorted(file.name for file in path.parent.iterdir()) == ["tiny.safetensors", "tiny.training.csv"]
    log = pd.read_csv(path.with_suffix(".training.csv"))
    assert {"risk", "denoiser"} == set(log["stage"])
    assert np.isfinite(log["loss"]).all()
    assert generator.checksum


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["risk", "denoiser"])
def test_killed_training_resumes_to_the_same_weights(
    stage: str, trial: PhantomTrial, tiny: tuple[Generator, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "again.safetensors"
    saves = 0
    save = resume.save_run

    def kill_after_save(run: resume.Run, *rest: object) -> None:
        nonlocal saves
        save(run, *rest)  # type: ignore[arg-type]
        saves += run.stage == stage
        if saves == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_run", kill_after_save)
        with pytest.raises(KeyboardInterrupt):
            loop.train_generator(trial, path, MODEL, SHORT, seed=0)
    assert not path.exists()
    resumed = loop.train_generator(trial, path, MODEL, SHORT, seed=0)
    assert resumed.checksum == tiny[0].checksum


def test_model_without_denoiser_expects_counts_and_refuses_masks(trial: PhantomTrial, tmp_path: Path) -> None:
    recipe = replace(SHORT, denoiser_steps=0, mixed_precision=True)
    model = loop.train_generator(trial, tmp_path / "counts.safetensors", MODEL, recipe, seed=0)
    patient = trial.participants["participant_id"][0]
    scan = model.encode(trial, patient)
    assert model.expect(scan, "placebo", 96).lesions > 0
    with pytest.raises(RefusalError, match="trained for expected counts only"):
        model.sample(scan, "placebo", 96, model.noise(patient, 0, 0))


def test_a_run_killed_in_its_calibration_goes_on_there(
    trial: PhantomTrial, tiny: tuple[Generator, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, original, folds = tmp_path / "model.safetensors", cross_fitting.held_out, []

    def killed_in_the_second_fold(*arguments: object) -> object:
        folds.append(1)
        if len(folds) == 2:
            raise KeyboardInterrupt
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cross_fitting, "held_out", killed_in_the_second_fold)
    with pytest.raises(KeyboardInterrupt):
        loop.train_generator(trial, path, MODEL, SHORT, seed=0)
    assert len(list(path.with_name("model.safetensors.finishing").iterdir())) == 1
    monkeypatch.setattr(loop, "_optimise", None)  # no step is taken again
    resumed = loop.train_generator(trial, path, MODEL, SHORT, seed=0)
    assert len(folds) == SHORT.folds + 1  # the first fold was kept
    assert resumed.checksum == tiny[0].checksum
    assert resumed.digest == tiny[0].digest  # error model and summary too
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.safetensors", "model.training.csv"]


def test_the_calibration_is_inside_the_budget(
    trial: PhantomTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight patients are said to take a second: 16 take two of a minute, and the stages have what is left."""
    given: list[float | None] = []
    monkeypatch.setattr(loop, "_optimise", lambda run, stage, *rest: given.append(stage.budget_seconds))
    monkeypatch.setattr(loop, "held_out", lambda network, few, *rest: time.sleep(1))
    monkeypatch.setattr(loop, "_finish", lambda *rest: None)
    monkeypatch.setattr(loop.Generator, "load", lambda path: None)
    recipe = replace(SHORT, calibration_patients=0)
    loop.train_generator(trial, tmp_path / "model.safetensors", MODEL, recipe, seed=0, budget_minutes=1)
    risk, denoiser = (value for value in given if value is not None)
    assert risk / denoiser == pytest.approx(1.5)
    assert 45 < risk + denoiser < 58.1  # 60 less two seconds and the first stage's time
    assert "of 1 minutes are kept for error model and calibration" in capsys.readouterr().err


def test_resume_of_another_seed_or_other_images_is_refused(
    trial: PhantomTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save = resume.save_run

    def kill(run: resume.Run, *rest: object) -> None:
        save(run, *rest)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_run", kill)
        with pytest.raises(KeyboardInterrupt):
            loop.train_generator(trial, path, MODEL, SHORT, seed=0)
    with pytest.raises(InputError, match="left by a run with other data, recipe or seed"):
        loop.train_generator(trial, path, MODEL, SHORT, seed=1)
    other = simulate_trial("lifelike", patients=len(trial), seed=91)  # as many patients of the same arms, other images
    with pytest.raises(InputError, match="left by a run with other data, recipe or seed"):
        loop.train_generator(other, path, MODEL, SHORT, seed=0)
    assert path.with_suffix(".resume.safetensors").is_file()


@pytest.mark.parametrize(
    "entries",
    [{"step": None}, {"step": -1}, {"stage": "other"}, {"log": [1]}, {"elapsed": "x"}, {"fingerprint": 7}],
)
def test_a_resume_file_of_wrong_entries_is_named_with_the_mend(tmp_path: Path, entries: dict[str, object]) -> None:
    state = {"stage": "risk", "step": 1, "elapsed": 1.0, "log": [], "best_score": None, "fingerprint": "x y"}
    path = tmp_path / "model.resume.safetensors"
    write_checkpoint(path, {"network.a": torch.zeros(1)}, {"resume": state})
    resume.refuse_other_settings(path, "y")
    write_checkpoint(path, {"network.a": torch.zeros(1)}, {"resume": {**state, **entries}})
    with pytest.raises(InputError, match=f"entry '{next(iter(entries))}' of no interrupted run; remove the file"):
        resume.refuse_other_settings(path, "y")
    write_checkpoint(path, {"network.a": torch.zeros(1)}, {"arms": ["a"]})
    with pytest.raises(InputError, match="holds no interrupted run; remove it to start anew"):
        resume.refuse_other_settings(path, "y")


def test_a_readout_is_tuned_on_a_scan_encoded_as_before(
    trial: PhantomTrial, tiny: tuple[Generator, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {"flip": 0.5, "affine": 1.0, "bias_field": 0.1, "noise": 0.1, "contrast": 0.1, "ema": 0.9, "patience": 1}
    recipe = replace(SHORT, init=str(tiny[1]), tune="readout", denoiser_steps=2, **changed)
    tuned = loop.train_generator(trial, tmp_path / "tuned.safetensors", MODEL, recipe, seed=1)
    assert tuned.header["initialised_from"] == tiny[0].checksum
    before, after = tiny[0].network.state_dict(), tuned.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("risk.") for name in moved)
    assert not any(name.startswith(("denoiser.", "encoder.")) for name in moved - {"encoder.linear_rate.weight"})
    assert "training risk: step 2" in capsys.readouterr().err  # off a terminal, one line an entry
    with pytest.raises(UsageError, match="channels 16, denoiser_channels 0, denoiser_layers 2, this model 2mm, 64, 24, 4"):
        resume.start_from(tuned.network, config("base")[0], trial.arms, recipe)


def test_the_running_average_is_validated_and_the_weights_come_back() -> None:
    network = Network(MODEL, 2, 96.0)
    run = resume.Run(network, resume.optimiser_of(network, SHORT), step=1000)
    run.follow(0.75)
    network.risk.effect.data.fill_(4.0)
    run.follow(0.75)
    with run.averaged():
        assert network.risk.effect.tolist() == [1.0, 1.0]
    assert network.risk.effect.tolist() == [4.0, 4.0]
    run.log = [{"stage": "risk", "place_log_score": nats} for nats in (3.0, 2.0, 2.5, 2.4)]
    assert run.stale == 2


def test_where_no_validation_patient_has_a_lesion_the_last_weights_are_kept() -> None:
    network = Network(MODEL, 2, 96.0)
    run = resume.Run(network, resume.optimiser_of(network, SHORT))
    for step in (1.0, 2.0):
        network.risk.place_arm.data.fill_(step)
        loop._logged(run, 0.5, lambda: {"place_log_score": 0.0})
    assert float(run.best["risk.place_arm"].mean()) == 2.0
    assert run.stale == 0


def test_augmentation_moves_lesions_with_the_scan() -> None:
    """Mirrored: voxel by voxel what torch.flip gives; moved: a lesion's centre lies in its moved mask, up to a voxel."""
    random = torch.Generator().manual_seed(0)
    masks = torch.zeros(3, 3, 40, 48, 40)
    masks[:, 0, 4:36, 4:44, 4:36] = 1
    masks[:, 1, 10:15, 20:25, 30:35] = 1
    images = torch.randn(3, 4, 40, 48, 40) * masks[:, :1]
    owner, voxel = torch.tensor([0, 1, 2]), torch.full((3,), (12 * 48 + 22) * 40 + 32)
    share = Share.of_process(3)
    assert augment(images, masks, owner, voxel, SHORT, random, share)[0] is images
    flipped = [augment(images, masks, owner, voxel, replace(SHORT, flip=0.9), random, share) for _ in range(2)]
    images_, masks_, owner_, voxel_ = next(one for one in flipped if (one[3] != voxel).any())
    row = int(torch.nonzero(voxel_ != voxel)[0])
    assert torch.equal(masks_[row], masks[row].flip(1))
    assert torch.allclose(images_[row], images[row].flip(1).clamp(-6, 6), atol=1e-4)
    assert int(voxel_[row]) == ((39 - 12) * 48 + 22) * 40 + 32
    _, masks_, owner_, voxel_ = augment(images, masks, owner, voxel, replace(SHORT, affine=3.0), random, share)
    assert len(owner_) == 3
    assert (voxel_ != voxel).any()
    assert (masks_[:, 1].flatten(1)[owner_, voxel_] == 1).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {grid: 5mm}", "no grid is called '5mm'; choose one of 4mm, 3mm, 2mm, 1mm"),
        ("sizes: {}", "no entry is called 'sizes' at the top; write base, model, training"),
        ("channels: 8", "no entry is called 'channels' at the top; write it under model:"),
        ("risk_steps: 8", "no entry is called 'risk_steps' at the top; write it under training:"),
        ("training: {risk_stepz: 3}", "training has no entry 'risk_stepz'; did you mean 'risk_steps'?"),
        ("training: {risk_steps: 1.5}", "training: risk_steps is 1.5; give a whole number"),
        ("training: {flip: 2}", "`flip` is 2; give 0 to 0.95"),
        ("training: {tune: readout}", "`tune=readout` keeps an encoder that was trained before"),
        ("model: {channels: 0}", "of no model; correct them"),
        ("base: huge", "no configuration is called 'huge'"),
    ],
)
def test_a_configuration_file_names_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        config(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert words in str(refused.value)


def test_a_configuration_file_sets_sizes_and_recipe_and_kernels_keep_their_millimetres(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: tiny\nmodel: {grid: 2mm, channels: 8}\ntraining: {ema: 0.999, learning_rate: 1}\n")
    model, recipe = config(file)
    assert model == replace(config("tiny")[0], name="mine", grid="2mm", channels=8)
    assert recipe == replace(config("tiny")[1], ema=0.999, learning_rate=1)
    network = Network(model, 2, 96.0)
    assert network.denoiser.log_kernel.shape[2:] == (9, 9, 9)  # 8 mm to each side, as 5 voxels of 4 mm
    assert network.encoder.mid.dilation == (2, 2, 2)
    intensity = torch.zeros(1, 1, 20, 20, 20)
    assert network.denoiser(intensity, torch.ones(1), network.denoiser.prior_logit(intensity)).shape == intensity.shape


def test_who_cannot_be_learned_from_is_counted_and_bad_files_are_left_out(
    trial: PhantomTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = trial.subset(list(trial.participants["participant_id"][:3]))
    people = few.participants.copy()
    people.loc[0, "arm"] = None
    with pytest.raises(InputError, match=r"2 of 3 patients have .* at least 4; 1 have no arm"):
        training_set(replace(few, participants=people), LesionRule.default())
    unarmed = replace(few, participants=people.assign(arm=None), weeks=())
    with pytest.raises(InputError, match=r"3 have no arm .*; nobody has a NET2 mask at any follow-up"):
        training_set(unarmed, LesionRule.default())
    with pytest.raises(InputError, match=r"0 of 3 patients .*; 3 have an arm and no NET2 mask at any follow-up"):
        training_set(replace(few, weeks=()), LesionRule.default())
    image = type(trial.source).image

    def broken(self: object, participant_id: str, modality: str) -> object:
        if participant_id == few.participants["participant_id"][1]:
            raise InputError("cut short")
        return image(self, participant_id, modality)  # type: ignore[arg-type]

    monkeypatch.setattr(type(trial.source), "image", broken)
    skipped: list[Skipped] = []
    assert len(training_set(few, LesionRule.default(), least=1, skipped=skipped)) == 2
    assert skipped == [Skipped(few.participants["participant_id"][1], "cut short")]


def test_a_model_from_before_the_first_stage_is_no_longer_trained(trial: PhantomTrial, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no first stage of counts"):
        loop.train_generator(trial, tmp_path / "old.safetensors", replace(MODEL, first_stage=False), SHORT, seed=0)
