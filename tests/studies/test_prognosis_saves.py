"""The study of what a prognosis saves, on its own population: it saves, a scrambled one is unbiased, planned power is had."""

from __future__ import annotations

import numpy as np
import pandas as pd

from studies.prognosis_saves import results


def test_right_prognosis_saves_scrambled_one_is_unbiased_and_planned_power_is_had() -> None:
    rng = np.random.default_rng(0)
    rate = np.exp(rng.normal(0.5, 0.9, 2000))
    frailty = rng.gamma(2, 0.5, 2000)
    people = pd.DataFrame(
        {
            "under_reference": rate,
            "under_arm": 0.6 * rate,
            "y0": rng.poisson(rate * frailty),
            "y1": rng.poisson(0.6 * rate * frailty),
        }
    )
    table = results(people, trials=60, n=100, seed=1).set_index("prognosis")
    right, scrambled = table.loc["generator, per arm"], table.loc["scrambled"]
    assert right["saved_lower"] > 5
    assert abs(scrambled["bias"]) < 4 * scrambled["bias_mcse"]
    assert (abs(table["power"] - table["power_planned"]) < 0.03 + 3 * table["power_mcse"]).all()
