"""The trials and models that studies are tested on are those of the rooms they study."""

from __future__ import annotations

import pandas as pd

from causalms.causal.evidence import TableTrial
from tests.causal.conftest import big_table, gaussian, gaussian_table, make_outcomes, make_participants, table, truth
from tests.effects.conftest import trial

__all__ = ["big_table", "gaussian", "gaussian_table", "make_outcomes", "make_participants", "table", "trial", "truth"]


def thinned_world(truth, table, arms, seed):
    """Participants with the outcomes of their own arms, and every potential outcome; lesions are thinned by known rates."""
    thinning, trial, rows = truth.for_coupling("ancestral"), TableTrial(table), []
    for participant_id in table["participant_id"]:
        subject = thinning.prepare(trial, participant_id)
        noise = thinning.noise(subject, 0, seed)
        for arm in arms:
            outcome = thinning.push(subject, arm, 48, noise)
            rows.append((participant_id, arm, 48.0, outcome.lesions, thinning.rate(subject, arm, 48), outcome.volume_ml))
    known = pd.DataFrame(rows, columns=["participant_id", "arm", "visit_week", "true_lesions", "true_rate", "volume"])
    own = table.merge(known, on=["participant_id", "arm"])
    return table.assign(net2_lesions_week48=own["true_lesions"], net2_volume_ml_week48=own["volume"]), known
