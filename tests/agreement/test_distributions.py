"""Distance of simulated from observed count distributions, arm by arm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.agreement import compare_arms
from causalms.errors import UsageError


def test_distance_of_count_distributions_holds_its_level_and_finds_bias() -> None:
    def trial(seed: int, factor: float) -> tuple[pd.DataFrame, pd.DataFrame]:
        rng = np.random.default_rng(seed)
        mean = np.exp(rng.normal(0.5, 1, 40))
        draws = pd.DataFrame({"participant_id": np.repeat(np.arange(40), 8), "draw": np.tile(np.arange(8), 40)})
        draws["net2_lesions"] = rng.negative_binomial(0.5, 0.5 / (0.5 + mean[draws["participant_id"]] * factor))
        keys = {"trial": "T", "arm": "placebo", "arm_randomised": "placebo", "visit_week": 48.0}
        people = pd.DataFrame({"participant_id": range(40), "trial": "T", "arm": "placebo"})
        people["net2_lesions_week48"] = rng.negative_binomial(0.5, 0.5 / (0.5 + mean))
        return draws.assign(**keys, query="interventional", query_id="q"), people

    # 150 trials at 5%: the 0.0005 and 0.9995 quantiles of a binomial are 1 and 18.
    rejected = sum(compare_arms(*trial(seed, 1.0), repetitions=99)["p_value"].iloc[0] <= 0.05 for seed in range(150))
    assert 1 <= rejected <= 18
    assert compare_arms(*trial(1, 4.0))["p_value"].iloc[0] < 0.01
    with pytest.raises(UsageError, match="expected table"):
        compare_arms(trial(1, 1.0)[0].drop(columns="draw"), trial(1, 1.0)[1])
