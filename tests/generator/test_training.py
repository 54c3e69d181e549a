"""Training writes whole checkpoints, resumes exactly and conditions only on what was observed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from causalms.errors import InputError, RefusalError
from causalms.generator import Generator
from causalms.generator.checkpoint import write_checkpoint
from causalms.generator.train import loop, resume
from causalms.generator.train.risk import negative_binomial_log_likelihood
from causalms.phantom import PhantomTrial, simulate_trial
from causalms.stats import NegativeBinomialLaw
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
    other = simulate_trial("pooled", patients=len(trial), seed=91)  # as many patients of the same arms, other images
    with pytest.raises(InputError, match="left by a run with other data, recipe or seed"):
        loop.train_generator(other, path, MODEL, SHORT, seed=0)
    assert path.with_suffix(".resume.safetensors").is_file()


@pytest.mark.parametrize(
    "entries",
    [{"step": None}, {"step": -1}, {"stage": "other"}, {"levels": []}, {"log": [1]}, {"elapsed": "x"}, {"fingerprint": 7}],
)
def test_a_resume_file_of_wrong_entries_is_named_with_the_mend(tmp_path: Path, entries: dict[str, object]) -> None:
    state = {"stage": "risk", "step": 1, "elapsed": 1.0, "log": [], "best_score": None, "levels": {}, "fingerprint": "x y"}
    path = tmp_path / "model.resume.safetensors"
    write_checkpoint(path, {"network.a": torch.zeros(1)}, {"resume": state})
    resume.refuse_other_settings(path, "y")
    write_checkpoint(path, {"network.a": torch.zeros(1)}, {"resume": {**state, **entries}})
    with pytest.raises(InputError, match=f"entry '{next(iter(entries))}' of no interrupted run; remove the file"):
        resume.refuse_other_settings(path, "y")
    write_checkpoint(path, {"network.a": torch.zeros(1)}, {"arms": ["a"]})
    with pytest.raises(InputError, match="holds no interrupted run; remove it to start anew"):
        resume.refuse_other_settings(path, "y")


def test_negative_binomial_likelihood_matches_scipy() -> None:
    count, mean, size = np.array([0.0, 3.0, 40.0]), np.array([0.5, 2.0, 17.0]), np.array([0.5, 0.3, 5.0])
    log_likelihood = negative_binomial_log_likelihood(torch.tensor(count), torch.log(torch.tensor(mean)), torch.tensor(size))
    assert np.allclose(log_likelihood.numpy(), stats.nbinom.logpmf(count, size, size / (size + mean)), rtol=1e-9)
    assert np.allclose(log_likelihood.numpy(), np.log(NegativeBinomialLaw(mean, size).pmf(count)), rtol=1e-9)


def test_predicted_arm_means_equal_the_observed_ones_of_the_training_trial(trial: PhantomTrial, tmp_path: Path) -> None:
    nobody_out = replace(SHORT, denoiser_steps=0, held_out_share=0.0)
    generator = loop.train_generator(trial, tmp_path / "all.safetensors", MODEL, nobody_out, seed=0)
    people = trial.participants
    last = people[["net2_lesions_week24", "net2_lesions_week48", "net2_lesions_week96"]].notna().sum(axis=1)
    for arm, rows in people.groupby("arm"):
        observed = predicted = 0.0
        for row in rows.itertuples():
            week = (24, 48, 96)[last[row.Index] - 1]
            observed += people.loc[row.Index, f"net2_lesions_week{week}"]
            predicted += generator.expect(generator.encode(trial, row.participant_id), arm, week).lesions
        if observed > 0:
            # Equal up to the weak prior on the level and the half precision of the weights.
            assert predicted == pytest.approx(observed, rel=0.02)
