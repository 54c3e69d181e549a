"""Which session is baseline: names, numbers and dates; never a follow-up, never by the order of strings."""

from pathlib import Path

import pytest

from causalms.errors import InputError, UsageError
from causalms.trials.sessions import choose_baselines


def chosen(*labels, root=Path(), named=None):
    return choose_baselines(root, {"sub-1": frozenset(f"ses-{label}" for label in labels)}, named)


@pytest.mark.parametrize(
    ("labels", "baseline"),
    [
        (("w00", "w48"), "w00"),
        (("w0", "w48"), "w0"),
        (("baseline", "M12"), "baseline"),
        (("BL", "FU1"), "BL"),
        (("M00", "M06", "M12"), "M00"),
        (("M12", "month0"), "month0"),
        (("day1", "day28"), "day1"),
        (("screening", "w24"), "screening"),
        (("screening", "baseline", "w24"), "baseline"),
        (("pre", "post"), "pre"),
        (("2", "10"), "2"),
        (("9", "10", "11"), "9"),
        (("01", "02"), "01"),
        (("V1", "V2", "V10"), "V1"),
        (("visit2", "visit10", "relapse"), "visit2"),
        (("20190301", "20180131"), "20180131"),
        (("mri",), "mri"),
        (("mri", "M12"), "mri"),
        (("before", "after"), "before"),
    ],
)
def test_the_baseline_session_is_the_earliest_visit_that_the_names_tell(labels, baseline):
    assert chosen(*labels).session == {"sub-1": f"ses-{baseline}"}


@pytest.mark.parametrize(
    "labels", [("A", "B"), ("baseline1", "baseline2"), ("1", "V1"), ("screening", "pre"), ("mri", "scanner")]
)
def test_an_unclear_baseline_is_refused_with_the_mend(labels):
    with pytest.raises(InputError, match=r"unclear which is baseline; name it with `baseline='"):
        chosen(*labels)


def test_a_follow_up_is_never_baseline_even_where_it_is_alone():
    assert chosen("M12").session == {"sub-1": "ses-w00"}
    both = choose_baselines(Path(), {"sub-1": frozenset({"ses-baseline", "ses-2"}), "sub-2": frozenset({"ses-2"})})
    assert both.session == {"sub-1": "ses-baseline", "sub-2": "ses-baseline"}


def test_a_participant_who_lacks_the_first_numbered_session_has_no_baseline_of_its_own():
    both = choose_baselines(Path(), {"sub-1": frozenset({"ses-1", "ses-2"}), "sub-2": frozenset({"ses-2"})})
    assert both.session["sub-2"] == "ses-1"


def test_sites_that_name_their_baseline_differently_are_read_together():
    both = choose_baselines(Path(), {"sub-1": frozenset({"ses-BL", "ses-M12"}), "sub-2": frozenset({"ses-M00", "ses-M12"})})
    assert both.session == {"sub-1": "ses-BL", "sub-2": "ses-M00"}
    assert both.note == "baseline is session ses-BL (1 participant), ses-M00 (1 participant) (by its name)"


def dated(folder, rows):
    (folder / "sub-1").mkdir()
    text = "session_id\tacq_time\n" + "".join(f"{name}\t{day}\n" for name, day in rows)
    (folder / "sub-1" / "sub-1_sessions.tsv").write_text(text)
    return folder


def test_dates_of_sessions_tsv_decide_where_names_tell_nothing(tmp_path):
    root = dated(tmp_path, [("ses-A", "2019-05-01T10:00:00"), ("ses-B", "2018-05-01T10:00:00")])
    assert chosen("A", "B", root=root).session == {"sub-1": "ses-B"}


def test_dates_of_scans_tsv_decide_too(tmp_path):
    for label, day in (("A", "2019-05-01"), ("B", "2018-05-01")):
        folder = tmp_path / "sub-1" / f"ses-{label}"
        folder.mkdir(parents=True)
        (folder / f"sub-1_ses-{label}_scans.tsv").write_text(f"filename\tacq_time\nanat/x.nii.gz\t{day}\n")
    assert chosen("A", "B", root=tmp_path).session == {"sub-1": "ses-B"}


def test_numbers_that_contradict_dates_are_refused(tmp_path):
    root = dated(tmp_path, [("1", "2019-05-01"), ("2", "2018-05-01")])
    with pytest.raises(InputError, match="session ses-1 has the lowest number, ses-2 has the earliest date"):
        chosen("1", "2", root=root)


def test_the_named_baseline_wins_and_an_unknown_one_lists_what_is_there():
    assert chosen("A", "B", named="B").session == {"sub-1": "ses-B"}
    with pytest.raises(UsageError, match="no participant has session ses-C; sessions there: A, B"):
        chosen("A", "B", named="C")


def test_the_choice_is_said_except_for_the_canonical_name():
    assert chosen("w00", "w48").note is None
    assert chosen().note is None
    assert chosen("2", "10").note == "baseline is session ses-2 (the lowest number)"


def _with_dates(folder, rows, column="acq_time"):
    (folder / "sub-1").mkdir()
    lines = "".join(f"ses-{label}\t{day}\n" for label, day in rows.items())
    (folder / "sub-1/sub-1_sessions.tsv").write_text(f"session_id\t{column}\n{lines}")
    return folder


def test_a_name_that_the_dates_contradict_is_refused_and_screening_may_come_first(tmp_path):
    _with_dates(tmp_path, {"baseline": "2019-03-01", "M12": "2018-03-01"})
    with pytest.raises(InputError, match="ses-baseline is baseline by its name, ses-M12 has the earliest date"):
        chosen("baseline", "M12", root=tmp_path)
    (tmp_path / "two").mkdir()
    before = _with_dates(tmp_path / "two", {"screening": "2018-02-01", "baseline": "2018-03-01"})
    assert chosen("screening", "baseline", root=before).session == {"sub-1": "ses-baseline"}


def test_a_table_of_sessions_that_does_not_help_is_named_with_what_is_in_it(tmp_path):
    _with_dates(tmp_path, {"A": "01.03.2019", "B": "01.03.2018"})
    with pytest.raises(InputError, match=r"its acq_time '01.03.2019' is no date, write 2018-03-01"):
        chosen("A", "B", root=tmp_path)
    (tmp_path / "two").mkdir()
    with pytest.raises(InputError, match="it has the columns session_id, date"):
        chosen("A", "B", root=_with_dates(tmp_path / "two", {"A": "2019-03-01"}, "date"))


def test_the_only_session_that_is_no_follow_up_by_its_name_is_said_so():
    assert chosen("initial", "followup").note == "baseline is session ses-initial (the only one whose name says no later visit)"
    assert chosen("mri").note == "baseline is session ses-mri (the only session)"


def test_two_sessions_of_one_date_and_dates_of_scans_tsv_that_are_none_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"unclear which is baseline; .*; both have 2018-05-01$"):
        chosen("A", "B", root=dated(tmp_path, [("ses-A", "2018-05-01T09:00:00"), ("ses-B", "2018-05-01T10:00:00")]))
    scans = tmp_path / "two" / "sub-1" / "ses-A" / "sub-1_ses-A_scans.tsv"
    scans.parent.mkdir(parents=True)
    scans.write_text("filename\tacq_time\nanat/x.nii.gz\t01.05.2018\n")
    with pytest.raises(InputError, match=r"acq_time of sub-1_ses-A_scans.tsv '01.05.2018' is no date, write 2018-03-01"):
        chosen("A", "B", root=tmp_path / "two")
