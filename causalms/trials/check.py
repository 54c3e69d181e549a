"""Every problem of a trial folder at once, each in one line with its mend."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from causalms.errors import InputError, named_arguments
from causalms.tables import fixed, net2_column
from causalms.trials.bids import image_path, mask_path, session_of_week, sessions, week_of_session
from causalms.trials.columns import outcome_week
from causalms.trials.layout import Layout
from causalms.trials.lesion_files import LesionFiles
from causalms.trials.nifti import finite, read_volume
from causalms.trials.participants import full_name, read_raw_participants
from causalms.trials.position import position_problem
from causalms.trials.sessions import choose_baselines
from causalms.trials.space import Space
from causalms.trials.table_problems import (
    Problem,
    Rank,
    as_problem,
    folder_problems,
    has_folder,
    table_problems,
    week_problems,
)
from causalms.trials.trial import MODALITIES, Trial
from causalms.trials.unread import images_there


@named_arguments
def check_trial(
    path: str | os.PathLike[str], baseline: str | None = None, lesions: str | os.PathLike[str] | None = None
) -> list[Problem]:
    """List every problem of a trial folder at once, errors and warnings.

    An error stops the verbs that read the trial: an unreadable table, missing or repeated ids, cells that cannot be, arms spelt
    in two ways, participants without a folder or a baseline image, images that cannot be read, are not finite or not in MNI152
    space, grids that differ within a patient, masks that hold more than 0 and 1, an empty brain mask. A warning does
    not, but is most often a slip: an arm of one patient, a column that is not read and looks like a known one, a folder
    without a row, a participant without FLAIR, an empty T2 lesion mask (an empty NET2 or enhancing mask is normal), a NET2
    mask that is missing where the table has the count, sessions that name no week or another week than the table.

    Parameters
    ----------
    path : path-like
        BIDS folder.
    baseline : str, optional
        The session that is baseline; by default told as :func:`causalms.load_trial` tells it.
    lesions : path-like, optional
        Where the baseline lesion masks lie, as in :func:`causalms.load_trial`.

    Returns
    -------
    list of Problem
        Errors first, each with its rank; empty if the folder is in order.

    Examples
    --------
    >>> import tempfile
    >>> check_trial(tempfile.mkdtemp())[0].what + "; " + check_trial(tempfile.mkdtemp())[0].mend
    'no such file; a trial needs a participants table (BIDS)'
    """
    root = Path(path)
    try:
        table = read_raw_participants(root)
    except InputError as error:
        return [as_problem(error)]
    file = str(root / "participants.tsv")
    seen = {name: sessions(root, name) for name in dict.fromkeys(map(full_name, table["participant_id"].dropna()))}
    problems = [*table_problems(table, file), *folder_problems(root, file, seen)]
    baselines, unclear = _baselines(root, seen, baseline)
    problems += unclear
    seen = {name: own for name, own in seen.items() if name in baselines}
    later = Counter(session for name in seen for session in seen[name] if session != baselines[name])
    problems += week_problems(file, table, later)
    layout = Layout(root, baselines, None if lesions is None else LesionFiles(os.fspath(lesions)))
    counted = _weeks_counted(table)
    for participant_id in seen:
        if has_folder(root, participant_id):
            weeks = {week for session in seen[participant_id] if (week := week_of_session(session))}
            problems += _patient(layout, participant_id, weeks, counted.get(participant_id, set()))
    return _errors_first(problems)


def _baselines(
    root: Path, seen: Mapping[str, frozenset[str]], baseline: str | None
) -> tuple[Mapping[str, str | None], list[Problem]]:
    """Baseline session of every participant for whom it is clear, and what is wrong with the others."""
    try:
        return choose_baselines(root, seen, baseline).session, []
    except InputError as error:
        problems = [as_problem(error)]
    clear, unclear = {}, []
    for participant_id, own in seen.items():
        try:
            choose_baselines(root, {participant_id: own}, baseline)
        except InputError as error:
            unclear.append(as_problem(error))
        else:
            clear[participant_id] = own
    if not clear or not unclear:
        return {}, problems
    rest, more = _baselines(root, clear, baseline)
    return rest, [*unclear, *more]


def _errors_first(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: problem.rank != "error")


def summary_table(trial: Trial) -> pd.DataFrame:
    """Patients, images and follow-up masks by trial and arm, for a folder without problems."""
    people = trial.participants.assign(arm=trial.participants["arm"].fillna("not given"))
    grouped = people.groupby(["trial", "arm"], sort=False)
    table = grouped.agg(
        patients=("participant_id", "size"), age_mean_years=("age", "mean"), gd_lesions_mean=("gd_lesions", "mean")
    )
    for week in trial.weeks:
        if net2_column(week) in people:
            table[f"seen_week{week}"] = grouped[net2_column(week)].count()
    means = {name: table[name].map(lambda value: fixed(value, 1)) for name in ("age_mean_years", "gd_lesions_mean")}
    return table.assign(**means).reset_index()


def _weeks_counted(table: pd.DataFrame) -> dict[str, set[int]]:
    """Weeks of which the table has an observed outcome of each participant."""
    counted: dict[str, set[int]] = {}
    for name in table.columns:
        week = outcome_week(str(name))
        for participant_id in table.loc[table[name].notna(), "participant_id"].dropna() if week else ():
            counted.setdefault(full_name(participant_id), set()).add(int(week or 0))
    return counted


def _patient(layout: Layout, participant_id: str, weeks: set[int], counted: set[int]) -> list[Problem]:
    spaces: dict[str, Space] = {}
    problems: list[Problem] = []
    images = [_located(partial(layout.image_file, participant_id, modality), problems) for modality in MODALITIES]
    scans: dict[Path, np.ndarray] = {}
    problems += [] if problems else _lacking(layout, participant_id, images)
    for path in images:
        problems += [] if path is None else _image(path, spaces, scans)
    brain: np.ndarray | None = None
    for kind in ("brain", "T2", "Gd"):
        before = len(problems)
        path = _located(partial(layout.mask_file, participant_id, kind), problems)
        if path is not None:
            inside = _mask(layout, path, kind, 0, spaces, problems)
            brain = inside if kind == "brain" and inside is not None and spaces[path.name].same_as(_first(spaces)) else brain
        elif kind == "T2" and layout.lesions is not None and len(problems) == before:
            what = f"no lesion mask in {layout.lesions.given}; the model runs without it and is less sure"
            problems.append(
                Problem(participant_id, what, "name the file after the participant and the baseline session", "warning")
            )
    for week in sorted(weeks | counted):
        path = _located(partial(layout.mask_file, participant_id, "NET2", week), problems)
        if path is not None:
            _mask(layout, path, "NET2", week, spaces, problems)
        elif week in counted:
            missing = mask_path(participant_id, "NET2", session_of_week(week)).as_posix()
            what = f"is missing although column {net2_column(week)!r} has the count of {participant_id}"
            problems.append(Problem(missing, what, "add the mask; without it the count alone is used", "warning"))
    blank = [
        path
        for path, values in scans.items()
        if np.ptp(values[brain] if brain is not None and brain.shape == values.shape else values) == 0
    ]
    problems += [Problem(str(path), "is the same in every voxel of the brain", "export it again") for path in blank]
    if scans and not blank and len({spaces[path.name] for path in scans}) == 1:
        problems += _position(scans, brain, spaces)
    return [*problems, *_within(participant_id, spaces)]


def _first(spaces: dict[str, Space]) -> Space:
    return next(iter(spaces.values()))


def _lacking(layout: Layout, participant_id: str, images: list[Path | None]) -> Iterator[Problem]:
    """No baseline image at all, or no FLAIR."""
    example = image_path(participant_id, "FLAIR", layout.baseline[participant_id]).as_posix()
    if not any(images):
        there = images_there(layout, participant_id)
        yield Problem(
            participant_id, f"no baseline image; {there}" if there else "no baseline image", f"expected for example {example}"
        )
    elif images[MODALITIES.index("FLAIR")] is None:
        there = ", ".join(name for name, path in zip(MODALITIES, images, strict=True) if path is not None)
        what = f"no FLAIR image (there are {there}); the model runs without it and is less sure"
        yield Problem(participant_id, what, f"add {example} if it was taken", "warning")


def _located(find: Callable[[], Path | None], problems: list[Problem]) -> Path | None:
    """The file, or None after noting why it cannot be told."""
    try:
        return find()
    except InputError as error:
        problems.append(as_problem(error))
        return None


def _position(scans: dict[Path, np.ndarray], mask: np.ndarray | None, spaces: dict[str, Space]) -> Iterator[Problem]:
    """Where the brain does not lie in MNI152 space, or the skull is on."""
    first, space = next(iter(scans)), spaces[next(iter(scans)).name]
    if mask is not None and mask.shape != space.shape:
        return
    brain = np.any([values != 0 for values in scans.values()], axis=0) if mask is None else mask
    if problem := position_problem(list(scans.values()), brain, space):
        what, _, mend = problem.rpartition("; ")
        yield Problem(str(first), what, mend)


def _image(path: Path, spaces: dict[str, Space], scans: dict[Path, np.ndarray]) -> Iterator[Problem]:
    try:
        values, space = read_volume(path)
        spaces[path.name] = space
        finite(path, values)
        scans[path] = values
    except InputError as error:
        yield as_problem(error)


def _mask(
    layout: Layout, path: Path, kind: str, week: int, spaces: dict[str, Space], problems: list[Problem]
) -> np.ndarray | None:
    """The mask, or None after noting what is wrong with it."""
    try:
        inside, spaces[path.name] = layout.read_mask(path, kind, week)
    except InputError as error:
        problems.append(as_problem(error))
        return None
    if not inside.any() and kind in ("brain", "T2"):
        rank: Rank = "error" if kind == "brain" else "warning"
        problems.append(Problem(str(path), "the mask is empty", "segment again, or remove the file if there is none", rank))
    return inside


def _within(participant_id: str, spaces: dict[str, Space]) -> Iterator[Problem]:
    items = list(spaces.items())
    for name, space in items[1:]:
        if not items[0][1].same_as(space):
            yield Problem(
                participant_id,
                f"{items[0][0]} has {items[0][1].describe()}, {name} has {space.describe()}",
                "register and resample the patient's images onto one grid (causalms register, FSL FLIRT, ANTs)",
            )
