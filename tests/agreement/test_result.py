"""What is printed of an agreement, and its correlation over contrasts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.agreement import correlate
from causalms.errors import RefusalError


def test_correlation_needs_three_contrasts() -> None:
    table = pd.DataFrame({"measure": "rate ratio", "randomised_estimate": [0.2, 0.4], "simulated_estimate": [0.25, 0.35]})
    with pytest.raises(RefusalError, match="fewer than three"):
        correlate(table)


def test_one_simulated_effect_for_all_contrasts_has_no_correlation() -> None:
    table = pd.DataFrame({"measure": "rate ratio", "randomised_estimate": [0.2, 0.4, 0.6, 0.9], "simulated_estimate": 0.5})
    found = correlate(table)
    assert np.isnan(found["estimate"].iloc[0])
