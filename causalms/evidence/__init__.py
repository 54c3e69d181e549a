"""Agreement of the simulator with randomised arms, those at hand and those that were published."""

from causalms.evidence.agreement import Agreement, agree

__all__ = ["Agreement", "agree"]
