"""Fixed analyses of predicted counts against observed ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from causalms import calibration, stats
from causalms.validation.shipped_tables import Runs, expected_draws, made_trial


def _pairs() -> calibration.Pairs:
    people, draws = made_trial()
    return calibration.pair(draws, people, week=48)


def _of_expected() -> pd.DataFrame:
    """Observed counts of the patients of the expected table."""
    draws = expected_draws()
    people = draws.loc[draws["arm"] == draws["arm_randomised"], ["participant_id", "trial", "arm"]].reset_index(drop=True)
    return people.assign(net2_lesions_week48=np.arange(len(people)) % 7)


def _formula(zero: float = 0.0) -> stats.NegativeBinomialLaw:
    return stats.NegativeBinomialLaw(_pairs().law.mean + 0.1, np.full(_pairs().n, 0.7), np.full(_pairs().n, zero))


def runs() -> Runs:
    """All of them."""
    laws: dict[str, Callable[[], stats.CountLaw]] = {
        "draws": lambda: _pairs().law,
        "formula": _formula,
        "zeros": lambda: _formula(0.2),
    }
    for kind, law in laws.items():
        yield (
            f"{kind}: law",
            lambda law=law: [law().mean, law().variance, law().activity, law().quantile(0.3), *law().interval(0.8)],
        )
        for name, judge in _judges().items():
            yield f"{kind}: {name}", lambda law=law, judge=judge: judge(law(), _pairs().observed)
    yield (
        "assessment",
        lambda: (found := calibration.assess(_pairs(), by=("arm", "age >= 40"), repetitions=49, seed=1)) and vars(found),
    )
    yield "assessment, defaults", lambda: calibration.assess(_pairs()).results
    for name, dispersion in (("", 2.0), (", some Poisson", np.arange(80) // 2 % 2 * 1.5)):
        yield (
            f"expected pairs{name}",
            lambda dispersion=dispersion: [
                pairs := vars(calibration.pair(expected_draws().assign(dispersion=dispersion), _of_expected(), week=48)),
                pairs["law"].mean,
                pairs["law"].pmf(np.arange(40) % 5),
            ],
        )
    for slope in (True, False):
        yield f"recalibrate: {slope}", lambda slope=slope: _recalibrated(slope)
    yield "conformal", _conformal
    yield "conformal, many draws", lambda: _conformal(60)
    sure = stats.NegativeBinomialLaw(np.full(9, 1e-9), np.ones(9))
    yield "certain", lambda: [calibration.coverage_table(sure, np.zeros(9)), calibration.coverage_table(sure, np.ones(9))]
    many = stats.NegativeBinomialLaw(np.linspace(0.5, 9, 3000), np.ones(3000))
    yield "many patients", lambda: calibration.coverage_table(many, np.arange(3000) % 8)
    yield from _places()


def _judges() -> dict[str, Callable[..., Any]]:
    judges: dict[str, Callable[..., Any]] = {
        "pit": calibration.pit_histogram,
        "pit, 7 bins": lambda law, y: calibration.pit_histogram(law, y, bins=7, level=0.8, repetitions=99, seed=3),
        "pit curve": calibration.pit_curve,
        "pit ends": calibration.pit_ends,
        "coverage": calibration.coverage_table,
        "reliability": calibration.reliability,
        "reliability of probabilities": lambda law, y: calibration.reliability(
            law, y, law.activity**1.3, level=0.9, points=9, repetitions=49
        ),
        "rootogram": calibration.rootogram,
        "rootogram, 4": lambda law, y: calibration.rootogram(law, y, 4, 0.8, 99, 2),
    }
    for name in stats.SCORES:
        judges[f"score {name}"] = lambda law, y, name=name: stats.score(name, law, y)
        if name != "dawid-sebastiani":
            judges[f"decomposition {name}"] = lambda law, y, name=name: calibration.decomposition(law, y, name, repetitions=19)
        for method in ("monte-carlo", "normal"):
            judges[f"test {name} {method}"] = lambda law, y, name=name, method=method: calibration.calibration_test(
                law, y, name, method, repetitions=99
            )
    return judges


def _recalibrated(slope: bool) -> list[Any]:
    fitted, judged = calibration.split(_pairs(), 0.5, 1)
    again = calibration.recalibrate(fitted, slope)
    return [again, vars(again.apply(judged)), again.expected(expected_draws()), again.sampled(made_trial()[1], 4)]


def _conformal(draws: int = 12) -> list[Any]:
    people, simulated = made_trial(draws=draws)
    fitted, judged = calibration.split(calibration.pair(simulated, people, week=48))
    sets = [calibration.conformal(fitted, level) for level in (0.8, 0.9, 0.6)]
    return [[one, one.judge(judged), one.table(simulated, 48.0), one.table(expected_draws(), 48.0)] for one in sets]


def _places() -> Runs:
    def maps() -> list[calibration.RiskMap]:
        rng = np.random.default_rng(1)
        risks = [rng.uniform(0, 0.1, (12, 12)) * (rng.random((12, 12)) > 0.3) for _ in range(12)]
        made = []
        for risk in risks:
            mask = rng.random(risk.shape) < 2 * risk
            brain = np.ones(risk.shape, bool)
            brain[0] = False
            made.append(calibration.RiskMap(risk, mask & brain, brain, np.argwhere(mask & brain)[:3]))
        return made

    yield "voxels", lambda: calibration.voxel_reliability(maps())
    yield "voxels, 5 bins", lambda: calibration.voxel_reliability(maps(), 5, 0.8)
    yield "places, defaults", lambda: calibration.place_scores(maps())
    yield "one map", lambda: [calibration.place_scores(maps()[:1]), calibration.voxel_reliability(maps()[:1])]
    yield "frequency maps", lambda: calibration.frequency_maps(maps())
    for reference in (None, np.full((12, 12), 0.05)):
        yield f"places: {reference is None}", lambda reference=reference: calibration.place_scores(maps(), 0.9, reference)
    regions = np.arange(144).reshape(12, 12) % 3
    yield "regions", lambda: [calibration.region_volumes(maps()[:n], regions, 0.064) for n in (12, 2, 1)]
