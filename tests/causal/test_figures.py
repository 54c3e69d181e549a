"""The page of a counterfactual run and its bounds over rho draw what the tables hold."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.causal import CausalModel, Twin, diagnostics_table, rho_sweep
from causalms.causal.diagnostics import THRESHOLDS
from causalms.errors import InputError
from causalms.report.figures.counterfactual import bounds_page, diagnostics_page


@pytest.fixture(scope="module")
def checked(truth, table):
    twins = CausalModel(truth).counterfactual(
        table.head(30), ["placebo", "ocrelizumab"], particles=2, twin=Twin(checked_patients=12)
    )
    return diagnostics_table(twins)


def test_one_table_holds_every_verdict_and_the_points_of_its_figure(checked):
    verdicts, points = checked[checked["verdict"].notna()], checked[checked["series"].notna()]
    assert verdicts.groupby("arm")["diagnostic"].apply(list).tolist() == [list(THRESHOLDS)] * 2
    assert len(verdicts) + len(points) == len(checked)
    exact = points[points["diagnostic"] == "composition"]
    assert (exact["x"] == exact["y"]).all()  # the count model replays every fact
    assert (exact.groupby("arm")["n"].sum() == 12 * 4).all()
    shares = points[points["diagnostic"] == "marginal"]
    assert (shares.groupby(["arm", "series"])["y"].max() == 1.0).all()


def test_the_page_says_every_verdict_and_draws_five_panels(checked):
    page = diagnostics_page(checked, "ocrelizumab")
    assert all(name in page.get_label() for name in THRESHOLDS)
    assert [a.get_title(loc="left") for a in page.axes][-1] == "Verdicts"
    assert len(page.axes) == 6
    drawn = page.axes[0].collections[0].get_offsets()
    table = checked[(checked["arm"] == "ocrelizumab") & (checked["series"] == "pushed back")]
    assert np.asarray(drawn).tolist() == table[["x", "y"]].to_numpy().tolist()


def test_a_page_of_several_worlds_needs_a_name(checked):
    with pytest.raises(InputError, match="has worlds placebo, ocrelizumab; name one"):
        diagnostics_page(checked)
    with pytest.raises(InputError, match="no world 'aspirin'"):
        diagnostics_page(checked, "aspirin")
    with pytest.raises(InputError, match="no column 'series'"):
        diagnostics_page(checked.drop(columns="series"), "placebo")


def test_twins_without_diagnostics_have_no_page(truth, table):
    twins = CausalModel(truth).counterfactual(table.head(4), "ocrelizumab", particles=2, twin=Twin(checked_patients=0))
    with pytest.raises(InputError, match="checked_patients above 0"):
        diagnostics_table(twins)


def test_the_sweep_from_mirrored_to_shared_noise_lies_in_its_bounds(truth, table):
    sweep = rho_sweep(CausalModel(truth), table.head(20), ("ocrelizumab", "placebo"), rhos=(-1.0, 0.0, 1.0), draws=100)
    slack = 4 * sweep["se_monte_carlo"] + 0.02  # the bounds are of the exact laws, the estimates of 100 draws
    assert (sweep["estimate"] >= sweep["lower_bound"] - slack).all()
    assert (sweep["estimate"] <= sweep["upper_bound"] + slack).all()
    harm = sweep[sweep["measure"] == "harm"].set_index("rho")["estimate"]
    assert harm[-1.0] > harm[0.0] > harm[1.0] == 0.0
    assert "harm" in bounds_page(sweep).get_label()
    both = sweep.assign(arm=np.where(sweep["rho"] > 0, "x", "y"))
    with pytest.raises(InputError, match="2 pairs of arms"):
        bounds_page(both)
