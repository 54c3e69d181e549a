from __future__ import annotations

import pytest

from causalms.phantom import PhantomTrial, simulate_trial


@pytest.fixture(scope="session")
def trial() -> PhantomTrial:
    """250 patients of the pooled design; what the tests of laws are measured on."""
    return simulate_trial("pooled", patients=250, seed=7)
