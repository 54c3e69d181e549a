"""Every figure draws the columns it documents, says in words what it shows, and refuses a table that lacks one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from causalms.errors import InputError
from causalms.report import figures
from causalms.report.figures.training import training_log

Draw = Callable[..., Figure]
BAND = {"lower": [0.7, 0.6], "upper": [1.3, 1.4]}
CONTRASTS = {
    "analysis": ["primary", "primary"],
    "arm": ["ocrelizumab", "ocrelizumab"],
    "reference": ["placebo", "laquinimod"],
    "subgroup": [None, "age >= 40"],
    "measure": ["rate ratio", "rate ratio"],
    "estimate": [0.5, 0.72],
    "lower": [0.4, 0.5],
    "upper": [0.62, 1.04],
    "randomised": [True, False],
}
AGREEMENT = {
    "label": ["a", "b"],
    **{f"randomised_{end}": values for end, values in {"estimate": [0.5, 0.8], "lower": [0.4, 0.6], "upper": [0.6, 1.1]}.items()},
    **{f"simulated_{end}": values for end, values in {"estimate": [0.55, 0.7], "lower": [0.5, 0.6], "upper": [0.6, 0.9]}.items()},
}
_SHARES = ["most promising 100%", "most promising 50%"]
CURVES = {
    "measure": [
        f"{measure}{band}"
        for measure in ("lesions spared, AD(c)", "ratio of mean lesions, AR(c)")
        for band in ("", ", simultaneous band")
        for _ in _SHARES
    ],
    "subgroup": _SHARES * 4,
    "arm": ["drug"] * 8,
    "reference": ["placebo"] * 8,
    "estimate": [2.0, 4.0, 2.0, 4.0, 0.5, 0.4, 0.5, 0.4],
    "lower": [1.0, 2.0, 0.5, 1.0, 0.3, 0.2, 0.2, 0.1],
    "upper": [3.0, 6.0, 3.5, 7.0, 0.7, 0.6, 0.8, 0.7],
}
BENEFIT_GROUPS = {
    "measure": ["lesions spared by group of predicted benefit"] * 2,
    "subgroup": ["group 1 of 2", "group 2 of 2"],
    "arm": ["drug"] * 2,
    "reference": ["placebo"] * 2,
    "estimate": [1.0, 3.0],
    "lower": [0.5, 2.0],
    "upper": [1.5, 4.0],
}
#: Name of the figure: how it is drawn and the columns it documents as needed.
INJECTED = {
    "analysis": ["alone", "alone", "count a patient", "count a patient"],
    "where": ["own grid", "4 mm grid", "side by side", "side by side"],
    "group": ["all", "all", "0% vanish", "50% vanish"],
    "estimate": [0.9, 0.8, 6.0, 3.0],
    "lower": [0.8, 0.7, 6.0, 2.5],
    "upper": [1.0, 0.9, 6.0, 3.5],
}
TABLES: dict[str, tuple[Draw, dict[str, list[Any]]]] = {
    "agreement_scatter": (figures.agreement_scatter, AGREEMENT),
    "benchmark_bars": (partial(figures.benchmark_bars, value_label="CRPS"), {"name": ["a", "b"], "value": [1.0, 2.0]}),
    "benefit_curves": (figures.benefit_curves, CURVES),
    "benefit_groups": (figures.benefit_groups, BENEFIT_GROUPS),
    "bounds_over_rho": (
        partial(figures.bounds_over_rho, quantity="probability of benefit"),
        {"rho": [0.0, 1.0], "estimate": [0.3, 0.4], "lower_bound": [0.1, 0.1], "upper_bound": [0.5, 0.5]},
    ),
    "conflict_grid": (
        figures.conflict_grid,
        {"prior": ["power", "power"], "rate_ratio_of_controls": [1.0, 1.5], "type_1_error": [0.02, 0.4], "power": [0.9, 0.6]},
    ),
    "count_distribution": (
        figures.count_distribution,
        {"arm": ["placebo", "placebo"], "count": [0, 1], "share": [0.25, 0.75]},
    ),
    "coverage": (figures.coverage, {"level": [0.5, 0.9], "coverage": [0.55, 0.93]}),
    "effect_forest": (figures.effect_forest, CONTRASTS),
    "injection": (figures.injection, INJECTED),
    "learning_curve": (
        figures.learning_curve,
        {"step": [0, 1], "value": [2.0, 1.0], "series": ["training", "training"]},
    ),
    "mean_cumulative_functions": (
        figures.mean_cumulative_functions,
        {"arm": ["placebo"] * 2, "time": [24, 48], "mean": [1.0, 1.5], "lower": [0.5, 1.0], "upper": [2.0, 2.3]},
    ),
    "pit_curve": (figures.pit_curve, {"u": [0.3, 0.6], "pit": [0.35, 0.9], "lower": [0.2, 0.5], "upper": [0.4, 0.7]}),
    "pit_histogram": (
        figures.pit_histogram,
        {"lower_edge": [0.0, 0.5], "upper_edge": [0.5, 1.0], "density": [1.2, 1.9], **BAND},
    ),
    "reliability": (
        figures.reliability,
        {"forecast": [0.2, 0.6], "frequency": [0.25, 0.9], "lower": [0.1, 0.4], "upper": [0.3, 0.8]},
    ),
    "rootogram": (
        figures.rootogram,
        {"count": [0, 1], "observed": [9, 1], "expected": [8.0, 2.0], "lower": [5, 2], "upper": [10, 5]},
    ),
    "subgroup_forest": (
        figures.subgroup_forest,
        {name: CONTRASTS[name] for name in ("subgroup", "measure", "estimate", "lower", "upper")},
    ),
    "tipping_point_curve": (
        figures.tipping_point_curve,
        {
            "arm": ["drug"] * 2,
            "delta": [1.0, 2.0],
            "estimate": [0.6, 0.8],
            "lower": [0.4, 0.6],
            "upper": [0.9, 1.1],
            "p_value": [0.01, 0.2],
            "level": [0.95, 0.95],
        },
    ),
    "voxel_risk": (
        figures.voxel_risk,
        {"forecast": [1e-3, 1e-2], "frequency": [2e-3, 1e-2], "lower": [5e-4, 5e-3], "upper": [1.5e-3, 2e-2]},
    ),
}
#: Words that the alternative text must hold: the numbers that are drawn.
SAYS = {
    "agreement_scatter": ("a simulated 0.55, randomised 0.5", "b simulated 0.7, randomised 0.8"),
    "benchmark_bars": ("CRPS", "a 1, b 2"),
    "benefit_curves": ("lesions spared 2 of all, 4 of the most promising 50%", "ratio 0.5 and 0.4"),
    "benefit_groups": ("group 1 of 2 1 (0.5 to 1.5)", "group 2 of 2 3 (2 to 4)"),
    "bounds_over_rho": ("0.300 at rho 0 to 0.400 at rho 1", "0.100 to 0.500"),
    "conflict_grid": ("power at most 40.0% type I error",),
    "count_distribution": ("placebo none 25%, mean 0.75",),
    "coverage": ("50% level 55.0%", "90% level 93.0%"),
    "effect_forest": ("0.500 (0.400 to 0.620, randomised)", "age >= 40", "transported"),
    "injection": ("own grid 90%, 4 mm grid 80%", "Mean count: 6.0, 3.0"),
    "learning_curve": ("training from 2 to 1",),
    "mean_cumulative_functions": ("placebo 1.5 (1 to 2.3) at time 48",),
    "pit_curve": ("1 of 2 points lie outside the band",),
    "pit_histogram": ("1 of 2 bins lie outside the band",),
    "reliability": ("1 of 2 forecasts lie outside the band",),
    "rootogram": ("counts 0 to 1", "1 of 2 counts lie outside the band"),
    "tipping_point_curve": ("drug 0.6 at 1 to 0.8 at 2", "p above 0.05 from delta 2"),
    "voxel_risk": ("frequency from 0.002 to 0.01", "1 of 2 classes lie outside the band"),
    "subgroup_forest": ("all patients, observed 0.500 (0.400 to 0.620)", "age >= 40"),
}


def _drawn(name: str, **changes: Any) -> Figure:
    draw, columns = TABLES[name]
    return draw(pd.DataFrame({**columns, **changes}))


def _lines(axes: Axes) -> list[tuple[list[float], list[float]]]:
    return [(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) for line in axes.lines]


def test_every_public_figure_is_tested() -> None:
    elsewhere = {
        "registration",
        "risk_maps",
        "training_log",
        "lesion_frequency",
        "bounds_page",
        "counterfactual_pages",
        "diagnostics_page",
        "save_figure",
    }
    assert {*TABLES, *elsewhere, "benefit_comparisons"} >= set(figures.__all__)


@pytest.mark.parametrize("name", TABLES)
def test_figure_is_drawn_and_says_what_it_shows(name: str) -> None:
    figure = _drawn(name)
    figure.canvas.draw()
    assert any(axes.has_data() for axes in figure.axes)
    for words in SAYS[name]:
        assert words in str(figure.get_label())


@pytest.mark.parametrize(("name", "column"), [(name, column) for name, (_, columns) in TABLES.items() for column in columns])
def test_missing_column_is_named(name: str, column: str) -> None:
    draw, columns = TABLES[name]
    with pytest.raises(InputError, match=f"no column '{column}'; add it") as refused:
        draw(pd.DataFrame(columns).drop(columns=column))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", TABLES)
def test_table_without_rows_is_refused(name: str) -> None:
    draw, columns = TABLES[name]
    with pytest.raises(InputError, match="no rows"):
        draw(pd.DataFrame(columns).iloc[:0])


def test_forest_marks_lie_at_the_estimates_and_open_marks_are_transported() -> None:
    axes = _drawn("effect_forest").axes[0]
    marks = [line for line in axes.lines if line.get_marker() == "o" and len(np.asarray(line.get_xdata()))]
    assert [float(np.asarray(mark.get_xdata())[0]) for mark in marks] == [0.5, 0.72]
    assert [mark.get_markerfacecolor() == "white" for mark in marks] == [False, True]
    assert ([0.4, 0.62], [0.0, 0.0]) in _lines(axes)
    assert axes.get_xscale() == "log"


def test_benefit_curves_draw_intervals_inside_their_bands() -> None:
    spared, ratio = _drawn("benefit_curves").axes
    assert ([50.0, 100.0], [4.0, 2.0]) in _lines(spared)
    assert ([50.0, 50.0], [2.0, 6.0]) in _lines(spared)
    assert ([100.0, 100.0], [0.3, 0.7]) in _lines(ratio)
    band = spared.collections[0].get_paths()[0].vertices
    assert {(50.0, 1.0), (50.0, 7.0), (100.0, 0.5), (100.0, 3.5)} <= {(float(x), float(y)) for x, y in band}
    assert ratio.get_yscale() == "log"


def test_benefit_of_two_comparisons_is_not_drawn_as_one() -> None:
    with pytest.raises(InputError, match="rows of 2 comparisons"):
        _drawn("benefit_groups", arm=["drug", "other"])


def test_difference_is_drawn_on_a_linear_axis_around_zero() -> None:
    axes = _drawn("effect_forest", measure=["rate difference"] * 2).axes[0]
    assert axes.get_xscale() == "linear"
    assert any(xs == [0, 0] for xs, _ in _lines(axes))


def test_rootogram_bars_hang_from_the_expected_curve() -> None:
    bars = _drawn("rootogram").axes[0].patches
    # square-root scale: bars run from sqrt(expected) down by sqrt(observed)
    assert [bar.get_y() + max(bar.get_height(), 0) for bar in bars] == pytest.approx(np.sqrt([8, 2]))
    assert [abs(bar.get_height()) for bar in bars] == pytest.approx([3, 1])


def test_pit_bins_outside_their_band_have_another_colour() -> None:
    inside, outside = _drawn("pit_histogram").axes[0].patches[:2]
    assert inside.get_facecolor() != outside.get_facecolor()


def test_pit_curve_shows_observed_minus_uniform() -> None:
    assert any(ys == pytest.approx([0.05, 0.3]) for _, ys in _lines(_drawn("pit_curve").axes[0]))


def test_counts_from_the_last_one_on_are_shown_together() -> None:
    table = pd.DataFrame({"arm": ["placebo"] * 4, "count": [0, 1, 2, 9], "share": [0.4, 0.3, 0.2, 0.1]})
    panel = figures.count_distribution(table, most=2).axes[0]
    assert [bar.get_height() for bar in panel.patches] == pytest.approx([0.4, 0.3, 0.3])
    assert [label.get_text() for label in panel.get_xticklabels()][-1] == "2+"


def test_risk_map_shows_the_slice_with_the_largest_risk() -> None:
    flair, risk = np.ones((4, 5, 3)), np.zeros((4, 5, 3))
    risk[1, 2, 2] = 0.25
    figure = figures.risk_maps(flair, {"placebo": risk, "ocrelizumab": risk / 2})
    label = str(figure.get_label())
    assert "slice 2: placebo, highest voxel risk 0.250" in label
    assert "ocrelizumab, highest voxel risk 0.125" in label
    assert np.nanmax(np.ma.filled(figure.axes[1].images[-1].get_array(), 0)) == 0.25


@pytest.mark.parametrize(
    ("risks", "words"),
    [
        ({}, "no arm given"),
        ({"placebo": np.zeros((4, 5, 2))}, "risk map of placebo: shape"),
        ({"placebo": np.full((4, 5, 3), 1.5)}, "expected probabilities from 0 to 1"),
    ],
)
def test_risk_map_that_is_none_is_refused(risks: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        figures.risk_maps(np.ones((4, 5, 3)), risks)


LOG = pd.DataFrame(
    {
        "stage": ["risk", "risk", "denoiser"],
        "step": [1, 2, 1],
        "loss": [3.0, 2.0, 1.0],
        "count_crps": [2.0, 1.9, None],
        "place_log_score": [None, 4.0, None],
    }
)


def test_training_log_draws_every_column_of_every_stage() -> None:
    panels = {(axes.get_title(loc="left"), axes.get_ylabel()): _lines(axes)[0] for axes in training_log(LOG).axes}
    assert panels[("risk stage", "training loss")] == ([1, 2], [3.0, 2.0])
    assert panels[("risk stage", "validation CRPS of the count")] == ([1, 2], [2.0, 1.9])
    assert panels[("risk stage", "validation nats a lesion (place)")][1][-1] == 4.0
    assert panels[("denoiser stage", "training loss")] == ([1], [1.0])
    assert len(panels) == 4


@pytest.mark.parametrize("column", ["stage", "step", "loss"])
def test_training_log_without_a_column_is_refused(column: str) -> None:
    with pytest.raises(InputError, match=f"no column '{column}'; add it"):
        training_log(LOG.drop(columns=column))


def test_training_log_says_what_it_shows() -> None:
    assert "risk" in str(training_log(LOG).get_label())


def test_counts_of_a_draws_table_are_drawn_although_they_are_floats() -> None:
    table = pd.DataFrame({"arm": "placebo", "count": [0.0, 1.0, 2.0], "share": [0.5, 0.3, 0.2]})
    heights = [bar.get_height() for bar in figures.count_distribution(table).axes[0].patches]
    assert heights == [0.5, 0.3, 0.2]


def test_lesion_frequency_draws_both_maps_on_one_scale() -> None:
    expected, observed = np.zeros((2, 8, 9, 6))
    expected[3:5, 4, 2:4], observed[3, 4, 2] = 0.2, 0.7
    figure = figures.lesion_frequency(np.ones((8, 9, 6)), expected, observed, slices=[2, 3], smooth_mm=0)
    panels = [axes.images[-1] for axes in figure.axes if len(axes.images) == 2]
    assert len(panels) == 4
    assert {panel.get_clim() for panel in panels} == {(0, 0.7)}
    assert [float(np.ma.filled(panel.get_array(), 0).max()) for panel in panels] == pytest.approx([0.2, 0.2, 0.7, 0])
    assert "expected lesion voxels a patient 0.80, observed 0.70" in str(figure.get_label())


def test_lesion_frequency_is_smoothed_alike_and_keeps_its_mass() -> None:
    expected = np.zeros((21, 21, 21))
    expected[10, 10, 10] = 1.0
    figure = figures.lesion_frequency(np.ones_like(expected), expected, expected, slices=[10], voxel_mm=(2, 2, 2), smooth_mm=8)
    # A Gaussian of 8 mm at 2 mm voxels has a standard deviation of 1.7 voxels, and 1 / (sqrt(2 pi) 1.7)^3 at its middle.
    top = next(axes for axes in figure.axes if len(axes.images) == 2).images[-1].get_clim()[1]
    assert top == pytest.approx((np.sqrt(2 * np.pi) * 8 / 2.3548 / 2) ** -3, rel=0.02)


def test_lesion_frequency_of_another_grid_is_refused() -> None:
    with pytest.raises(InputError, match=r"observed map of shape \(4, 4, 4\), expected that of the anatomy"):
        figures.lesion_frequency(np.ones((5, 4, 4)), np.zeros((5, 4, 4)), np.zeros((4, 4, 4)))
