"""Which session of each participant is the baseline visit: by name, by number or by date, and refused where unclear."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pandas as pd

from causalms.errors import InputError, UsageError
from causalms.tables import counted

_BASELINE = ("baseline", "base", "bl", "bsl", "inclusion", "enrolment", "enrollment", "randomisation", "randomization")
_BEFORE_TREATMENT = ("screening", "screen", "scr", "pre", "pretreatment", "pretx", "predose")
_AFTER = (
    "followup",
    "follow",
    "fu",
    "post",
    "relapse",
    "after",
    "exit",
    "end",
    "eot",
    "eos",
    "final",
    "last",
    "unscheduled",
    "early",
)
_TIME = ("w", "wk", "week", "weeks", "m", "mo", "month", "months", "y", "yr", "year", "years", "d", "day", "days")
_ORDER = ("", "v", "visit", "t", "tp", "timepoint", "scan", "session", "s", "exam", "mr", "mri")


@dataclass(frozen=True)
class Baselines:
    """The baseline session of each participant, and how it was told.

    Parameters
    ----------
    session : mapping of str to (str or None)
        Participant to session label; None for images without session folders. A participant who lacks the visit has the
        label that most others have, so that no file is read in its place.
    note : str or None
        The choice in words; None where every label is ``ses-w00`` or there are no session folders.
    """

    session: Mapping[str, str | None]
    note: str | None


def choose_baselines(root: Path, sessions: Mapping[str, frozenset[str]], named: str | None = None) -> Baselines:
    """The baseline session of each participant.

    In this order: the session that is ``named``; a name that says baseline (baseline, bl, inclusion) or time zero (w00, M00,
    day1); a name that says before treatment (screening, pre); the earliest date in ``sub-*_sessions.tsv``,
    ``*_scans.tsv`` or the name itself (20180131); the lowest number over the whole trial, as a number (2 before 10); the only
    session there is. A session named after a later week, month or year is never baseline.

    Parameters
    ----------
    root : Path
        The BIDS folder.
    sessions : mapping of str to frozenset of str
        Session labels of each participant, ``ses-`` included.
    named : str, optional
        The baseline session, with or without ``ses-``.

    Returns
    -------
    Baselines

    Raises
    ------
    UsageError
        If nobody has the session that is named.
    InputError
        If it is unclear: two sessions fit alike, numbers contradict dates, or names tell nothing.

    Examples
    --------
    >>> chosen = choose_baselines(Path(), {"sub-1": frozenset({"ses-10", "ses-2"})})
    >>> chosen.session["sub-1"], chosen.note
    ('ses-2', 'baseline is session ses-2 (the lowest number)')
    """
    every = sorted(frozenset().union(*sessions.values()))
    if named is not None:
        return _as_named(named, every, sessions)
    if not every:
        return Baselines(dict.fromkeys(sessions), None)
    by_name = {name: label for name, own in sessions.items() if (label := _named_baseline(name, own)) is not None}
    by_date = {name: dates for name, own in sessions.items() if own and (dates := _dates(root, name, own))}
    if by_name:
        for name, label in by_name.items():
            dates = {one: day for one, day in by_date.get(name, {}).items() if one == label or not _says_before_treatment(one)}
            _refuse_earlier_date(root / name, label, dates, "is baseline by its name")
        return _baselines(sessions, by_name, {"by its name"})
    lowest = _lowest_number(every)
    if lowest is not None:
        by_number = {name: lowest for name, own in sessions.items() if lowest in own}
        for name, label in by_number.items():
            _refuse_earlier_date(root / name, label, by_date.get(name, {}), "has the lowest number")
        return _baselines(sessions, by_number, {"the lowest number"})
    earliest: dict[str, str] = {}
    for name, own in sessions.items():
        candidates = {label for label in own if not _is_later(label)}
        if len(candidates) > 1:
            if not candidates <= by_date.get(name, {}).keys():
                raise _unclear(root / name, candidates, _no_date(root, name))
            first = min(by_date[name][label] for label in candidates)
            fits = [label for label in candidates if by_date[name][label] == first]
            if len(fits) > 1:
                raise _unclear(root / name, fits, f"; both have {first.isoformat()}" if len(fits) == 2 else f"; all have {first}")
            earliest[name] = fits[0]
        elif candidates:
            earliest[name] = next(iter(candidates))
    if not earliest:
        return _baselines(sessions, {}, set())
    dated = any(sum(not _is_later(label) for label in sessions[name]) > 1 for name in earliest)
    alone = all(len(sessions[name]) == 1 for name in earliest)
    only = "the only session" if alone else "the only one whose name says no later visit"
    return _baselines(sessions, earliest, {"the earliest date" if dated else only})


def _as_named(named: str, every: list[str], sessions: Mapping[str, frozenset[str]]) -> Baselines:
    label = named if named.startswith("ses-") else f"ses-{named}"
    if label not in every:
        there = ", ".join(name.removeprefix("ses-") for name in every[:12]) or "none"
        raise UsageError(f"`baseline={named!r}`: no participant has session {label}; sessions there: {there}")
    return Baselines(dict.fromkeys(sessions, label), f"baseline is session {label} (as named)")


def _baselines(sessions: Mapping[str, frozenset[str]], chosen: Mapping[str, str], how: set[str]) -> Baselines:
    """The choice for everybody: who has no baseline visit gets the label that most have."""
    counts = Counter(chosen.values())
    usual = min(counts, key=lambda label: (-counts[label], label)) if counts else "ses-w00"
    session = {name: chosen.get(name, usual) for name in sessions}
    if set(session.values()) == {"ses-w00"}:
        return Baselines(session, None)
    labels = ", ".join(f"{label} ({counted(count, 'participant')})" for label, count in sorted(counts.items())[:6])
    one = f"baseline is session {usual}"
    several = f"baseline is session {labels}{', ...' if len(counts) > 6 else ''}"
    return Baselines(session, f"{one if len(counts) == 1 else several}{''.join(f' ({reason})' for reason in sorted(how))}")


def _named_baseline(participant_id: str, own: Iterable[str]) -> str | None:
    """The one session whose name says baseline, or before treatment; None if no name does."""
    for says in (_says_baseline, _says_before_treatment):
        fits = sorted(label for label in own if says(label))
        if len(fits) > 1:
            raise _unclear(Path(participant_id), fits)
        if fits:
            return fits[0]
    return None


def _refuse_earlier_date(where: Path, label: str, dates: Mapping[str, date], why: str) -> None:
    """Refuse a baseline that another session's date contradicts."""
    first = min(sorted(dates), key=lambda one: dates[one]) if len(dates) > 1 else label
    if first != label and dates.get(label) != dates[first]:
        raise InputError(
            f"{where}: session {label} {why}, {first} has the earliest date; name the baseline with "
            f"`baseline={first.removeprefix('ses-')!r}` or correct the dates"
        )


def _no_date(root: Path, participant_id: str) -> str:
    """The first time in a participant's tables of dates that cannot be read, in words; empty where there is none."""
    listed = root / participant_id / f"{participant_id}_sessions.tsv"
    columns = ""
    for file in [listed, *sorted((root / participant_id).glob(f"ses-*/{participant_id}_ses-*_scans.tsv"))]:
        table = pd.read_csv(file, sep="\t", dtype=str, encoding="utf-8-sig") if file.is_file() else pd.DataFrame()
        if "acq_time" in table:
            given = table["acq_time"].dropna()
            wrong = given[pd.to_datetime(given, errors="coerce", format="ISO8601").isna()]
            if len(wrong):
                where = "its acq_time" if file == listed else f"acq_time of {file.name}"
                return f"; {where} {wrong.iloc[0]!r} is no date, write 2018-03-01"
        elif file == listed and len(table):
            columns = f"; it has the columns {', '.join(table.columns)}"
    return columns


def _unclear(where: Path, labels: Iterable[str], more: str = "") -> InputError:
    names = sorted(labels)
    return InputError(
        f"{where}: sessions {', '.join(names)}: unclear which is baseline; name it with "
        f"`baseline={names[0].removeprefix('ses-')!r}`, or give dates in {where.name}_sessions.tsv (session_id, acq_time){more}"
    )


def _parts(label: str) -> tuple[str, int | None]:
    """Letters and number of a label: ``ses-M06`` gives ("m", 6), ``ses-screening`` ("screening", None)."""
    plain = re.sub(r"[^a-z0-9]", "", label.removeprefix("ses-").lower())
    match = re.fullmatch(r"([a-z]*)(\d+)([a-z]*)", plain)
    if match is None or (match.group(1) and match.group(3)):
        return plain, None
    return match.group(1) or match.group(3), int(match.group(2))


def _says_baseline(label: str) -> bool:
    letters, number = _parts(label)
    if letters in _TIME:
        return number == 0 or (letters in ("d", "day") and number == 1)
    return letters in _BASELINE or letters.startswith("baseline") or letters.endswith("baseline")


def _says_before_treatment(label: str) -> bool:
    return _parts(label)[0] in _BEFORE_TREATMENT


def _is_later(label: str) -> bool:
    """Whether the name says a visit after baseline: a later time, or a word such as follow-up."""
    letters, number = _parts(label)
    return (letters in _TIME and bool(number)) or letters.startswith(_AFTER)


def _lowest_number(labels: Iterable[str]) -> str | None:
    """The label of the lowest number, if all that are not later by name are numbers of one kind (2, 10; V1, V2)."""
    numbers: dict[str, int] = {}
    kinds = set()
    for label in labels:
        if _is_later(label):
            continue
        letters, number = _parts(label)
        if letters not in _ORDER or number is None or _date_in(label) is not None:
            return None
        kinds.add(letters)
        numbers[label] = number
    lowest = min(numbers.values(), default=-1)
    fits = sorted(label for label, number in numbers.items() if number == lowest)
    if len(kinds) > 1 or len(fits) > 1:
        return None
    return fits[0] if fits else None


def _date_in(label: str) -> date | None:
    digits = re.sub(r"\D", "", label)
    if not re.fullmatch(r"(19|20)\d{6}", digits) or re.search(r"[a-z]", label.removeprefix("ses-").lower()):
        return None
    try:
        return datetime.strptime(digits, "%Y%m%d").date()
    except ValueError:
        return None


def _dates(root: Path, participant_id: str, own: Iterable[str]) -> dict[str, date]:
    """Date of each session that has one: in its name, in sessions.tsv or, the earliest, in its scans.tsv."""
    listed = _column(root / participant_id / f"{participant_id}_sessions.tsv", "session_id")
    dates: dict[str, date] = {}
    for label in own:
        scans = _column(root / participant_id / label / f"{participant_id}_{label}_scans.tsv", "filename")
        days = [day for name, day in listed if f"ses-{name.removeprefix('ses-')}" == label] or [day for _, day in scans]
        named = _date_in(label)
        if named is not None or days:
            dates[label] = named if named is not None else min(days)
    return dates


def _column(file: Path, key: str) -> list[tuple[str, date]]:
    """Pairs of key and date of acquisition in a BIDS table; rows without a readable date are left out."""
    if not file.is_file():
        return []
    try:
        table = pd.read_csv(file, sep="\t", dtype=str, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not a readable tab-separated table; export it again") from error
    if key not in table or "acq_time" not in table:
        return []
    days = pd.to_datetime(table["acq_time"], errors="coerce", format="ISO8601")
    return [(str(name), day.date()) for name, day in zip(table[key], days, strict=True) if not pd.isna(day)]
