"""The benchmark: patients are the frozen ones, the truth scores perfectly, an outside file enters by the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from causalms.benchmark import ArmMeans, FrozenTrials, frozen, frozen_trials, judge, leaderboard, score_entrant
from causalms.benchmark.score import known_outcomes
from causalms.errors import InputError
from causalms.phantom import simulate_trial
from causalms.stats import DrawsLaw, NegativeBinomialLaw
from causalms.trials import Trial
from tests.conftest import Run, refused

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "benchmark_entrant.py"


@pytest.fixture(scope="module")
def trials() -> FrozenTrials:
    return FrozenTrials(simulate_trial(frozen.DESIGN, 60, 1), simulate_trial(frozen.DESIGN, 20, 2))


class Oracle:
    """Says what is true of the test trial."""

    name = "oracle"

    def __init__(self, trials: FrozenTrials) -> None:
        self.truth = trials.test.truth

    def fit(self, trial: Trial) -> None:
        """Nothing to learn."""

    def counts(self, trial: Trial, arms: tuple[str, ...], week: float) -> NegativeBinomialLaw:
        rates = self.truth.rates(week).loc[list(trial.participants["participant_id"]), list(arms)]
        return NegativeBinomialLaw(rates.to_numpy().ravel(), np.full(rates.size, self.truth.design.counts.size))

    def masks(self, trial: Trial, participant_id: str, arm: str, week: float, draws: int, seed: int) -> np.ndarray:
        assert "net2_lesions_week96" not in trial.participants
        return np.stack([self.truth.potential_mask(participant_id, arm, week)] * draws)


def test_the_truth_has_no_error_and_changes_masks_as_they_change(trials: FrozenTrials) -> None:
    scores = score_entrant(Oracle(trials), trials).set_index("measure")["estimate"]
    assert scores[["R2", "PEHE", "rate ratio / truth, worst arm"]].to_numpy() == pytest.approx([1, 0, 1], abs=1e-6)
    assert scores[["counterfactual effectiveness", "counterfactual amplification"]].to_numpy() == pytest.approx([1, 0], abs=1e-6)
    assert scores["sampled / seen lesions on placebo"] == 1
    assert "location, nats a lesion" not in scores
    worse = score_entrant(ArmMeans(), trials).set_index("measure")["estimate"]
    assert worse["CRPS"] > scores["CRPS"]
    assert worse["R2"] == pytest.approx(0, abs=1e-9)


def test_a_difference_of_two_forecasts_is_of_the_same_patients(trials: FrozenTrials) -> None:
    known = known_outcomes(trials.test, trials.test.truth.design.arms)
    own, other = (NegativeBinomialLaw(factor * known.rate.ravel(), np.full(known.rate.size, known.size)) for factor in (1.0, 1.5))
    difference, first, second = (
        judge(law, known, 50, against=against).set_index(["measure", "arm"])
        for law, against in ((own, other), (own, None), (other, None))
    )
    for row in (("CRPS", ""), ("R2 of log rate", ""), ("rate ratio / truth", "ocrelizumab")):
        assert difference.loc[row, "estimate"] == pytest.approx(first.loc[row, "estimate"] - second.loc[row, "estimate"])
    assert difference.loc[("CRPS", ""), "upper"] - difference.loc[("CRPS", ""), "lower"] < 0.5 * (
        first.loc[("CRPS", ""), "upper"] - first.loc[("CRPS", ""), "lower"]
    )
    nothing = judge(own, known, 50, against=own)
    assert (nothing[["estimate", "lower", "upper"]] == 0).all(axis=None)
    assert "PIT p-value" not in set(nothing["measure"])


class Silent(ArmMeans):
    """Forecasts no lesion for anybody."""

    def counts(self, trial: Trial, arms: tuple[str, ...], week: float) -> DrawsLaw:
        return DrawsLaw(np.zeros((len(trial) * len(arms), 4)))


def test_a_model_without_lesions_is_scored_and_has_no_ratio(trials: FrozenTrials) -> None:
    scores = score_entrant(Silent(), trials).set_index("measure")["estimate"]
    assert np.isnan(scores["rate ratio / truth, worst arm"])
    assert scores["activity AUC"] == 0.5


def test_patients_have_the_frozen_digest_and_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # eight patients of the training seed; the trials themselves are verified whenever they are used
    assert frozen.digest(simulate_trial(frozen.DESIGN, 8, 9001))[:16] == "407c323093ee1faf"
    monkeypatch.setattr(frozen, "TRAINING", (8, 1))
    with pytest.raises(InputError, match="training trial of the benchmark is not the frozen one"):
        frozen_trials()


def test_an_outside_file_of_under_60_lines_enters(
    run: Run, trials: FrozenTrials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60
    monkeypatch.setattr("causalms.benchmark.frozen_trials", lambda *sizes: trials)
    ended = run("benchmark", EXAMPLE, "--out", tmp_path / "scores.csv")
    assert ended.code == 0, ended.error
    assert "statsmodels on three columns" in ended.printed
    assert "location" in (tmp_path / "scores.csv").read_text()
    (tmp_path / "empty.py").write_text("class Model:\n    name = 'none'\n")
    refused(run("benchmark", tmp_path / "empty.py"), 1, "no class Model with fit, counts")
    refused(run("benchmark", "nothing"), 2, "no such file")


def test_the_leaderboard_is_printed_with_every_entrant(run: Run) -> None:
    printed = run("benchmark").printed
    assert printed.startswith("version 2: 600 patients of the design lifelike")
    board = leaderboard()
    assert board["entrant"].nunique() >= 6
    assert all(name in printed for name in board["entrant"].unique())
