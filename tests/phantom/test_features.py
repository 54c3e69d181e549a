"""What a design may ask for, each feature shown in what is simulated."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.errors import UsageError
from causalms.phantom.covariates import log_rates
from causalms.phantom.design import COLUMN_TERMS, IMAGE_MARKERS, load_design, parse_design
from causalms.phantom.patient import _follow_up
from causalms.phantom.roster import enrol

DRAWS = 4000
YEAR = 52.1775


def design(**keys):
    """One trial of two arms."""
    return parse_design(
        {
            "name": "small",
            "rate_ratio": {"a": 1.0, "b": 0.5},
            "trials": [{"name": "S", "arms": {"a": 10, "b": 10}, "log_rate_week96": 1.5, "sites": 500}],
            **keys,
        }
    )


def follow_ups(law, arm):
    """Last week and unacquired images of many patients."""
    rng = np.random.default_rng(5)
    return zip(*[_follow_up(law, arm, rng) for _ in range(DRAWS)], strict=True)


@pytest.mark.parametrize("term", [*COLUMN_TERMS, *IMAGE_MARKERS])
def test_any_covariate_or_image_marker_can_modify_an_effect(term):
    law = design(modification=[{"arm": "b", "term": term, "log_rate_ratio": 0.7}])
    zero = dict.fromkeys((*COLUMN_TERMS, *IMAGE_MARKERS), 0.0)
    at_zero, at_one = (log_rates(law, law.trials[0], zero | {term: value}) for value in (0.0, 1.0))
    log_ratio = [rates[1] - rates[0] for rates in (at_zero, at_one)]
    assert log_ratio[0] == pytest.approx(np.log(0.5))
    assert log_ratio[1] - log_ratio[0] == pytest.approx(0.7)


def test_dropout_by_arm_leaves_each_arm_its_share_of_completers():
    law = design(follow_up={"dropout_per_year": 0.08, "dropout_per_year_by_arm": {"b": 0.4}})
    for arm, hazard in (("a", 0.08), ("b", 0.4)):
        weeks, _ = follow_ups(law, arm)
        stay = np.exp(-hazard * (96 - 24) / YEAR)
        assert min(weeks) >= 24  # nobody leaves before the first follow-up scan
        assert np.mean(np.equal(weeks, 96)) == pytest.approx(stay, abs=4 * np.sqrt(stay * (1 - stay) / DRAWS))


def test_planned_follow_up_may_be_unequal():
    """Half are planned to week 96, the others uniformly from week 48: mean 84, SD 15.9 weeks."""
    law = design(follow_up={"dropout_per_year": 0, "shortest_planned_weeks": 48})
    weeks = np.array(next(iter(follow_ups(law, "a"))))
    assert weeks.min() >= 48
    assert (weeks == 96).mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(DRAWS))
    assert weeks.mean() == pytest.approx(84, abs=4 * 15.9 / np.sqrt(DRAWS))


def test_each_modality_is_missing_at_its_own_rate():
    law = design(missing_modality={"FLAIR": 0.3, "ceT1w": 0.6})
    _, missing = follow_ups(law, "a")
    for modality, share in (("T1w", 0.0), ("T2w", 0.0), ("FLAIR", 0.3), ("ceT1w", 0.6)):
        share_rows = np.mean([modality in names for names in missing])
        assert share_rows == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / DRAWS))


def test_patients_of_a_site_share_its_effect():
    law = design(rate={"site_log_sd": 0.5})
    roster = enrol(law, 3000, seed=2)
    effects = {patient.site: patient.site_log_rate for patient in roster}
    assert all(effects[patient.site] == patient.site_log_rate for patient in roster)
    # about 500 sites: SE of the standard deviation 0.5 / sqrt(1000) = 0.016
    assert np.std(list(effects.values())) == pytest.approx(0.5, abs=4 * 0.016)
    zero = dict.fromkeys((*COLUMN_TERMS, *IMAGE_MARKERS), 0.0)
    assert np.allclose(log_rates(law, law.trials[0], zero, 0.3) - log_rates(law, law.trials[0], zero), 0.3)


def test_rates_between_visits_follow_the_law_and_meet_the_table_at_visits(trial):
    visits = trial.truth.table.pivot(index="participant_id", columns=["visit_week", "arm"], values="true_rate")
    for week in trial.weeks:
        np.testing.assert_allclose(trial.truth.rates(week), visits[week][list(trial.truth.design.arms)], rtol=1e-12)
    np.testing.assert_allclose(trial.truth.rates(36), 0.75 * trial.truth.rates(48), rtol=1e-12)
    with pytest.raises(UsageError, match="choose a week from 0 to 96"):
        trial.truth.rates(97)


def test_lesions_appear_at_the_same_rate_through_the_trial(trial):
    """Share of potential lesions by week 36 of 96: 0.375; about 2,000 lesions of 60 patients, SE 0.011."""
    onset = np.concatenate([trial.truth.lesions_of(pid).onset_week for pid in trial.participants["participant_id"][:60]])
    assert (onset <= 36).mean() == pytest.approx(0.375, abs=4 * np.sqrt(0.375 * 0.625 / len(onset)))


def test_shipped_designs_show_harm_modification_dispersion_dropout_and_registry():
    harmful, registry = load_design("harmful"), load_design("registry")
    assert harmful.rate_ratio["drug-x"] > 1
    assert harmful.modification
    assert harmful.counts.size_by_arm
    assert harmful.follow_up.dropout_per_year_by_arm
    assert harmful.follow_up.shortest_planned_weeks
    assert registry.assignment.kind == "registry"
