"""The regression of counts leaves out, or refuses, covariates from which no coefficient can be had."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.causal import NegativeBinomialMechanism
from causalms.errors import CausalmsError


def _people() -> pd.DataFrame:
    random = np.random.default_rng(1)
    arms = np.array(["placebo", "drug"])[np.arange(60) % 2]
    table = pd.DataFrame({"participant_id": [f"p{i}" for i in range(60)], "arm": arms, "age": random.normal(40, 8, 60)})
    return table.assign(edss=random.integers(0, 9, 60) / 2, net2_lesions_week48=random.poisson(3, 60))


def test_a_covariate_that_is_not_finite_is_refused_by_name() -> None:
    with pytest.raises(CausalmsError, match="column 'age' holds a value that is not finite"):
        NegativeBinomialMechanism.fit(_people().assign(age=np.inf), 48, {"age": "linear", "edss": "linear"})


@pytest.mark.parametrize("change", [{"age": 40.0}, {"edss": lambda table: 2 * table["age"]}])
def test_a_covariate_without_a_coefficient_is_left_out_and_named(change: dict[str, object]) -> None:
    fitted = NegativeBinomialMechanism.fit(_people().assign(**change), 48, {"age": "linear", "edss": "linear"})
    assert len(fitted.covariates) == 1
    assert "is constant or repeats others and is left out" in fitted.notes[0]
