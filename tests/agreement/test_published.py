"""Published numbers: which may be a target, and what they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.agreement import published_contrasts
from causalms.agreement.published import published_data


def contrast(trial: str, measure: str, week: float = 96) -> pd.Series:
    table = published_contrasts()
    return table[(table["trial"] == trial) & (table["measure"] == measure) & (table["week"] == week)].iloc[0]


@pytest.mark.parametrize(
    ("trial", "week", "ratio"),
    [
        ("OPERA I", 96, 0.23),
        ("OPERA II", 96, 0.17),
        ("DEFINE", 96, 0.15),
        ("DEFINE", 24, 0.20),
        ("CONFIRM", 96, 0.29),
        ("BRAVO", 104, 0.835),
        ("ALLEGRO", 104, 0.704),
    ],
)
def test_verified_rate_ratios_are_read_as_published(trial: str, week: float, ratio: float) -> None:
    row = contrast(trial, "rate-ratio", week)
    assert row["estimate"] == pytest.approx(ratio, abs=1e-9)
    assert row["target"]


def test_unverified_numbers_are_never_targets_and_never_displace_verified_ones() -> None:
    numbers = published_data("trials.csv")
    unverified = set(numbers.loc[numbers["verified"] == "no", "source_title"])
    table = published_contrasts()
    assert not (table["target"] & table["source_title"].isin(unverified)).any()
    # An interval of OPERA I's rate ratio (0.17 to 0.30) is in the table, but unverified: it must not be used.
    assert np.isnan(contrast("OPERA I", "rate-ratio")["se"])


def test_outcomes_of_another_definition_are_left_out() -> None:
    # PRISMS and EVIDENCE count active lesions a scan, TEMSO combined unique lesions: other outcomes, other ratios.
    assert not set(published_contrasts()["trial"]) & {"PRISMS", "EVIDENCE", "TEMSO", "REFLEX", "DEFINE+CONFIRM"}


def test_only_the_six_arms_at_their_dose_are_compared() -> None:
    table = published_contrasts()
    six = {"placebo", "laquinimod", "interferon-beta-1a-im", "interferon-beta-1a-sc", "dimethyl-fumarate", "ocrelizumab"}
    assert set(table["arm"]) | set(table["reference"]) <= six
    # DEFINE's 240 mg three times a day reduced counts by 74%: another dose, another drug regimen.
    assert not np.isclose(table["estimate"], 0.26).any()


def test_risk_ratio_of_define_follows_from_the_label() -> None:
    row = contrast("DEFINE", "risk-ratio")
    assert row["estimate"] == pytest.approx(0.55 / 0.73, rel=1e-12)
    assert row["se"] == pytest.approx(np.sqrt(0.45 / (0.55 * 152) + 0.27 / (0.73 * 165)), rel=1e-12)
