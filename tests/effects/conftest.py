from __future__ import annotations

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def trial() -> pd.DataFrame:
    """Sixty patients a arm, negative-binomial counts, one prognostic covariate, four sites, exposure up to a year."""
    rng = np.random.default_rng(20)
    n = 120
    x = rng.normal(size=n)
    arm = np.repeat(["placebo", "drug"], n // 2)
    exposure = rng.uniform(0.5, 1, n)
    rate = exposure * np.exp(1.0 + 0.4 * x + np.where(arm == "drug", np.log(0.5), 0.0))
    return pd.DataFrame(
        {
            "participant_id": [f"p{i}" for i in range(n)],
            "y": rng.poisson(rate * rng.gamma(1.0, 1.0, n)),
            "arm": arm,
            "x": x,
            "site": rng.integers(0, 4, n),
            "exposure_years": exposure,
        }
    )
