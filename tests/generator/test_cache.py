"""Patients kept as training reads them: the same as read, memory-mapped, and read again where anything changed."""

from pathlib import Path

import numpy as np
import pytest

from causalms.errors import UsageError
from causalms.generator import fill_cache
from causalms.generator.train import data
from causalms.generator.train.data import training_set
from causalms.lesions import LesionRule
from causalms.phantom import simulate_trial, write_simulated_trial
from causalms.shards import Shard
from causalms.trials import load_trial

RULE = LesionRule.default()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bids") / "trial"
    write_simulated_trial(out, "lifelike", patients=4, seed=5)
    return out


def test_shards_fill_a_cache_from_which_everybody_is_read_as_from_the_scans(folder, tmp_path, monkeypatch):
    trial = load_trial(folder)
    read = training_set(trial, RULE, least=1)
    kept = sum(fill_cache(trial, tmp_path, Shard(k, 2)) for k in (1, 2))
    assert kept == len(read) == len(list(tmp_path.iterdir()))
    monkeypatch.setattr(data, "_one_patient", lambda *_: pytest.fail("scans were read"))
    again = training_set(load_trial(folder), RULE, cache=tmp_path, least=1)
    for one, other in zip(read, again, strict=True):
        assert (one.arrays.participant_id, one.arrays.missing, one.arm, one.trial, one.volume_ml) == (
            other.arrays.participant_id, other.arrays.missing, other.arm, other.trial, other.volume_ml)  # fmt: skip
        for name in ("images", "masks", "covariates"):
            first, second = getattr(one.arrays, name), getattr(other.arrays, name)
            assert first.dtype == second.dtype
            np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(one.centres, other.centres)
        assert [(v.week, v.lesions) for v in one.visits] == [(v.week, v.lesions) for v in other.visits]
        assert all(np.array_equal(v.packed_mask, w.packed_mask) for v, w in zip(one.visits, other.visits, strict=True))


def test_a_patient_whose_row_changed_or_whose_file_is_spoilt_is_read_again(folder, tmp_path):
    trial = load_trial(folder)
    fill_cache(trial, tmp_path, Shard(1, 1))
    before = set(tmp_path.iterdir())
    trial.participants.loc[0, "age"] = 77.0
    training_set(trial, RULE, cache=tmp_path, least=1)
    assert len(set(tmp_path.iterdir()) - before) <= 1
    spoilt = sorted(before)[-1]
    spoilt.write_bytes(b"no safetensors")
    training_set(load_trial(folder), RULE, cache=tmp_path, least=1)
    assert spoilt.stat().st_size > 1000


def test_a_trial_in_memory_has_no_cache(tmp_path):
    with pytest.raises(UsageError, match="`cache` is for trials in folders"):
        training_set(simulate_trial("lifelike", patients=4, seed=5), RULE, cache=tmp_path)
