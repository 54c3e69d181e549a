"""Simulated trials whose potential outcomes are all known."""

from causalms.phantom.design import load_design
from causalms.phantom.folder import load_truth, write_simulated_trial
from causalms.phantom.trial import PhantomTrial, simulate_trial
from causalms.phantom.truth import PhantomTruth

__all__ = ["PhantomTrial", "PhantomTruth", "load_design", "load_truth", "simulate_trial", "write_simulated_trial"]
