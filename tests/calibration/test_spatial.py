"""Place: voxel risk, regions and the score of lesion places."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.calibration import RiskMap, frequency_maps, place_scores, region_calibration, region_volumes, voxel_reliability
from causalms.errors import InputError, RefusalError
from causalms.tables import REGIONS


def maps(seed: int, patients: int = 40, bias: float = 1.0) -> list[RiskMap]:
    """Patients whose overall risk differs (frailty known to the forecaster) and whose places are drawn from the map."""
    rng = np.random.default_rng(seed)
    covered = []
    for _ in range(patients):
        risk = np.clip(rng.gamma(0.3, 0.05, (8, 8, 8)) * rng.gamma(1.0), 0, 0.9)
        mask = rng.random(risk.shape) < risk
        centres = np.argwhere(mask)
        covered.append(RiskMap(np.clip(risk * bias, 0, 1), mask, centres=centres))
    return covered


def test_calibrated_voxel_risk_lies_in_its_band_and_biased_risk_does_not() -> None:
    right = voxel_reliability(maps(1))
    assert right["frequency"].between(right["lower"], right["upper"]).mean() >= 0.75
    wrong = voxel_reliability(maps(1, bias=0.5))
    lesions = (wrong["frequency"] * wrong["n"]).sum()
    assert lesions / (wrong["forecast"] * wrong["n"]).sum() == pytest.approx(2, abs=0.2)
    assert (wrong["frequency"] > wrong["upper"]).any()


def test_band_of_voxel_risk_holds_its_level() -> None:
    # One class of risk over 200 trials: 0.0005 and 0.9995 quantiles of misses at 5% are 2 and 21.
    missed = 0
    for seed in range(200):
        table = voxel_reliability(maps(seed, patients=20), bins=2)
        line = table.iloc[-1]
        missed += not line["lower"] <= line["frequency"] <= line["upper"]
    assert 2 <= missed <= 21


def test_patients_are_the_unit_not_voxels() -> None:
    rng = np.random.default_rng(2)
    # Each patient has no lesion voxel or a hundred together: the interval must be as wide as twenty patients make it.
    blobs = [np.repeat(rng.random() < 0.5, 100) for _ in range(20)]
    table = voxel_reliability([RiskMap(np.full(100, 0.5), blob) for blob in blobs], bins=2)
    assert (table["upper"] - table["lower"]).iloc[0] > 0.3


def test_gain_over_uniform_is_zero_for_a_flat_map_and_the_entropy_for_the_right_one() -> None:
    flat = [RiskMap(np.full((4, 4), 0.1), one, centres=np.argwhere(one)) for one in (np.eye(4, dtype=bool),) * 3]
    assert place_scores(flat).set_index("measure").loc["gain over uniform", "estimate"] == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(3)
    density = np.array([0.7, 0.2, 0.1])
    drawn = [rng.choice(3, 40, p=density) for _ in range(100)]
    risk_maps = [RiskMap(density * 0.3, np.zeros(3, bool), centres=place[:, None]) for place in drawn]
    expected = np.log(3) + (density * np.log(density)).sum()
    line = place_scores(risk_maps).set_index("measure").loc["gain over uniform"]
    assert line["lower"] <= expected <= line["upper"]


def test_frequency_maps_average_over_patients() -> None:
    expected, observed = frequency_maps(maps(4))
    assert expected.sum() == pytest.approx(observed.sum(), rel=0.15)
    with pytest.raises(InputError, match="differ; resample"):
        frequency_maps([*maps(4, 1), RiskMap(np.zeros(3), np.zeros(3, bool))])


def test_region_ratios_find_the_region_that_is_wrong() -> None:
    rng = np.random.default_rng(5)
    keys = {"trial": "T", "arm": "placebo"}
    draws = pd.DataFrame({"participant_id": np.repeat(range(300), 8), "draw": np.tile(range(8), 300), **keys})
    draws = draws.assign(arm_randomised="placebo", visit_week=48.0, query="interventional", query_id="q")
    people = pd.DataFrame({"participant_id": range(300), **keys})
    for region in REGIONS:
        draws[f"net2_lesions_{region}"] = rng.poisson(1, 2400)
        people[f"net2_lesions_{region}_week48"] = rng.poisson(2 if region == "infratentorial" else 1, 300)
    table = region_calibration(draws, people).set_index("region")
    assert table.loc["infratentorial", "ratio"] == pytest.approx(2, abs=0.3)
    assert table.loc["infratentorial", "p_value"] < 1e-4
    assert (table.drop("infratentorial")["p_value"] > 0.001).all()


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="differ; resample to one grid"):
        RiskMap(np.zeros((2, 2)), np.zeros((2, 3), bool))
    with pytest.raises(InputError, match="outside 0 to 1"):
        RiskMap(np.array([1.2]), np.array([True]))
    with pytest.raises(RefusalError, match="at least two"):
        voxel_reliability(maps(1, 1))


def test_region_volumes_find_the_region_that_is_wrong() -> None:
    rng = np.random.default_rng(6)
    labels = np.repeat([1, 2, 3, 4], 500)
    covered = []
    for _ in range(60):
        risk = rng.uniform(0, 0.1, 2000)
        covered.append(RiskMap(risk, rng.random(2000) < np.where(labels == 2, 2, 1) * risk))
    table = region_volumes(covered, labels, 0.001).set_index("region")
    assert table.loc["juxtacortical", "ratio"] == pytest.approx(2, abs=0.15)
    assert table.loc["juxtacortical", "p_value"] < 1e-6
    assert (table.drop("juxtacortical")["p_value"] > 0.001).all()
    # 25 expected lesion voxels of one microlitre in each region and patient.
    np.testing.assert_allclose(table["expected_ml"], 60 * 25 * 0.001, rtol=0.05)
    with pytest.raises(InputError, match="regions"):
        region_volumes(covered, labels[:5], 0.001)


def test_gain_over_a_reference_map_is_that_over_uniform_less_the_references_own() -> None:
    risk_maps = maps(7)
    reference = np.mean([one.risk for one in risk_maps], axis=0)
    own = place_scores(risk_maps, reference=reference).set_index("measure")["estimate"]
    flat = [RiskMap(reference, one.mask, centres=one.centres) for one in risk_maps]
    known = place_scores(flat).set_index("measure")["estimate"]
    assert own["gain over the reference map"] == pytest.approx(own["gain over uniform"] - known["gain over uniform"], abs=1e-12)
