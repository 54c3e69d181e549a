"""The studies behind the design ``lifelike`` on made lesions whose law is known."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.phantom.place_law import log_linear
from studies.phantom_place_law import SPACE, Sites, fitted, left_out, mass, per_lesion
from studies.phantom_realism import SPACE as FINE
from studies.phantom_realism import distance, lesions_of, pair_correlation, pair_shares, with_interval

LAW = {"near_ventricle": 2.0, "front*front": -3.0, "up": 1.0}


@pytest.fixture(scope="module")
def sites() -> Sites:
    return Sites()


def drawn(sites: Sites, patients: int, lesions: int, seed: int) -> np.ndarray:
    """Lesions of one voxel from the law, as masses over the sites."""
    density, rng = np.exp(sites.log_density(log_linear(LAW, sites.at))), np.random.default_rng(seed)
    return rng.multinomial(lesions, density, size=patients).astype(float)


def test_the_fit_finds_the_law_that_lesions_were_drawn_from(sites):
    """20,000 lesions: standard errors from the inverse information, within 4 of them."""
    columns = sites.columns(tuple(LAW))
    total = drawn(sites, 1, 20_000, 1)[0]
    beta = fitted(sites, columns, total, penalty=1e-6)
    density = np.exp(sites.log_density(columns @ beta))
    mean = density @ columns
    information = 20_000 * ((columns * density[:, None]).T @ columns - np.outer(mean, mean))
    assert np.abs(beta - list(LAW.values())).max() < 4 * np.sqrt(np.diag(np.linalg.inv(information))).max()


def test_a_law_beats_an_even_density_on_patients_left_out_and_too_strong_a_penalty_loses(sites):
    columns, masses = sites.columns(tuple(LAW)), drawn(sites, 8, 100, 2)
    gain, error = per_lesion(left_out(sites, columns, masses, 1.0), masses)
    assert gain > 3 * error
    assert left_out(sites, columns, masses, 1.0).sum() > left_out(sites, columns, masses, 1e6).sum()


def test_each_lesion_has_mass_one_whatever_its_size_and_each_patient_alike_by_volume(sites):
    at = np.argwhere(sites.inside)[len(sites.log_tissue) // 2]
    mask = np.zeros(SPACE.shape, bool)
    mask[tuple(at)] = True
    far = np.argwhere(sites.inside)[10]
    mask[tuple(far)] = True
    mask[at[0], at[1], at[2] + 1] = True
    assert mass(mask, sites.inside, by_volume=False).sum() == pytest.approx(2.0)
    assert mass(mask, sites.inside, by_volume=True).sum() == pytest.approx(10.0)


def test_lesions_of_a_mask_have_their_volume_before_the_template():
    mask = np.zeros(FINE.shape, bool)
    mask[40:42, 40:42, 40] = True
    mask[10, 10, 10] = True
    table = lesions_of(mask, scale=2.0)
    assert table["volume_mm3"].tolist() == [16.0]


def test_pair_correlation_is_one_for_independent_lesions_and_above_for_groups():
    """60 patients of 20 lesions: 11,400 pairs, a share of about a third in the band; SE of the ratio about .02."""
    rng = np.random.default_rng(3)
    even = [rng.uniform(-30, 30, (20, 3)) for _ in range(60)]
    grouped = [np.repeat(rng.uniform(-30, 30, (5, 3)), 4, axis=0) + rng.normal(0, 3, (20, 3)) for _ in range(60)]
    pairs = np.full(60, 190.0)
    ratio = {
        name: pair_correlation(pair_shares(ones, (0, 20)), pairs, np.arange(60))
        for name, ones in (("even", even), ("grouped", grouped))
    }
    assert ratio["even"] == pytest.approx(1.0, abs=0.15)
    assert ratio["grouped"] > 1.5


def test_intervals_resample_patients_not_lesions():
    """Patients of 100 equal lesions each: the interval is as wide as 10 patients make it, not 1,000 lesions."""
    rng = np.random.default_rng(4)
    groups = [[np.full(100, value) for value in rng.normal(size=10)] for _ in range(2)]
    found = with_interval(distance, groups, rng)
    assert found["upper"] - found["lower"] > 0.2
