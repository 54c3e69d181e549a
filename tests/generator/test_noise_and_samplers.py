"""Facts about the exogenous noise and the samplers that hold whatever the network has learned."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from causalms.generator import sampling
from causalms.generator.noise import draw_noise, frailty_from_normal, normal_from_frailty, sigma_ladder

SHAPE = (6, 7, 8)


def test_noise_depends_on_patient_draw_and_seed_alone() -> None:
    one, again = draw_noise("sub-1", 3, 7, SHAPE), draw_noise("sub-1", 3, 7, SHAPE)
    assert one.frailty_normal == again.frailty_normal
    assert np.array_equal(one.field, again.field)
    assert np.array_equal(one.step_noise(2, SHAPE), again.step_noise(2, SHAPE))
    for other in (draw_noise("sub-2", 3, 7, SHAPE), draw_noise("sub-1", 4, 7, SHAPE), draw_noise("sub-1", 3, 8, SHAPE)):
        assert not np.array_equal(one.field, other.field)


def test_noise_is_standard_normal() -> None:
    values = np.concatenate([draw_noise("sub-1", draw, 0, (20, 20, 20)).field.ravel() for draw in range(10)])
    # 80,000 values: the standard error of the mean is 0.0035, of the standard deviation 0.0025; four of each.
    assert abs(values.mean()) < 0.014
    assert abs(values.std() - 1) < 0.01


def test_mixture_of_noises_is_standard_normal_and_ends_at_either() -> None:
    one, other = draw_noise("a", 0, 0, (30, 30, 30)), draw_noise("a", 1, 0, (30, 30, 30))
    assert np.allclose(one.mix(other, 1.0).field, one.field)
    assert np.allclose(one.mix(other, 0.0).field, other.field)
    mixed = one.mix(other, 0.6)
    assert abs(mixed.field.std() - 1) < 0.02  # 27,000 values: standard error 0.0043
    assert np.corrcoef(mixed.field.ravel(), one.field.ravel())[0, 1] == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("size", [0.3, 0.5, 2.0])
def test_frailty_has_mean_one_and_variance_one_over_size(size: float) -> None:
    z = np.random.default_rng(0).standard_normal(200_000)
    frailty = frailty_from_normal(z, size)
    # Standard error of the mean is sqrt(1 / size / n), below 0.005; the variance of a gamma of size 0.3 is known to about 2%.
    assert frailty.mean() == pytest.approx(1, abs=0.02)
    assert frailty.var() == pytest.approx(1 / size, rel=0.08)
    inside = np.abs(z) < 3
    assert np.allclose(normal_from_frailty(frailty[inside], size), z[inside], atol=1e-6)


def test_ladder_falls_from_sigma_max_to_sigma_min() -> None:
    sigmas = sigma_ladder(0.2, 8.0, 12)
    assert sigmas[0] == pytest.approx(8.0)
    assert sigmas[-1] == pytest.approx(0.2)
    assert (np.diff(sigmas) < 0).all()


def _independent_voxels(risk: float) -> sampling.Denoise:
    """The exact denoiser of voxels that are lesion with probability ``risk``, independently."""
    logit = float(np.log(risk / (1 - risk)))
    return lambda x, sigma: torch.sigmoid(logit + 2 * x / sigma**2)


@pytest.mark.parametrize("kind", ["ode", "ode-2m", "ancestral"])
def test_samplers_return_the_prevalence_of_an_exact_denoiser(kind: str) -> None:
    risk, sigmas = 0.05, sigma_ladder(0.1, 8.0, 60)
    noise = draw_noise("p", 0, 0, (40, 40, 40))
    start = (2 * risk - 1) + 8.0 * torch.from_numpy(noise.field)
    denoise = _independent_voxels(risk)
    if kind == "ode":
        sample = sampling.ode_first_order(denoise, start, sigmas)
    elif kind == "ode-2m":
        sample = sampling.ode_second_order(denoise, start, sigmas)
    else:
        sample = sampling.ancestral(denoise, start, sigmas, lambda i: torch.from_numpy(noise.step_noise(i, (40, 40, 40))))
    # 64,000 voxels: standard error 0.0009. Sixty steps leave a discretisation error of a few percent, smaller at second order.
    assert float((sample > 0.5).float().mean()) == pytest.approx(risk, abs=0.008)


def test_ancestral_abduction_replays_the_mask_exactly_at_few_steps() -> None:
    denoise, sigmas = _independent_voxels(0.1), sigma_ladder(0.2, 8.0, 6)
    clean = torch.from_numpy(np.where(np.random.default_rng(1).random(SHAPE) < 0.1, 1.0, -1.0).astype(np.float32))
    fields = np.random.default_rng(2).standard_normal((7, *SHAPE)).astype(np.float32)
    start, noises = sampling.abduct_ancestral(denoise, clean, sigmas, fields)
    replayed = sampling.ancestral(denoise, start, sigmas, lambda i: noises[i])
    assert torch.equal(replayed > 0.5, clean > 0)


def test_inverted_ode_replays_the_end_of_its_path() -> None:
    denoise, sigmas = _independent_voxels(0.1), sigma_ladder(0.4, 8.0, 40)
    start = -0.8 + 8.0 * torch.from_numpy(draw_noise("q", 0, 0, SHAPE).field)
    x = start
    for here, there in itertools.pairwise(sigmas):
        ratio = float(there / here)
        x = ratio * x + (1 - ratio) * (2 * denoise(x, float(here)) - 1)
    inverted, worst = sampling.invert_ode(denoise, x, sigmas, iterations=60)
    assert worst < 1e-3
    assert torch.equal(
        sampling.ode_first_order(denoise, inverted, sigmas) > 0.5, sampling.ode_first_order(denoise, start, sigmas) > 0.5
    )
