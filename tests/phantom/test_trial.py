from __future__ import annotations

import numpy as np
import pytest

from causalms.errors import UsageError
from causalms.lesions import LesionRule, count_lesions
from causalms.phantom import simulate_trial
from causalms.tables import net2_column, validate
from causalms.trials import MODALITIES


@pytest.mark.parametrize(("grid", "patients"), [("4mm", 24), ("3mm", 8), ("2mm", 4)])
def test_every_lesion_of_the_table_is_a_component_of_the_mask(grid, patients):
    """NET2 and enhancing lesions never touch, so the counting rule finds the latent count exactly, on every grid."""
    trial = simulate_trial("pooled", patients=patients, seed=4, grid=grid)
    volume, rule = trial.space.voxel_volume_mm3, LesionRule.default()
    for row in trial.participants.to_dict("records"):
        pid = row["participant_id"]
        t2 = count_lesions(trial.mask(pid, "T2"), volume, rule)
        assert (row["t2_lesions"], row["t2_volume_ml"]) == (t2.lesions, t2.volume_ml)
        assert row["gd_lesions"] == count_lesions(trial.mask(pid, "Gd"), volume, rule).lesions
        assert not (trial.mask(pid, "Gd") & ~trial.mask(pid, "T2")).any()
        for week in trial.weeks:
            mask, lesions = trial.mask(pid, "NET2", week), row[net2_column(week)]
            if mask is None:
                assert np.isnan(lesions)
                assert row["exposure_years"] < week / 52.1775
                continue
            counted = count_lesions(mask, volume, rule)
            assert counted.lesions == lesions
            assert counted.volume_ml == pytest.approx(row[net2_column(week, "net2_volume_ml")], abs=1e-9)
            assert not (mask & trial.mask(pid, "T2")).any()


def test_observed_outcome_is_the_potential_outcome_of_the_own_arm(trial):
    keys = ["participant_id", "arm", "visit_week"]
    truth = trial.truth.table.set_index(keys)
    for row in trial.participants.to_dict("records"):
        for week in trial.weeks:
            own = truth.loc[(row["participant_id"], row["arm"], week)]
            if not np.isnan(row[net2_column(week)]):
                assert row[net2_column(week)] == own["true_lesions"]
                assert row[net2_column(week, "net2_volume_ml")] == own["true_volume_ml"]


def test_lower_rate_keeps_a_subset_of_lesions_and_time_only_adds(trial):
    for pid in trial.participants["participant_id"][:12]:
        masks = {(a, w): trial.truth.potential_mask(pid, a, w) for a in ("placebo", "ocrelizumab") for w in trial.weeks}
        for week in trial.weeks:
            assert not (masks["ocrelizumab", week] & ~masks["placebo", week]).any()
        for arm in ("placebo", "ocrelizumab"):
            assert not (masks[arm, 24] & ~masks[arm, 48]).any()
            assert not (masks[arm, 48] & ~masks[arm, 96]).any()
    wide = trial.truth.table.pivot(index="participant_id", columns=["arm", "visit_week"], values="true_lesions")
    assert (wide["ocrelizumab"] <= wide["placebo"]).all().all()
    assert wide["placebo"].sum().is_monotonic_increasing


def test_potential_mask_of_the_own_arm_is_the_observed_mask(trial):
    for row in trial.participants.iloc[40:60].itertuples():
        seen = trial.mask(row.participant_id, "NET2", 48)
        if seen is not None:
            assert np.array_equal(seen, trial.truth.potential_mask(row.participant_id, row.arm, 48))


def test_table_fits_the_schema_and_arms_have_their_exact_share(trial):
    validate(trial.participants, "participants")
    sizes = trial.participants.groupby("trial")["arm"].value_counts()
    design = trial.truth.design
    for entry in design.trials:
        for arm, weight in entry.arms.items():
            exact = weight / entry.size * sizes[entry.name].sum()
            assert abs(sizes[entry.name][arm] - exact) < 1


def test_images_do_not_depend_on_the_order_of_asking(trial):
    first = trial.image("sub-0009", "FLAIR")
    trial.image("sub-0002", "T1w")
    assert np.array_equal(first, trial.image("sub-0009", "FLAIR"))
    assert first.dtype == np.float32


def test_a_subset_keeps_its_truth_and_its_patients(trial):
    some = trial.subset(["sub-0030", "sub-0003"])
    assert np.array_equal(some.mask("sub-0003", "T2"), trial.mask("sub-0003", "T2"))
    assert some.truth is trial.truth


def test_the_same_trial_for_any_number_of_workers():
    one, two = (simulate_trial("pooled", patients=10, seed=2, workers=workers) for workers in (1, 2))
    assert one.participants.equals(two.participants)
    assert one.truth.table.equals(two.truth.table)


def test_another_seed_gives_another_trial(trial):
    other = simulate_trial("pooled", patients=6, seed=8)
    assert not np.array_equal(other.mask("sub-0001", "T2"), trial.mask("sub-0001", "T2"))


def test_unacquired_images_are_missing_at_the_design_s_rate(trial):
    """2% for three modalities and 5% for the fourth: of 500 images 13.75 expected, SD 3.65; 3 to 26 is 3 SD and more."""
    missing = sum(trial.image(pid, m) is None for pid in trial.participants["participant_id"][::2] for m in MODALITIES)
    assert 3 <= missing <= 26


@pytest.mark.parametrize(("arm", "week"), [("nothing", 48), ("placebo", 97), ("placebo", -1)])
def test_truth_refuses_worlds_that_were_not_simulated(trial, arm, week):
    with pytest.raises(UsageError, match="choose"):
        trial.truth.potential_mask("sub-0001", arm, week)
