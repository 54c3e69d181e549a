from __future__ import annotations

import pytest
import yaml

from causalms.errors import InputError
from causalms.phantom import load_design
from causalms.phantom.design import Design, parse_design

DESIGNS = ("pooled", "lifelike", "pooled-2131", "pooled-trial-effect", "harmful", "registry", "scanners")


def design(**keys):
    return {
        "name": "small",
        "rate_ratio": {"a": 1.0, "b": 0.5},
        "trials": [{"name": "S", "arms": {"a": 10, "b": 10}, "log_rate_week96": 1.5}],
    } | keys


@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_survives_being_written_and_read(name):
    law = load_design(name)
    assert law.name == name
    assert parse_design(yaml.safe_load(yaml.safe_dump(law.model_dump(mode="json"), sort_keys=False))) == law


def test_pooled_2131_has_2131_patients_on_the_six_arms():
    law = load_design("pooled-2131")
    assert law.size == 2131
    assert law.arms == (
        "placebo",
        "laquinimod",
        "interferon-beta-1a-im",
        "interferon-beta-1a-sc",
        "dimethyl-fumarate",
        "ocrelizumab",
    )


def test_every_number_of_a_design_is_bounded_on_both_sides():
    def numbers(schema):
        if isinstance(schema, dict):
            if schema.get("type") in ("number", "integer"):
                yield schema
            for value in schema.values():
                yield from numbers(value)
        elif isinstance(schema, list):
            for value in schema:
                yield from numbers(value)

    values = list(numbers(Design.model_json_schema()))
    assert len(values) > 30
    for number in values:
        assert {"minimum", "exclusiveMinimum"} & set(number), number
        assert {"maximum", "exclusiveMaximum"} & set(number), number


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (design(color="red"), "key 'color': is not known here; remove it"),
        (design(rate_rato={"a": 1.0}), "key 'rate_rato': is not known here; did you mean 'rate_ratio'?"),
        (design(counts={"siz": 1}), "key 'counts.siz': is not known here; did you mean 'size'?"),
        (design(rate_ratio={"a": 1.0}), "trials.S.arms: 'b' is not known; choose from a"),
        (design(rate_ratio={"a": 0.9, "b": 0.5}), "set the arm of comparison to 1.0"),
        (design(rate_ratio={"a": 1.0, "b": -0.5}), "key 'rate_ratio.b': found -0.5"),
        (design(rate_ratio={"a": 1.0, "b": float("inf")}), "key 'rate_ratio.b': found inf"),
        (design(counts={"size": 0}), "key 'counts.size': found 0"),
        (design(counts={"zero_inflation": 1}), "key 'counts.zero_inflation': found 1"),
        (design(counts={"size_by_arm": {"c": 1}}), "counts.size_by_arm: 'c' is not known; choose from a, b"),
        (design(modification=[{"arm": "b", "term": "height", "log_rate_ratio": 1}]), "'height' is not known"),
        (design(weeks=[48, 24]), "weeks must rise and not repeat; sort them"),
        (design(weeks=[]), "key 'weeks'"),
        (design(assignment={"kind": "registry"}), "needs logits"),
        (design(assignment={"logits": {"a": {"age": 1}}}), "logits are for kind: registry"),
        (design(assignment={"kind": "registry", "logits": {"a": {"black_holes": 1}}}), "'black_holes' is not known"),
        (design(follow_up={"shortest_planned_weeks": 12}), "shortest_planned_weeks is 12; choose from 24 to 96"),
        (design(lesions={"placement": dict.fromkeys(("periventricular", "juxtacortical", "white_matter"), 0)}), "somewhere"),
        (design(lesions={"place": {"up*height": 1}}), "term 'up*height': 'height' is not known; choose from at_ventricle"),
        (design(lesions={"place": {"up": 1}}), "placement.anatomical, which is 0; make it positive"),
        (design(baseline_lesions={"place": {"up": 101}}), "key 'baseline_lesions.place.up': found 101"),
        (design(scanners=[{"name": "A"}, {"name": "A"}]), "two scanners share a name; give each its own"),
        (design(scanners=[{"name": "A"}], held_out_scanner="B"), "held_out_scanner: 'B' is not known; choose from A"),
        (design(scanners=[{"name": "A"}], held_out_scanner="A"), "leaves no scanner to the sites; add another"),
        (design(scanners=[{"name": "A", "blur_mm": 50}]), "key 'scanners.0.blur_mm': found 50"),
        (design(annotation={"missed": 1}), "key 'annotation.missed': found 1"),
        (design(trials=[{"name": "S", "arms": {"a": 1}, "log_rate_week96": 50}]), "key 'trials.0.log_rate_week96': found 50"),
        (design(trials=[{"name": "S T", "arms": {"a": 1}, "log_rate_week96": 1}]), "key 'trials.0.name': found 'S T'"),
        (
            design(trials=[{"name": "S", "arms": {"a": 1e9, "b": 1}, "log_rate_week96": 1}]),
            "'trials.0.arms.a': found 1000000000.0",
        ),
        (design(rate_ratio={"a": 1.0, "b": 1e300}), "key 'rate_ratio.b': found 1e+300"),
        (design(rate_ratio={"a": 1.0, "b": 1e-300}), "key 'rate_ratio.b': found 1e-300"),
        (design(counts={"size": 1e-300}), "key 'counts.size': found 1e-300"),
        (design(counts={"size": True}), "key 'counts.size': found True, a number is expected"),
        (design(follow_up={"dropout_per_year": 1e300}), "key 'follow_up.dropout_per_year': found 1e+300"),
        (design(lesions={"largest_volume_mm3": 1e12}), "key 'lesions.largest_volume_mm3': found 1000000000000.0"),
        (design(weeks=[24, 10**9]), "key 'weeks.1': found 1000000000"),
        ({"name": "x"}, "key 'trials': is missing; add it"),
        (["x"], "a design is a mapping"),
    ],
)
def test_a_bad_design_is_refused_with_its_key_and_the_mend(content, words):
    with pytest.raises(InputError) as refusal:
        parse_design(content, "own.yaml")
    message = str(refusal.value)
    assert message.startswith("own.yaml: ")
    assert words in message
    assert "\n" not in message


def test_two_trials_of_one_name_are_refused():
    twice = design()
    twice["trials"] = twice["trials"] * 2
    with pytest.raises(InputError, match="share a name; give each its own"):
        parse_design(twice)


@pytest.mark.parametrize("trial", load_design("pooled").trials, ids=lambda trial: trial.name)
def test_arm_ratios_of_a_trial_deviate_only_where_published(trial):
    deviating = set(trial.rate_ratio)
    assert deviating <= {"ocrelizumab"}
    assert bool(deviating) == trial.name.startswith("OPERA")
