"""Patients who lack inputs are forecast with what was learned by taking these inputs from others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from causalms.errors import InputError
from causalms.generator import Generator
from causalms.generator.error_of_counts import words_of_lacking
from causalms.generator.inputs import PatientArrays, anatomy_of, patient_arrays
from causalms.generator.train.data import training_set
from causalms.generator.train.lacking import PATTERNS, expected_without, fit_patterns
from causalms.phantom import PhantomTrial
from causalms.stats import LackingInputs
from causalms.stats.lacking_inputs import read_lacking
from causalms.trials import MODALITIES, mni_space, template_anatomy

FLAIR = LackingInputs(("FLAIR",), 0.3, -0.1, -0.7, 0.2, 400)
ALL_COLUMNS = PATTERNS[17]


@pytest.fixture(scope="module")
def corrected(tiny: tuple[Generator, Path], tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """The tiny model, written and read again with one correction."""
    model = Generator.load(tiny[1])
    assert model.error_model is not None
    model.error_model = replace(model.error_model, lacking=(FLAIR,))
    path = tmp_path_factory.mktemp("lacking") / "corrected.safetensors"
    checksum = model.save(path)
    read = Generator.load(path)
    assert read.checksum == checksum == tiny[0].checksum  # the network keeps its name
    return read


@pytest.fixture(scope="module")
def blind(trial: PhantomTrial) -> PatientArrays:
    whole = patient_arrays(trial, next(p for p in trial.participants["participant_id"] if not patient_arrays(trial, p).missing))
    images = whole.images.copy()
    images[MODALITIES.index("FLAIR")] = 0
    return replace(whole, images=images, missing=("FLAIR",))


@pytest.fixture(scope="module")
def few_blind(trial: PhantomTrial) -> list[PatientArrays]:
    """Patients of whom only FLAIR is left."""
    alone = []
    for name in trial.participants["participant_id"][:6]:
        whole = patient_arrays(trial, name)
        images = np.where(np.arange(4)[:, None, None, None] == MODALITIES.index("FLAIR"), whole.images, 0)
        masks = np.stack([whole.masks[0], *np.zeros_like(whole.masks[1:])])
        lost = ("T1w", "T2w", "ceT1w", "T2 lesion mask", "Gd lesion mask")
        alone.append(replace(whole, images=images, masks=masks, missing=lost))
    return alone


def test_mean_and_width_of_a_patient_without_flair_are_corrected(
    tiny: tuple[Generator, Path], corrected: Generator, blind: PatientArrays
) -> None:
    plain, model = tiny[0], corrected.error_model
    assert model is not None
    assert model.lacking[0].names == ("FLAIR",)
    scans = plain.encode_arrays(blind), corrected.encode_arrays(blind)
    before, after = (each.expect(scan, "placebo", 48) for each, scan in zip((plain, corrected), scans, strict=True))
    average = np.mean([np.log(plain.expect(scans[0], arm, plain.weeks[1]).lesions) for arm in plain.arms])
    assert np.log(after.lesions / before.lesions) == pytest.approx(0.3 - 0.1 * (average - model.centre), abs=1e-5)
    assert after.dispersion / before.dispersion == pytest.approx(np.exp(0.7), rel=1e-5)
    errors = [each.model_error(scan, "placebo", 48) for each, scan in zip((plain, corrected), scans, strict=True)]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[1].log_mean[-1] == pytest.approx(np.hypot(errors[0].log_mean[-1], 0.2))


def test_a_patient_who_lacks_nothing_is_forecast_as_before(
    tiny: tuple[Generator, Path], corrected: Generator, trial: PhantomTrial, blind: PatientArrays
) -> None:
    whole = patient_arrays(trial, blind.participant_id)
    one, other = (each.expect(each.encode_arrays(whole), "placebo", 48) for each in (tiny[0], corrected))
    assert (one.lesions, one.dispersion) == (other.lesions, other.dispersion)


def test_what_was_done_is_said(tiny: tuple[Generator, Path], corrected: Generator) -> None:
    learned = "mean and width corrected as learned from 400 patients without"
    assert words_of_lacking(corrected, ("FLAIR",)) == f"{learned} the same"
    assert words_of_lacking(corrected, ("T2w",)) == f"{learned} FLAIR (the nearest pattern)"
    assert "not widened for it: the checkpoint has learned no correction" in words_of_lacking(tiny[0], ("FLAIR",))
    assert words_of_lacking(corrected, ("brain mask",)) == ""


def test_inputs_are_taken_as_encoding_takes_missing_ones(
    tiny: tuple[Generator, Path], trial: PhantomTrial, blind: PatientArrays
) -> None:
    model = tiny[0]
    people = [p for p in training_set(trial, model.rule) if p.arrays.participant_id == blind.participant_id]
    without = expected_without(model.network, people, len(model.arms), anatomy_of(trial.space))
    week, number = float(people[0].last.week), 1 + PATTERNS.index(("FLAIR",))
    expected = model.expect(model.encode_arrays(blind), "placebo", week).lesions
    assert np.exp(without[number, 0, model.arms.index("placebo")]) == pytest.approx(expected, rel=1e-4)
    assert len(set(np.round(without[:, 0, 0], 6))) > 10


def test_corrections_are_learned_where_they_are_needed_and_few_patients_teach_none(tiny: tuple[Generator, Path]) -> None:
    """Forecasts without columns are off by a factor of two; all others are right."""
    model = tiny[0].error_model
    assert model is not None
    rng, n, arms = np.random.default_rng(1), 400, len(model.arms)
    log_mean = rng.normal(1.0, 0.7, (n, 1)) + np.zeros((n, arms))
    counts = rng.negative_binomial(2.0, 2.0 / (2.0 + np.exp(log_mean[:, 0]))).astype(float)
    without = np.repeat(log_mean[None], 1 + len(PATTERNS), axis=0)
    without[1 + PATTERNS.index(ALL_COLUMNS)] -= np.log(2)
    model = replace(model, sizes=np.full(arms, 2.0), centre=1.0)
    arm, exposure, none = np.zeros(n, int), np.zeros(n), [()] * n
    found = fit_patterns(model, without, none, counts, arm, exposure)
    moved = [one for one in found if one.shift]
    assert [one.names for one in moved] == [tuple(sorted(ALL_COLUMNS))]
    assert moved[0].shift + moved[0].slope * -np.log(2) == pytest.approx(np.log(2), abs=0.05)
    few = slice(0, 40)
    assert fit_patterns(model, without[:, few], none[few], counts[few], arm[few], exposure[few]) == ()


def test_the_shipped_checkpoint_knows_every_pattern_and_the_worst_ones_widen() -> None:
    model = Generator.load("reference").error_model
    assert model is not None
    known = {one.names: one for one in model.lacking}
    assert set(known) == {tuple(sorted(pattern)) for pattern in PATTERNS}
    assert all(one.log_size < -0.15 for one in known.values() if len(one.names) > 10)


def test_the_template_keeps_the_risk_of_flair_alone_out_of_csf(few_blind: list[PatientArrays]) -> None:
    shipped, csf = Generator.load("reference"), np.asarray(template_anatomy(mni_space("4mm")).csf) > 0.5
    maps = [shipped.expect(shipped.encode_arrays(each), "placebo", 96, risk=True).risk for each in few_blind]
    assert np.mean([risk[csf].sum() / risk.sum() for risk in maps if risk is not None]) < 0.025


def test_damaged_corrections_are_refused() -> None:
    with pytest.raises(InputError, match=r"lacking of shape \(1, 4\), expected finite numbers of \(1, 5\); fit it again"):
        read_lacking([["FLAIR"]], np.zeros((1, 4)))
