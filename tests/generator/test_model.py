"""What a generator promises, whatever it has learned: one law by expectation and by sampling, noise that no batch changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import causalms.generator.sampling
from causalms.causal import CausalModel
from causalms.causal.mechanisms.diffusion import DiffusionMechanism
from causalms.errors import InputError, RefusalError, UsageError
from causalms.generator import SAMPLERS, DiffusionNoise, Generator, MapFolder, forecast_patient, sample_across
from causalms.generator.checkpoint import read_checkpoint, write_checkpoint
from causalms.generator.sampling import Denoise, Sampler
from causalms.phantom import PhantomTrial, simulate_trial

Tiny = tuple[Generator, Path]


def test_scan_is_encoded_once_for_all_arms(tiny: Tiny, trial: PhantomTrial) -> None:
    generator = tiny[0]
    scan = generator.encode(trial, "sub-0001")
    before = [part.clone() for part in (scan.encoded.features, scan.encoded.state)]
    for arm in generator.arms:
        generator.expect(scan, arm, 48)
    after = (scan.encoded.features, scan.encoded.state)
    assert not {"volume", "low"} & set(vars(scan.encoded))  # they would double what a scan holds
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_patient_has_the_same_bits_alone_and_in_a_batch(tiny: Tiny) -> None:
    encoder = tiny[0].network.encoder
    volumes = torch.randn(3, 16, 40, 48, 40, generator=torch.Generator().manual_seed(1))
    volumes = volumes.contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        together = encoder.coarse(volumes)
        assert all(torch.equal(together[k], encoder.coarse(volumes[k : k + 1])[0]) for k in range(3))
    alone = encoder.coarse(volumes[:1])  # with gradients torch chooses its own convolution
    torch.testing.assert_close(alone[0], together[0], rtol=1e-5, atol=1e-5)


def test_expectation_is_a_negative_binomial_law(tiny: Tiny, trial: PhantomTrial) -> None:
    generator = tiny[0]
    expected = generator.expect(generator.encode(trial, "sub-0002"), "placebo", 96, risk=True)
    size = 1 / expected.dispersion
    assert expected.activity_probability == pytest.approx(1 - (size / (size + expected.lesions)) ** size)
    assert expected.risk is not None
    assert expected.risk.shape == trial.space.shape
    assert 0 <= expected.risk.min() <= expected.risk.max() <= 1
    # The map's volume is the expected one, or less where lesions that overlap would be counted twice.
    assert expected.risk.sum() * trial.space.voxel_volume_mm3 / 1000 <= expected.volume_ml * (1 + 1e-4)


def test_expected_count_grows_with_the_week(tiny: Tiny, trial: PhantomTrial) -> None:
    generator = tiny[0]
    scan = generator.encode(trial, "sub-0001")
    counts = [generator.expect(scan, "placebo", week).lesions for week in (24, 36, 48, 72, 96)]
    assert counts == sorted(counts)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_masks_are_the_same_bits_for_any_order_and_number_of_threads(tiny: Tiny, trial: PhantomTrial, sampler: Sampler) -> None:
    """A mask is sampled alone, so there is no batch it could depend on; features and risks are compared too, bit by bit."""
    generator = tiny[0]

    def bits(participant_id: str, draw: int) -> list[np.ndarray]:
        scan, noise = generator.encode(trial, participant_id), generator.noise(participant_id, draw, 5)
        risk = generator.expect(scan, "placebo", 96, risk=True).risk
        assert risk is not None
        return [generator.sample(scan, "placebo", 96, noise, sampler), risk, scan.encoded.features.numpy(), scan.rate.numpy()]

    keys = [("sub-0003", 1), ("sub-0004", 0), ("sub-0003", 2)]
    forwards = {key: bits(*key) for key in keys}
    torch.set_num_threads(2)
    backwards = {key: bits(*key) for key in reversed(keys)}
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    for key in keys:
        assert all(np.array_equal(one, other) for one, other in zip(forwards[key], backwards[key], strict=True))


@pytest.mark.parametrize("sampler", ["ode", "ancestral"])
def test_masks_of_several_patients_arms_weeks_and_draws_come_at_once(tiny: Tiny, trial: PhantomTrial, sampler: Sampler) -> None:
    """On a CPU in turn, to the same bits; in batches, as on a GPU, to rounding: a voxel at P = 1/2 may fall either way."""
    generator = tiny[0]
    asked = [
        (scan, arm, week, generator.noise(scan.participant_id, draw, 5))
        for scan in (generator.encode(trial, name) for name in ("sub-0003", "sub-0004"))
        for arm, week in ((generator.arms[0], 48), (generator.arms[1], 96))
        for draw in (0, 1)
    ]
    alone = [generator.sample(*one, sampler) for one in asked]
    assert all(map(np.array_equal, sample_across(generator, asked, sampler), alone))
    batched = sample_across(generator, iter(asked), sampler, at_once=3)
    assert all((one != other).sum() <= 2 for one, other in zip(batched, alone, strict=True))


def test_ancestral_abduction_gives_back_the_factual_mask(tiny: Tiny, trial: PhantomTrial) -> None:
    generator = tiny[0]
    people = trial.participants
    seen = people[people["net2_lesions_week24"] > 0].iloc[0]
    mask = trial.mask(seen["participant_id"], "NET2", 24)
    assert mask is not None
    scan = generator.encode(trial, seen["participant_id"])
    noise = generator.abduct(scan, seen["arm"], 24, mask, draw=0, seed=0)
    assert noise.residual == 0
    assert np.array_equal(generator.sample(scan, seen["arm"], 24, noise.noise, "ancestral"), mask)


def test_sampler_intensity_inverts_the_fitted_curve(tiny: Tiny) -> None:
    generator = tiny[0]
    a, b, c, low, high = generator.network.count_calibration[0].tolist()
    for log_count in np.linspace(low, high, 5):
        log_mu = np.log(generator.sampler_intensity(float(np.exp(log_count)), "ode"))
        assert a + b * log_mu + c * log_mu**2 == pytest.approx(log_count, abs=1e-4)


def test_refusals_name_the_reason_and_the_mend(tiny: Tiny, trial: PhantomTrial) -> None:
    generator = tiny[0]
    scan = generator.encode(trial, "sub-0001")
    with pytest.raises(RefusalError, match="knows no arm 'aspirin'; it was trained on"):
        generator.expect(scan, "aspirin", 48)
    with pytest.raises(RefusalError, match=r"knows no arm 'placeb'; it was trained on .*; did you mean 'placebo'"):
        generator.expect(scan, "placeb", 48)
    with pytest.raises(RefusalError, match="week 200 is outside the trained range 24-96"):
        generator.expect(scan, "placebo", 200)
    with pytest.raises(UsageError, match="no sampler is called 'magic'"):
        generator.sample(scan, "placebo", 48, generator.noise("sub-0001", 0, 0), "magic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="resample them explicitly"):
        generator.encode(simulate_trial("lifelike", patients=4, seed=1, grid="3mm"), "sub-0001")


def test_checkpoint_round_trip_gives_the_same_numbers(tiny: Tiny, trial: PhantomTrial) -> None:
    generator, path = tiny
    again = Generator.load(path)
    one, two = (g.expect(g.encode(trial, "sub-0001"), "placebo", 96).lesions for g in (generator, again))
    assert one == two


def test_damaged_checkpoints_are_refused_in_one_line(tiny: Tiny, tmp_path: Path) -> None:
    _, path = tiny
    good = read_checkpoint(path)
    header = {key: value for key, value in good.header.items() if key not in ("checksum", "schema_version")}
    extra = tmp_path / "extra.safetensors"
    write_checkpoint(extra, {**good.tensors, "stray": torch.zeros(2)}, header)
    with pytest.raises(InputError, match="extra tensor 'stray'"):
        Generator.load(extra)
    missing = tmp_path / "missing.safetensors"
    write_checkpoint(missing, {k: v for k, v in good.tensors.items() if k != "risk.effect"}, header)
    with pytest.raises(InputError, match=r"tensor 'risk\.effect' is missing"):
        Generator.load(missing)
    half = tmp_path / "half.safetensors"
    half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="not a readable safetensors checkpoint"):
        Generator.load(half)
    flipped = tmp_path / "flipped.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    flipped.write_bytes(bytes(content))
    with pytest.raises(InputError, match="the file is damaged"):
        Generator.load(flipped)
    older = tmp_path / "older.safetensors"
    write_checkpoint(older, good.tensors, {**header, "schema_version": 0})
    with pytest.raises(InputError, match="checkpoint schema 0, this version reads"):
        Generator.load(older)
    with pytest.raises(InputError, match="no such checkpoint"):
        Generator.load(tmp_path / "nowhere.safetensors")


def test_forecast_of_a_patient_on_another_grid_comes_back_on_it(tiny: Tiny, tmp_path: Path) -> None:
    fine = simulate_trial("lifelike", patients=4, seed=1, grid="3mm")
    forecast = forecast_patient(
        tiny[0], fine, "sub-0001", ["placebo", "ocrelizumab"], 48, draws=1, maps=MapFolder(tmp_path, masks=True)
    )
    assert forecast.risks["placebo"].shape == fine.space.shape
    assert any("resampled from" in note for note in forecast.notes)
    assert len(list(tmp_path.glob("*_mask.nii.gz"))) == 2
    assert list(forecast.table["arm"]) == ["placebo", "ocrelizumab"]


def test_a_query_fills_its_batches_from_several_patients(
    tiny: Tiny, trial: PhantomTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: six patients, two arms and one draw make three batches of four; masks are those of one by one to rounding."""
    model, sizes = CausalModel(DiffusionMechanism(tiny[0])), []
    people = trial.subset([f"sub-{number:04d}" for number in range(1, 7)])
    alone = model.do(people, list(tiny[0].arms[:2]), 48, draws=1)
    sample = causalms.generator.sampling.sampled_masks

    def counted(denoise: Denoise, noises: Sequence[DiffusionNoise], *more: Any) -> np.ndarray:
        sizes.append(len(noises))
        return sample(denoise, noises, *more)

    for place in ("causalms.generator.batched", "causalms.causal.mechanisms.diffusion"):
        monkeypatch.setattr(f"{place}.masks_at_once", lambda generator: 4)
    monkeypatch.setattr(causalms.generator.sampling, "sampled_masks", counted)
    batched = model.do(people, list(tiny[0].arms[:2]), 48, draws=1)
    assert sizes == [4, 4, 4]
    changed = (batched["net2_volume_ml"] - alone["net2_volume_ml"]).abs() / tiny[0].space.voxel_volume_mm3 * 1000
    assert changed.max() <= 2.5
    assert (batched["participant_id"] == alone["participant_id"]).all()
