"""Interventions: value, shift, policy, distribution; and policy files that are data, not programs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from causalms.causal import CausalModel, Subject, distribution, policy, read_policy, shift, value
from causalms.causal.interventions import as_interventions
from causalms.errors import InputError, RefusalError, UsageError


def subject(**covariates):
    return Subject("p1", "T", "placebo", covariates)


def test_policy_takes_the_first_rule_that_holds():
    rule = policy("p", [("gd_lesions > 0 and age < 50", "ocrelizumab"), ("age >= 50", {"placebo": 1.0})], "dimethyl-fumarate")
    assert rule.law(subject(gd_lesions=1, age=40)) == {"ocrelizumab": 1.0}
    assert rule.law(subject(gd_lesions=1, age=60)) == {"placebo": 1.0}
    assert rule.law(subject(gd_lesions=0, age=40)) == {"dimethyl-fumarate": 1.0}


def test_policy_reads_text_columns():
    rule = policy("p", [("sex == 'F' and arm in ['placebo', 'x']", "ocrelizumab")], "placebo")
    assert rule.law(subject(sex="F", arm="placebo")) == {"ocrelizumab": 1.0}
    assert rule.law(subject(sex="M", arm="placebo")) == {"placebo": 1.0}


def test_stochastic_policy_assigns_by_its_probabilities_and_by_key():
    lot = distribution({"placebo": 0.3, "ocrelizumab": 0.7})
    arms = lot.assign(subject(), range(3000), 0)
    assert np.mean([a == "ocrelizumab" for a in arms]) == pytest.approx(0.7, abs=0.034)  # 4 standard errors
    assert arms[:20] == [lot.assign(subject(), [d], 0)[0] for d in range(20)]


def test_shift_stays_at_the_end_of_the_order():
    order = ("placebo", "ocrelizumab")
    assert shift(+9, order).law(subject()) == {"ocrelizumab": 1.0}
    assert shift(-1, order).law(subject()) == {"placebo": 1.0}
    with pytest.raises(RefusalError, match="has no place in the order"):
        shift(1, ("x", "y")).law(subject())


def test_a_shift_moves_along_the_fitted_rates_of_a_count_model(truth, table):
    swapped = CausalModel(
        dataclasses.replace(truth, arms=("ocrelizumab", "placebo", "dimethyl-fumarate"), log_rates=(-0.2, 1.6, 0.8))
    )
    draws = swapped.do(table, [shift(+1), "dimethyl-fumarate"], draws=2)
    own = draws[(draws["arm"] == "shift +1") & (draws["arm_randomised"] == "placebo")]
    assert set(own["arm_assigned"]) == {"dimethyl-fumarate"}
    (record,) = draws.attrs["queries"].values()
    assert record["intervention"][0]["order"] == ["placebo", "dimethyl-fumarate", "ocrelizumab"]


@pytest.mark.parametrize(
    "condition",
    [
        "__import__('os').system('true')",
        "@x > 1",
        "(lambda: 1)() == 1",
        "age[0] > 1",
        "f(age) > 1",
        "1 <",
    ],
)
def test_a_condition_that_is_a_program_is_refused(condition):
    with pytest.raises(UsageError, match="policy 'p'"):
        policy("p", [(condition, "placebo")])


def test_conditions_name_missing_columns_and_values():
    rule = policy("p", [("gd > 0", "ocrelizumab")], "placebo")
    with pytest.raises(InputError, match="no column 'gd'"):
        rule.law(subject(age=1))
    with pytest.raises(InputError, match=r"no column 'gd\.__class__'"):  # a name with a dot, never an attribute
        policy("p", [("gd.__class__ == 1", "ocrelizumab")]).law(subject(gd=1))
    with pytest.raises(InputError, match="participant p1 has no 'gd'"):
        rule.law(subject(gd=float("nan")))


def test_probabilities_must_be_a_law():
    with pytest.raises(UsageError, match="sum to 1"):
        distribution({"placebo": 0.5, "ocrelizumab": 0.6})
    with pytest.raises(UsageError, match="must be numbers"):
        distribution({"placebo": "half"})
    with pytest.raises(UsageError, match="give at least one"):
        policy("p", [])


def test_without_otherwise_a_patient_whom_no_rule_fits_is_refused():
    with pytest.raises(RefusalError, match="no rule holds for participant p1; add 'otherwise'"):
        policy("p", [("age > 90", "placebo")]).law(subject(age=20))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: [", "not readable as YAML"),
        ("- 1", "expected the keys name, rules, otherwise"),
        ("extra: 1\nrules: []", "expected the keys"),
        ("rules: [{when: age > 1}]", "every rule needs 'when' and 'arm'"),
        ("rules: [{when: age > 1, arm: {a: 2}}]", "sum to 1"),
        ("ruls: []", "did you mean 'rules'"),
        ("rules: {when: age > 1, arm: a}", "rules: found a mapping, expected a list"),
        ("rules: [[age > 1, a]]", "rule 1: found a list; every rule needs"),
        ("rules:\n- {when: age > 1, arm: a}\n- {wen: age > 2, arm: a}", "rule 2: found 'wen'.*did you mean 'when'"),
        ("rules: [{when: true, arm: a}]", "rule 1: when: found True, expected a condition"),
        ("rules: [{when: 2026-02-31, arm: a}]", "line 1: '2026-02-31' is no date"),
        ("rules: [{when: age > 2026-02-31-, arm: a}]", "found 'the end'"),
        ("rules: [{when: age >, arm: a}]", "`when`: 'age >': found 'the end' at letter 6"),
        ("name: [a]\nrules: []\notherwise: a", "name: found a list, expected a text"),
        ("rules: &a [*a]", "an alias stands for what holds it"),
        ("", "found nothing"),
    ],
)
def test_a_bad_policy_file_is_named(tmp_path, text, message):
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_policy(file)
    assert str(file) in str(caught.value)


def test_a_policy_that_gives_one_arm_equals_setting_the_arm(truth, table):
    model = CausalModel(truth)
    always = policy("always", [("age > 0", "ocrelizumab")])
    first = model.do(table, always, draws=5)
    second = model.do(table, arm="ocrelizumab", draws=5)
    assert first["net2_lesions"].tolist() == second["net2_lesions"].tolist()
    assert set(first["arm"]) == {"always"}
    assert set(first["arm_assigned"]) == {"ocrelizumab"}


def test_a_mixture_expects_the_average_of_its_arms(truth, table):
    model = CausalModel(truth)
    mixed = model.do(table, arm=[{"placebo": 0.25, "ocrelizumab": 0.75}], expected=True)["expected_net2_lesions"].to_numpy()
    arms = model.do(table, arm=["placebo", "ocrelizumab"], expected=True)["expected_net2_lesions"].to_numpy().reshape(-1, 2)
    assert mixed == pytest.approx(arms @ [0.25, 0.75])


def test_expected_mixture_has_the_sampled_mean_and_variance(truth, table):
    model, one = CausalModel(truth), table.head(1)
    lot = {"placebo": 0.5, "ocrelizumab": 0.5}
    law = model.do(one, arm=[lot], expected=True).iloc[0]
    draws = model.do(one, arm=[lot], draws=20000)["net2_lesions"]
    mean, alpha = law["expected_net2_lesions"], law["dispersion"]
    variance = mean + alpha * mean**2
    assert draws.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / 20000))
    assert draws.var() == pytest.approx(variance, rel=0.25)  # heavy tail: fourth moment of NB with size 1/2
    assert (draws > 0).mean() == pytest.approx(law["activity_probability"], abs=4 * 0.5 / np.sqrt(20000))


def test_interventions_pass_as_they_are():
    one = value("placebo")
    assert as_interventions(one) == (one,)
    assert as_interventions("placebo")[0].words == {"arm": "placebo"}
