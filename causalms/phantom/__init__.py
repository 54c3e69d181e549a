"""Simulated trials whose potential outcomes are all known."""

from causalms.phantom.design import Design, load_design
from causalms.phantom.trial import PhantomTrial, simulate_trial
from causalms.phantom.truth import PhantomTruth

__all__ = ["Design", "PhantomTrial", "PhantomTruth", "load_design", "simulate_trial"]
