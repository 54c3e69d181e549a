"""The regression of counts refuses covariates from which no coefficient can be had."""

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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"age": 40.0}, "column 'age' is 40 for everybody"),
        ({"age": np.inf}, "column 'age' holds a value that is not finite"),
        ({"age": lambda table: 2 * table["edss"]}, "columns age, edss determine each other"),
    ],
)
def test_covariates_without_a_coefficient_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(CausalmsError) as refusal:
        NegativeBinomialMechanism.fit(_people().assign(**change), 48, {"age": "linear", "edss": "linear"})
    assert words in str(refusal.value)
