"""Causal queries over an outcome mechanism: rung 2, rung 3 with its bounds, and their diagnostics."""

from causalms.scm.counts import NegativeBinomialMechanism
from causalms.scm.interventions import Intervention, distribution, policy, read_policy, shift, value
from causalms.scm.mechanism import COUPLINGS, Expected, Mechanism, MechanismBase, Noise, Outcome, Subject
from causalms.scm.model import CausalModel, write_draws

__all__ = [
    "COUPLINGS",
    "CausalModel",
    "Expected",
    "Intervention",
    "Mechanism",
    "MechanismBase",
    "NegativeBinomialMechanism",
    "Noise",
    "Outcome",
    "Subject",
    "distribution",
    "policy",
    "read_policy",
    "shift",
    "value",
    "write_draws",
]
