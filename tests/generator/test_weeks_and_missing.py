"""Any week of the trained range, and what happens where something was not acquired."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from causalms.errors import InputError
from causalms.generator import Generator, forecast_patient
from causalms.generator.inputs import patient_arrays
from causalms.phantom import PhantomTrial, load_design, simulate_trial
from causalms.phantom.design import Missing

Tiny = tuple[Generator, Path]


@pytest.fixture(scope="module")
def shipped() -> Generator:
    return Generator.load("reference")


@pytest.fixture(scope="module")
def few() -> PhantomTrial:
    return simulate_trial("lifelike", patients=8, seed=36)


@pytest.mark.parametrize(("between", "before", "after"), [(36, 24, 48), (72, 48, 96)])
def test_counts_between_visits_are_as_right_as_at_the_visits(
    shipped: Generator, few: PhantomTrial, between: int, before: int, after: int
) -> None:
    """Expected over true counts of eight patients and six arms: the phantom's rates are known at any week."""
    scans = [shipped.encode(few, participant_id) for participant_id in few.truth.rates(96).index]

    def ratio(week: int, arm: str) -> float:
        return sum(shipped.expect(scan, arm, week).lesions for scan in scans) / few.truth.rates(week)[arm].sum()

    for arm in shipped.arms:
        low, high = sorted((ratio(before, arm), ratio(after, arm)))
        assert low - 0.01 <= ratio(between, arm) <= high + 0.01
        # Lesions come at a constant rate; visits are a factor of two apart, so an exponent of 0.9 would be 7% off after one.
        assert ratio(between, arm) == pytest.approx(ratio(96, arm), rel=0.2)


def test_missing_images_and_columns_are_stated_in_the_forecast(tiny: Tiny) -> None:
    design = load_design("pooled").model_copy(update={"missing_modality": Missing(FLAIR=0.9)})
    trial = simulate_trial(design, patients=6, seed=4)
    without = next(p for p in trial.participants["participant_id"] if trial.image(p, "FLAIR") is None)
    trial.participants.loc[trial.participants["participant_id"] == without, "edss"] = np.nan
    forecast = forecast_patient(tiny[0], trial, without, ["placebo"], 48)
    assert forecast.table["missing"].tolist() == ["FLAIR; edss"]
    assert any(note.startswith(f"{without}: not available and masked in the model: FLAIR, edss; ") for note in forecast.notes)
    assert np.isfinite(forecast.table["expected_net2_lesions"]).all()


def test_nothing_is_stated_where_nothing_is_missing(tiny: Tiny, trial: PhantomTrial) -> None:
    whole = next(
        p
        for p in trial.participants["participant_id"]
        if all(trial.image(p, m) is not None for m in ("T1w", "T2w", "FLAIR", "ceT1w"))
    )
    forecast = forecast_patient(tiny[0], trial, whole, ["placebo"], 48, draws=2)
    assert forecast.table["missing"].tolist() == [""]
    assert forecast.table.loc[0, "se_controlled"] >= 0


def test_masked_modality_is_as_if_it_had_never_been_there(tiny: Tiny, trial: PhantomTrial) -> None:
    """What the network sees of a missing image is the brain median, whatever the others show."""
    from causalms.generator.inputs import patient_arrays

    arrays = patient_arrays(trial, "sub-0001")
    blank = arrays.images.copy()
    blank[2] = 0
    with_flair = tiny[0].encode_arrays(arrays)
    without = tiny[0].encode_arrays(type(arrays)("sub-0001", blank, arrays.masks, arrays.covariates, ("FLAIR",)))
    assert without.missing == ("FLAIR",)
    assert not np.array_equal(with_flair.encoded.features.numpy(), without.encoded.features.numpy())
    assert np.isfinite(tiny[0].expect(without, "placebo", 96).lesions)


def test_an_image_that_is_the_same_in_every_voxel_is_named(few: PhantomTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    image = PhantomTrial.image

    def blank(self: PhantomTrial, participant_id: str, modality: str) -> np.ndarray | None:
        volume = image(self, participant_id, modality)
        return np.zeros_like(volume) if modality == "FLAIR" and volume is not None else volume

    monkeypatch.setattr(PhantomTrial, "image", blank)
    with pytest.raises(InputError, match="FLAIR is the same in every voxel of the brain; export it again"):
        patient_arrays(few, few.participants["participant_id"][0])
