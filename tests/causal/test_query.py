"""A query as a whole: same numbers anywhere, restart, record, and everything that is refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from causalms.causal import CausalModel, Expected, MechanismBase, Query, Running, Twin, distribution, policy, value, write_draws
from causalms.causal import cohort as answering
from causalms.errors import InputError, RefusalError, UsageError
from causalms.tables import validate

ARMS = ["placebo", "ocrelizumab"]


@pytest.fixture
def model(truth):
    return CausalModel(truth)


def test_the_draws_table_has_its_schema_and_every_world(model, table):
    draws = validate(model.do(table, arm=ARMS, week=[24, 48], draws=3), "draws")
    assert len(draws) == 60 * 2 * 2 * 3
    assert draws.groupby(["arm", "visit_week"]).size().tolist() == [180] * 4
    later = draws.pivot_table(index=["participant_id", "arm", "draw"], columns="visit_week", values="net2_lesions")
    assert (later[48.0] >= later[24.0]).all()  # cumulative since baseline: the same noise at a later week never has fewer


def test_numbers_do_not_depend_on_draws_asked_for_order_or_company(model, table):
    whole = model.do(table, arm=ARMS, draws=60, seed=3)
    some = model.do(table.iloc[::-1], arm=ARMS[::-1], draws=7, seed=3, running=Running(participants=["sub-0004", "sub-0002"]))
    keys = ["participant_id", "arm", "draw"]
    both = some.merge(whole, on=keys, suffixes=("", "_whole"))
    assert len(both) == 2 * 2 * 7
    assert (both["net2_lesions"] == both["net2_lesions_whole"]).all()
    assert (both["net2_volume_ml"] == both["net2_volume_ml_whole"]).all()


@pytest.mark.parametrize("coupling", ["monotone", "ancestral", "independent"])
def test_numbers_are_the_same_for_two_workers(model, table, coupling):
    few = table.head(6)
    one = model.counterfactual(few, arm="ocrelizumab", coupling=coupling, particles=4)
    two = model.counterfactual(few, arm="ocrelizumab", coupling=coupling, particles=4, running=Running(workers=2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


@pytest.mark.slow
def test_numbers_are_the_same_on_a_dask_cluster(model, table):
    import joblib
    from distributed import Client, LocalCluster

    few = table.head(8)
    alone = model.do(few, arm=ARMS, draws=5)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):  # noqa: SIM117
        with joblib.parallel_config(backend="dask"):
            together = model.do(few, arm=ARMS, draws=5)
    pd.testing.assert_frame_equal(alone, together, check_exact=True)


def test_a_killed_query_goes_on_where_it_stopped(model, table, tmp_path, monkeypatch):
    parts, few = tmp_path / "out.parts", table.head(6)
    answered = []
    real = answering.patient_rows

    def dies_at_the_fourth(mechanism, trial, randomisation, query, query_id, participant_id):
        answered.append(participant_id)
        if len(answered) == 4:
            raise KeyboardInterrupt
        return real(mechanism, trial, randomisation, query, query_id, participant_id)

    monkeypatch.setattr(answering, "patient_rows", dies_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        model.do(few, arm=ARMS, draws=3, running=Running(parts=parts))
    again = model.do(few, arm=ARMS, draws=3, running=Running(parts=parts))
    assert answered[4:] == ["sub-0003", "sub-0004", "sub-0005"]
    pd.testing.assert_frame_equal(again, model.do(few, arm=ARMS, draws=3), check_exact=True)


def test_parts_of_another_query_are_not_reused(model, table, tmp_path):
    few = table.head(2)
    first = model.do(few, arm=ARMS, draws=20, seed=0, running=Running(parts=tmp_path))
    second = model.do(few, arm=ARMS, draws=20, seed=1, running=Running(parts=tmp_path))
    assert set(first["query_id"]) != set(second["query_id"])
    assert first["net2_lesions"].tolist() != second["net2_lesions"].tolist()


def test_the_record_says_everything_needed_to_ask_again(model, table, tmp_path):
    twins = model.counterfactual(table.head(3), arm="ocrelizumab", coupling="rho", particles=2, seed=9, twin=Twin(rho=0.5))
    write_draws(twins, tmp_path / "twins.parquet")
    (query_id, record), *rest = json.loads((tmp_path / "twins.queries.json").read_text()).items()
    assert not rest
    assert set(twins["query_id"]) == {query_id}
    wanted = {
        "query": "counterfactual", "rung": 3, "coupling": "rho", "rho": 0.5, "abduction": "stochastic", "seed": 9, "draws": 2,
        "guidance": 1.0, "model_checksum": model.mechanism.checksum, "participants": 3,
    }  # fmt: skip
    assert wanted.items() <= record.items()
    assert record["evidence"] == {"week": 48.0, "outcome": "NET2 count and volume", "missing": "refuse"}
    assert record["intervention"] == [{"name": "ocrelizumab", "kind": "value", "arm": "ocrelizumab"}]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "twins.parquet"), twins, check_exact=True)


def test_other_data_or_another_model_is_another_query(model, table, truth):
    few = table.head(2)
    first = model.do(few, arm=ARMS, draws=1)["query_id"].iloc[0]
    assert model.do(few.assign(age=30.0), arm=ARMS, draws=1)["query_id"].iloc[0] != first
    other = CausalModel(dataclasses.replace(truth, dispersion=1.0))
    assert other.do(few, arm=ARMS, draws=1)["query_id"].iloc[0] != first


def test_expected_outcomes_need_no_sampling_and_agree_with_it(model, table):
    expected = validate(model.do(table, arm=ARMS, expected=True), "expected")
    draws = model.do(table, arm=ARMS, draws=100)
    for arm in ARMS:
        sampled = draws[draws["arm"] == arm].groupby("participant_id")["net2_lesions"].mean()
        error = draws[draws["arm"] == arm].groupby("participant_id")["net2_lesions"].std().pow(2).sum() ** 0.5 / 10
        closed = expected[expected["arm"] == arm]["expected_net2_lesions"].sum()
        assert sampled.sum() == pytest.approx(closed, abs=4 * error)


def test_patients_without_evidence_are_refused_or_left_out_by_name(model, table):
    missed = table["net2_lesions_week48"].where(table["participant_id"] != "sub-0001")
    holed = table.head(4).assign(net2_lesions_week48=missed)
    with pytest.raises(RefusalError, match="sub-0001: no 'net2_lesions_week48', so there is no evidence"):
        model.counterfactual(holed, arm="ocrelizumab", particles=2)
    twins = model.counterfactual(holed, arm="ocrelizumab", particles=2, twin=Twin(missing="skip"))
    assert sorted(twins["participant_id"].unique()) == ["sub-0000", "sub-0002", "sub-0003"]
    assert next(iter(twins.attrs["queries"].values()))["participants_answered"] == 3
    nobody = holed.assign(net2_lesions_week48=np.nan)
    with pytest.raises(RefusalError, match="no patient has evidence"):
        model.counterfactual(nobody, arm="ocrelizumab", particles=2, twin=Twin(missing="skip"))


def test_a_patient_of_no_arm_has_no_factual_world(model, table):
    with pytest.raises(RefusalError, match="sub-0000: no randomised arm"):
        model.counterfactual(table.head(1).assign(arm=None), arm="ocrelizumab", particles=2)
    assert len(model.do(table.head(1).assign(arm=None), arm="ocrelizumab", draws=2)) == 2


def asked(**options):
    return Query((value("placebo"),), (48.0,), **options)


class CountsOnly(MechanismBase):
    name, arms = "push-only", ("placebo", "ocrelizumab")


class Guided(CountsOnly):
    name, description = "guided", {"guidance": 3.5}


class Clipped(CountsOnly):
    name, description = "clipped", {"clipping": True}
    capabilities = frozenset({"push", "abduct"})


@pytest.mark.parametrize(
    ("mechanism", "ask", "error", "message"),
    [
        (Guided(), lambda m, t: m.do(t, arm="placebo"), RefusalError, "guidance 3.5, which .* set guidance to 1"),
        (Clipped(), lambda m, t: m.counterfactual(t, arm="placebo"), RefusalError, "clips while sampling"),
        (CountsOnly(), lambda m, t: m.counterfactual(t, arm="placebo"), RefusalError, "no abduct, .* ask for do"),
        (CountsOnly(), lambda m, t: m.do(t, arm="placebo", expected=True), RefusalError, "no expect; sample instead"),
        (CountsOnly(), lambda m, t: m.ask(t, asked(coupling="ancestral")), RefusalError, "no coupling 'ancestral'"),
        (None, lambda m, t: m.do(t, arm="laquinimod"), RefusalError, "'laquinimod' is outside the support .* name one"),
        (None, lambda m, t: m.do(t, policy("p", [("age > 0", "x")])), RefusalError, "arm 'x' is outside the support"),
        (None, lambda m, t: m.do(t, arm=distribution({"x": 1.0})), RefusalError, "arm 'x' is outside the support"),
        (None, lambda m, t: m.do(t, arm="placebo", week=200), RefusalError, "week 200 is outside what .* choose a week inside"),
        (None, lambda m, t: m.do(t), UsageError, "no arm to set; name at least one"),
        (None, lambda m, t: m.do(t, arm=["placebo", "placebo"]), UsageError, "'placebo' is asked for twice"),
        (None, lambda m, t: m.do(t, arm="placebo", draws=0), UsageError, "`draws` is 0; give at least 1"),
        (None, lambda m, t: m.ask(t, asked(coupling="rho")), UsageError, "go together"),
        (None, lambda m, t: m.ask(t, asked(coupling="psychic")), UsageError, "'psychic' is unknown; choose monotone"),
        (None, lambda m, t: m.do(t, "placebo", running=Running(participants=["me"])), UsageError, "unknown participant_id 'me'"),
        (None, lambda m, t: m.do(t, "placebo", running=Running(participants=["0001"])), UsageError, "did you mean 'sub-0001'"),
        (None, lambda m, t: m.counterfactual(t, arm="placebo", coupling="rho"), UsageError, "go together"),
        (None, lambda m, t: m.counterfactual(t, arm="placebo", coupling="rho", twin=Twin(rho=1.5)), UsageError, "from -1"),
        (None, lambda m, t: m.counterfactual(t, arm="placebo", twin=Twin(abduction="guess")), UsageError, "'guess' is unknown"),
        (None, lambda m, t: m.counterfactual(t, arm="placebo", twin=Twin(abduction="deterministic")), RefusalError, "=stoch"),
        (None, lambda m, t: m.counterfactual(t, arm="placebo", twin=Twin(missing="impute")), UsageError, "choose refuse or skip"),
        (None, lambda m, t: m.masks(t, "sub-0000", "placebo"), RefusalError, "counts without masks"),
        (None, lambda m, t: m.risk_map(t, "sub-0000", "placebo"), RefusalError, "counts without place"),
        (None, lambda m, t: m.do(3, arm="placebo"), InputError, "a trial or a participants table is needed, found int"),
        (None, lambda m, t: m.do(t.drop(columns="arm"), arm="placebo"), InputError, "no column 'arm'"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_with_the_mend(truth, table, mechanism, ask, error, message):
    with pytest.raises(error, match=message):
        ask(CausalModel(mechanism or truth), table.head(2))


def test_a_mechanism_of_a_users_own_inherits_every_query(table):
    class Quiet(MechanismBase):
        name, arms = "quiet", ("placebo", "ocrelizumab")

        def push(self, subject, arm, week, noise):
            from causalms.causal import Outcome

            count = max(0.0, np.round(2 * week / 48 * (arm == "placebo") + noise.normals["u"][0]))
            return Outcome(count, 0.1 * count)

    draws = CausalModel(Quiet()).do(table.head(3), arm=ARMS, draws=50)
    means = draws.groupby("arm")["net2_lesions"].mean()
    assert means["placebo"] > means["ocrelizumab"]


def test_fit_counts_takes_the_last_week_that_the_table_has(table):
    early = table.assign(net2_lesions_week24=1.0, net2_lesions_week96=np.nan)
    assert CausalModel.fit_counts(early).mechanism == CausalModel.fit_counts(early, week=48).mechanism


def test_expected_rows_of_patients_kept_one_by_one_are_those_of_one_table(table, tmp_path):
    class Half(MechanismBase):
        """The same law for everybody; the third patient lacks an input."""

        name, arms, capabilities = "half", ("placebo",), frozenset({"expect"})

        def prepare(self, trial, participant_id):
            subject = super().prepare(trial, participant_id)
            return dataclasses.replace(subject, missing=("age",) if participant_id == "sub-0002" else ())

        def expect(self, subject, arm, week):
            return Expected(2.0 * week, 0.5, 0.75, 1.0)

    model, few = CausalModel(Half()), table.head(4)
    whole = model.do(few, arm="placebo", week=[24, 48], expected=True)
    kept = model.do(few, arm="placebo", week=[24, 48], expected=True, running=Running(parts=tmp_path))
    pd.testing.assert_frame_equal(whole, kept, check_exact=True)
    assert whole["missing_inputs"].isna().sum() == 6
    assert whole["expected_net2_lesions"].tolist() == [48.0, 96.0] * 4
