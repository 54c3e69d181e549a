from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from causalms.cli.main import app
from causalms.errors import InputError, RefusalError
from causalms.phantom import folder as folder_module
from causalms.phantom import load_truth, simulate_trial, write_simulated_trial
from causalms.trials import load_trial


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_simulated_trial(tmp_path_factory.mktemp("simulated") / "trial", "pooled", patients=12, seed=5).root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes_for_any_number_of_workers(written, tmp_path):
    again = write_simulated_trial(tmp_path / "two", "pooled", patients=12, seed=5, workers=2).root
    assert contents(written) == contents(again)


def test_every_patient_is_written_when_there_are_many_row_groups(written, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "_PATIENTS_A_ROW_GROUP", 5)
    again = write_simulated_trial(tmp_path / "many", "pooled", patients=12, seed=5).root
    assert len(list(again.glob("sub-*"))) == len(load_trial(again)) == 12
    assert load_truth(again).table.equals(load_truth(written).table)
    last = "sub-0012"
    assert np.array_equal(load_truth(again).lesions_of(last).u, load_truth(written).lesions_of(last).u)


def test_folder_and_memory_hold_the_same_patients(written):
    on_disk, simulated = load_trial(written), simulate_trial("pooled", patients=12, seed=5)
    pd.testing.assert_frame_equal(
        on_disk.participants[list(simulated.participants)], simulated.participants, check_dtype=False, rtol=1e-12
    )
    assert on_disk.space == simulated.space
    for pid in simulated.participants["participant_id"][:4]:
        for kind, week in [("brain", 0), ("T2", 0), ("Gd", 0), ("NET2", 24), ("NET2", 48), ("NET2", 96)]:
            one, two = on_disk.mask(pid, kind, week), simulated.mask(pid, kind, week)
            assert (one is None and two is None) or np.array_equal(one, two)
        one, two = on_disk.image(pid, "FLAIR"), simulated.image(pid, "FLAIR")
        # 4096 grey levels on disk: half a level off at most
        assert (one is None and two is None) or np.abs(one - two).max() <= 0.51 * np.ptp(two) / 4095


def test_truth_on_disk_is_the_truth_in_memory(written):
    read, made = load_truth(written), simulate_trial("pooled", patients=12, seed=5).truth
    pd.testing.assert_frame_equal(read.table, made.table, check_exact=True)
    assert read.design == made.design
    for pid in ("sub-0002", "sub-0011"):
        for arm in read.design.arms:
            for week in (10, 24, 96):
                assert np.array_equal(read.potential_mask(pid, arm, week), made.potential_mask(pid, arm, week))
        assert np.array_equal(read.location_intensity(pid), made.location_intensity(pid))


def test_the_trial_can_be_read_without_its_truth(written, tmp_path):
    import shutil

    bare = shutil.copytree(written, tmp_path / "bare", ignore=shutil.ignore_patterns("sourcedata"))
    assert load_trial(bare).participants.equals(load_trial(written).participants)
    with pytest.raises(InputError, match="only trials written by 'causalms simulate'"):
        load_truth(bare)


def test_a_run_that_breaks_off_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise InputError("no space left")

    monkeypatch.setattr(folder_module, "_lesion_table", fail)
    with pytest.raises(InputError, match="no space left"):
        write_simulated_trial(tmp_path / "trial", "pooled", patients=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("truth.json", b"{}", "damaged"),
        ("truth.parquet", b"PAR1 nothing", "not a readable parquet table"),
        ("lesions.parquet", b"PAR1 nothing", "damaged or missing"),
        ("design.yaml", b"name: [", "not readable as YAML"),
    ],
)
def test_damaged_truth_is_one_line_that_names_the_file(written, tmp_path, file, content, words):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(written / "sourcedata", copy / "sourcedata")
    (copy / "sourcedata" / "truth" / file).write_bytes(content)
    with pytest.raises(InputError, match=words) as refusal:
        load_truth(copy).potential_mask("sub-0001", "placebo", 96)
    assert file in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_location_intensity_is_refused_when_the_law_has_changed_since(written, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(written / "sourcedata", copy / "sourcedata")
    record = copy / "sourcedata" / "truth" / "truth.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"seed": 6}))
    with pytest.raises(RefusalError, match="another patient"):
        load_truth(copy).location_intensity("sub-0001")


def test_command_says_what_it_wrote_and_where_the_truth_is(tmp_path):
    ran = CliRunner().invoke(app, ["simulate", str(tmp_path / "t"), "--patients", "4", "--design", "pooled-2131"])
    assert ran.exit_code == 0, ran.output
    assert "4 patients, design pooled-2131, 4mm, seed 1; truth in sourcedata/truth" in ran.output
    assert len(load_trial(tmp_path / "t")) == len(load_truth(tmp_path / "t").roster) == 4


def test_design_file_of_ones_own_can_be_simulated(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(
        "name: own\nweeks: [12]\nrate_ratio: {control: 1.0, new: 0.3}\n"
        "trials: [{name: A, arms: {control: 1, new: 2}, log_rate_week96: 2.5}]\n"
    )
    trial = load_trial(write_simulated_trial(tmp_path / "t", own, patients=6, seed=2).root)
    assert trial.weeks == (12,)
    assert trial.participants["arm"].value_counts().to_dict() == {"new": 4, "control": 2}
    assert load_truth(tmp_path / "t").design.trials[0].arms == {"control": 1.0, "new": 2.0}
