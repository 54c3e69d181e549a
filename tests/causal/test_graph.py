"""The Pyro model: noise as a site, worlds that share it, do and condition as Pyro's own handlers."""

from __future__ import annotations

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine

from causalms.causal.evidence import TableTrial
from causalms.causal.graph import Exogenous, evidence_of, intervened, net2_model, run
from causalms.causal.worlds import Randomisation, Tie, Worlds


@pytest.fixture
def patient(truth, table):
    return truth.prepare(TableTrial(table), "sub-0003"), Randomisation.of(table, truth.arms)


def test_noise_is_a_sample_site_with_the_standard_normal_law(truth, patient):
    subject, randomisation = patient
    trace = poutine.trace(net2_model).get_trace(truth, subject, randomisation, range(5), 0)
    site = trace.nodes["U.frailty"]
    assert isinstance(site["fn"], Exogenous)
    assert not site["is_observed"]
    values = site["value"]
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(values).sum()
    assert site["fn"].log_prob(values).sum() == pytest.approx(float(expected))


def test_two_worlds_share_their_noise_exactly_under_do(truth, patient):
    subject, randomisation = patient
    both = intervened(Worlds(np.array([[0], [2]]), np.array([48.0, 48.0])), evidence_of(subject, randomisation))
    code = run(both, truth, subject, randomisation, range(200), 0)["net2_lesions"]
    assert bool((code[1] <= code[0]).all())  # a lower rate with the same noise never gives more lesions
    correlation = np.corrcoef(code[0], code[1])[0, 1]
    assert correlation > 0.5  # separate noise would give about 0, +-0.14 with 200 draws


def test_the_world_of_the_natural_arm_is_the_natural_outcome(truth, patient):
    subject, randomisation = patient
    evidence = evidence_of(subject, randomisation)
    natural = run(pyro.condition(net2_model, data=evidence), truth, subject, randomisation, range(20), 0)
    own = randomisation.arms.index(subject.arm_randomised)
    set_to_own = intervened(Worlds(np.array([[own]]), np.array([96.0])), evidence)
    assert torch.equal(natural["net2_lesions"], run(set_to_own, truth, subject, randomisation, range(20), 0)["net2_lesions"])


def test_do_and_condition_commute(truth, patient):
    subject, randomisation = patient
    noise = truth.noise(subject, 7, 3)
    evidence = evidence_of(subject, randomisation, [noise])
    do = {"arm": torch.tensor([[2]]), "week": torch.tensor([48.0])}
    arguments = (truth, subject, randomisation, [0], 0)
    first = run(poutine.do(poutine.condition(net2_model, data=evidence), data=do), *arguments)
    second = run(poutine.condition(poutine.do(net2_model, data=do), data=evidence), *arguments)
    assert first["net2_lesions"].item() == second["net2_lesions"].item() == truth.push(subject, "ocrelizumab", 48, noise).lesions
    assert first["net2_volume_ml"].item() == second["net2_volume_ml"].item()


def test_do_leaves_everything_before_treatment_as_it_was(truth, patient):
    subject, randomisation = patient
    worlds = Worlds(np.array([[2]]), np.array([48.0]))
    before = run(pyro.condition(net2_model, data=evidence_of(subject, randomisation)), truth, subject, randomisation, [0], 0)
    after = run(intervened(worlds, evidence_of(subject, randomisation)), truth, subject, randomisation, [0], 0)
    for site in ("trial", "arm", "covariates", "U.frailty", "U.count"):
        assert torch.equal(
            before[site],
            after[site],
        ), site


def test_independent_worlds_do_not_share_noise(truth, patient):
    subject, randomisation = patient
    both = intervened(Worlds(np.array([[0], [1]]), np.array([48.0, 48.0])), evidence_of(subject, randomisation))
    code = run(both, truth, subject, randomisation, range(400), 0, Tie("independent", 0.0))["net2_lesions"]
    assert abs(np.corrcoef(code[0], code[1])[0, 1]) < 0.15  # 3 standard errors of 1/sqrt(400)


def test_randomisation_shares_follow_the_trials(table):
    split = table.assign(trial=np.where(table["arm"] == "placebo", "A", "B"))
    randomisation = Randomisation.of(split, ["placebo", "dimethyl-fumarate", "ocrelizumab"])
    assert randomisation.arm_shares[0].tolist() == [1.0, 0.0, 0.0]
    of_b = split.loc[split["trial"] == "B", "arm"].value_counts(normalize=True)
    assert randomisation.arm_shares[1].tolist() == pytest.approx([0.0, of_b["dimethyl-fumarate"], of_b["ocrelizumab"]])
    assert randomisation.trial_shares.tolist() == pytest.approx(split["trial"].value_counts(normalize=True)[["A", "B"]].tolist())


def test_natural_arm_is_sampled_by_the_trials_randomisation(truth, patient):
    subject, randomisation = patient
    pyro.set_rng_seed(0)
    arms = [run(net2_model, truth, subject, randomisation, [0], 0)["arm"].item() for _ in range(300)]
    shares = np.bincount(arms, minlength=3) / 300
    assert np.abs(shares - randomisation.arm_shares[0]).max() < 0.09  # 3 standard errors of a share
