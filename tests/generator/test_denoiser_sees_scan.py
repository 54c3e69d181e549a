"""What the denoiser sees of the scan: once a patient, zero where a modality is missing, nothing where it is of an older model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from causalms.errors import UsageError
from causalms.generator import Generator
from causalms.generator.inputs import anatomy_of, patient_arrays, stack, touching
from causalms.generator.network import Denoiser, Network, Places
from causalms.generator.train import loop, resume
from causalms.generator.train.denoiser import seen_scans
from causalms.phantom import PhantomTrial
from tests.generator.conftest import MODEL, SHORT

BLIND, SEEING = (replace(MODEL, denoiser_sees_scan=sees) for sees in (False, True))


@pytest.fixture(scope="module")
def seeing(trial: PhantomTrial, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return loop.train_generator(trial, tmp_path_factory.mktemp("seeing") / "seeing.safetensors", SEEING, SHORT, seed=0)


@pytest.fixture(scope="module")
def blind(trial: PhantomTrial, tmp_path_factory: pytest.TempPathFactory) -> tuple[Generator, Path]:
    path = tmp_path_factory.mktemp("blind") / "blind.safetensors"
    return loop.train_generator(trial, path, BLIND, SHORT, seed=0), path


def test_the_rim_touches_the_mask_and_lies_outside_it() -> None:
    mask = torch.zeros(1, 1, 5, 5, 5)
    mask[0, 0, 2, 2, 2] = 1
    rim = touching(mask)
    assert float(rim.sum()) == 26
    assert float((rim * mask).sum()) == 0


def test_planes_of_a_missing_modality_are_zero(trial: PhantomTrial) -> None:
    network = Network(SEEING, 2, 96.0).eval()
    images, masks, _ = stack([patient_arrays(trial, "sub-0001")], torch.device("cpu"))
    images[:, 2] = 0
    with torch.no_grad():
        planes = Places(network.encoder, images, masks, anatomy_of(trial.space).planes).scan_planes()
    assert planes.shape[1] == 16 + SEEING.channels
    assert float(planes[:, 2].abs().max()) == 0 < float(planes[:, 1].abs().max())
    assert torch.equal(planes[:, 15:16], touching(masks[:, 1:2]) * masks[:, :1])


def test_one_pass_over_the_scan_serves_every_arm_and_draw(
    seeing: Generator, trial: PhantomTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, looks = seeing, []
    see = Denoiser.see
    monkeypatch.setattr(Denoiser, "see", lambda self, planes: looks.append(1) or see(self, planes))
    scan = generator.encode(trial, "sub-0002")
    generator.expect(scan, "placebo", 48)
    assert not looks  # an expectation needs no look
    for arm in generator.arms[:2]:
        for draw in range(2):
            generator.sample(scan, arm, 48, generator.noise("sub-0002", draw, 0))
    assert len(looks) == 1


def test_masks_depend_on_what_is_seen(seeing: Generator, trial: PhantomTrial) -> None:
    """With odds that fall by e^30 inside baseline lesions no lesion is sampled there."""
    generator, network = seeing, Network(SEEING, len(seeing.arms), 96.0)
    network.load_state_dict(seeing.network.state_dict())
    look = network.denoiser.look
    assert look is not None
    with torch.no_grad():
        network.risk.intercept.fill_(4.0)
        for parameter in [*look.parameters(), *network.denoiser.convs.parameters(), *network.denoiser.head.parameters()]:
            parameter.zero_()
        look.weight[0, 6] = 1.0  # the T2 lesions
        network.denoiser.convs[0].weight[0, 4, 1, 1, 1] = 30.0
        network.denoiser.head.weight[0, 0] = -1.0
    changed = Generator(network, generator.config, generator.arms, generator.weeks, generator.rule)
    lesions = 0
    for name in ("sub-0001", "sub-0002", "sub-0003"):
        t2 = trial.mask(name, "T2")
        mask = changed.sample(changed.encode(trial, name), "placebo", 96, changed.noise(name, 0, 0))
        assert t2 is not None
        assert not (mask & t2).any()
        lesions += changed.count(mask)
    assert lesions > 0


def test_the_second_stage_teaches_the_look_and_leaves_the_encoder(trial: PhantomTrial) -> None:
    network = Network(SEEING, 2, 96.0)
    seen = seen_scans(network, [patient_arrays(trial, "sub-0001")], anatomy_of(trial.space))
    assert seen is not None
    assert seen.shape[1] == SEEING.channels - 4
    seen.sum().backward()
    assert {name for name, parameter in network.named_parameters() if parameter.grad is not None} == {
        "denoiser.look.weight",
        "denoiser.look.bias",
    }
    assert seen_scans(Network(BLIND, 2, 96.0), [patient_arrays(trial, "sub-0001")], anatomy_of(trial.space)) is None


def test_a_denoiser_that_sees_the_scan_starts_from_one_that_does_not(blind: tuple[Generator, Path], trial: PhantomTrial) -> None:
    recipe = replace(SHORT, init=str(blind[1]))
    network = Network(SEEING, len(blind[0].arms), 96.0)
    resume.start_from(network, SEEING, blind[0].arms, recipe)
    x, prior = torch.randn(1, 1, 8, 8, 8), torch.full((1, 1, 8, 8, 8), -4.0)
    seen = network.denoiser.see(torch.randn(1, 16 + SEEING.channels, 8, 8, 8))
    before = blind[0].network.denoiser(x, torch.ones(1), prior)
    torch.testing.assert_close(network.denoiser(x, torch.ones(1), prior, seen), before)
    back = replace(recipe, init=str(blind[1].with_name("seeing.safetensors")))
    Generator(network, SEEING, blind[0].arms, (24.0, 96.0), blind[0].rule).save(back.init)
    with pytest.raises(UsageError, match="denoiser_sees_scan True"):
        resume.start_from(Network(BLIND, len(blind[0].arms), 96.0), BLIND, blind[0].arms, back)


def test_an_older_checkpoint_has_a_denoiser_without_a_look(blind: tuple[Generator, Path], trial: PhantomTrial) -> None:
    assert not any("look" in name for name in blind[0].network.state_dict())
    scan = blind[0].encode(trial, "sub-0001")
    assert scan.encoded.seen is None
    assert blind[0].sample(scan, "placebo", 48, blind[0].noise("sub-0001", 0, 0)).dtype == np.bool_
    assert Generator.load("reference").config.denoiser_sees_scan is False


def test_too_few_channels_for_the_scan_are_refused() -> None:
    with pytest.raises(UsageError, match="`channels` is 4, and the noisy mask fills 4"):
        replace(SEEING, channels=4)
