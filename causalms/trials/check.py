"""Every problem of a trial folder at once, each in one line with its mend."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from causalms.errors import InputError, named_arguments
from causalms.tables import fixed, net2_column
from causalms.trials.bids import image_path, mask_path, session_of_week, sessions, week_of_session
from causalms.trials.dictionary import outcome_week
from causalms.trials.folder import image_file, load_trial, mask_file, own_mask
from causalms.trials.nifti import binary, finite, read_volume
from causalms.trials.participants import read_raw_participants
from causalms.trials.position import measure_position
from causalms.trials.problem import Problem, Rank, as_problem
from causalms.trials.sessions import choose_baselines
from causalms.trials.space import Space
from causalms.trials.table_problems import folder_problems, full_name, has_folder, table_problems, week_problems
from causalms.trials.trial import MODALITIES


@named_arguments
def check_trial(path: str | os.PathLike[str], baseline: str | None = None) -> list[Problem]:
    """List every problem of a trial folder at once, errors and warnings.

    An error stops the verbs that read the trial: an unreadable table, missing or repeated ids, cells that cannot be, arms spelt
    in two ways, participants without a folder or a baseline image, images that cannot be read, are not finite or not in MNI152
    space, grids that differ within or between patients, masks that hold more than 0 and 1, an empty brain mask. A warning does
    not, but is most often a slip: an arm of one patient, a column that is not read and looks like a known one, a folder
    without a row, a participant without FLAIR, an empty T2 lesion mask (an empty NET2 or enhancing mask is normal), a NET2
    mask that is missing where the table has the count, sessions that name no week or another week than the table.

    Parameters
    ----------
    path : path-like
        BIDS folder.
    baseline : str, optional
        The session that is baseline; by default told as :func:`causalms.load_trial` tells it.

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
    try:
        baselines = choose_baselines(root, seen, baseline).session
    except InputError as error:
        return _errors_first([*problems, as_problem(error)])
    later = Counter(session for name in seen for session in seen[name] if session != baselines[name])
    problems += week_problems(file, table, later)
    grids: dict[str, Space] = {}
    for participant_id in seen:
        if has_folder(root, participant_id):
            weeks = sorted(week for session in seen[participant_id] if (week := week_of_session(session)))
            problems += _patient(root, participant_id, baselines[participant_id], weeks, table, grids)
    return _errors_first([*problems, *_between(grids)])


def _errors_first(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: problem.rank != "error")


def summary_table(path: str | os.PathLike[str], baseline: str | None = None) -> pd.DataFrame:
    """Patients, images and follow-up masks by trial and arm, for a folder without problems."""
    trial = load_trial(path, baseline=baseline)
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


def _patient(
    root: Path, participant_id: str, baseline: str | None, weeks: list[int], table: pd.DataFrame, grids: dict[str, Space]
) -> list[Problem]:
    spaces: dict[str, Space] = {}
    problems: list[Problem] = []
    images = [_located(partial(image_file, root, participant_id, modality, baseline), problems) for modality in MODALITIES]
    scans: dict[Path, np.ndarray] = {}
    for path in images:
        problems += [] if path is None else _image(path, spaces, scans)
    if not any(images):
        example = image_path(participant_id, "FLAIR", baseline).as_posix()
        problems.append(Problem(participant_id, "no baseline image", f"add at least one, for example {example}"))
    elif images[MODALITIES.index("FLAIR")] is None:
        example = image_path(participant_id, "FLAIR", baseline).as_posix()
        there = ", ".join(name for name, path in zip(MODALITIES, images, strict=True) if path is not None)
        what = f"no FLAIR image (there are {there}); the model runs without it and is less sure"
        problems.append(Problem(participant_id, what, f"add {example} if it was taken", "warning"))
    for kind in ("brain", "T2", "Gd"):
        path = _located(partial(mask_file, root, participant_id, kind, 0, baseline), problems)
        problems += [] if path is None else _mask(path, spaces, may_be_empty=kind == "Gd")
    counted = {week for name in table.columns if (week := outcome_week(name)) and _has_value(table, participant_id, name)}
    for week in sorted({*weeks, *counted}):
        path = _located(partial(mask_file, root, participant_id, "NET2", week, baseline), problems)
        if path is not None:
            problems += _mask(path, spaces, may_be_empty=True)
        elif week in counted:
            missing = mask_path(participant_id, "NET2", session_of_week(week)).as_posix()
            what = f"is missing although column {net2_column(week)!r} has the count of {participant_id}"
            problems.append(Problem(missing, what, "add the mask; without it the count alone is used", "warning"))
    if scans and len({spaces[path.name] for path in scans}) == 1:
        try:
            brain = own_mask(root, participant_id, "brain", 0, baseline)
        except InputError:  # said where masks are looked at
            brain = None
        problems += _position(scans, brain, spaces)
    if spaces:
        grids[participant_id] = next(iter(spaces.values()))
    return [*problems, *_within(participant_id, spaces)]


def _has_value(table: pd.DataFrame, participant_id: str, column: str) -> bool:
    names = table["participant_id"].astype(str)
    rows = (names == participant_id) | ("sub-" + names == participant_id)
    return bool(table.loc[rows, column].notna().any())


def _located(find: Callable[[], Path | None], problems: list[Problem]) -> Path | None:
    """The file, or None after noting why it cannot be told."""
    try:
        return find()
    except InputError as error:
        problems.append(as_problem(error))
        return None


def _position(
    scans: dict[Path, np.ndarray], mask: tuple[np.ndarray, Space] | None, spaces: dict[str, Space]
) -> Iterator[Problem]:
    """Where the brain does not lie in MNI152 space, or the skull is on."""
    first, space = next(iter(scans)), spaces[next(iter(scans)).name]
    if mask is not None and not mask[1].same_as(space):
        return
    brain = np.any([values != 0 for values in scans.values()], axis=0) if mask is None else mask[0]
    if problem := measure_position(list(scans.values()), brain, space).problem():
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


def _mask(path: Path, spaces: dict[str, Space], may_be_empty: bool) -> Iterator[Problem]:
    try:
        values, space = read_volume(path)
        spaces[path.name] = space
        inside = binary(path, values)
    except InputError as error:
        yield as_problem(error)
        return
    if not inside.any() and not may_be_empty:
        rank: Rank = "error" if "brain" in path.name else "warning"
        yield Problem(str(path), "the mask is empty", "segment again, or remove the file if there is none", rank)


def _within(participant_id: str, spaces: dict[str, Space]) -> Iterator[Problem]:
    items = list(spaces.items())
    for name, space in items[1:]:
        if not items[0][1].same_as(space):
            yield Problem(
                participant_id,
                f"{items[0][0]} has {items[0][1].describe()}, {name} has {space.describe()}",
                "register and resample the patient's images onto one grid (FSL FLIRT, ANTs)",
            )


def _between(grids: dict[str, Space]) -> Iterator[Problem]:
    items = list(grids.items())
    for name, space in items[1:]:
        if not items[0][1].same_as(space):
            yield Problem(
                name,
                f"has {space.describe()}, {items[0][0]} has {items[0][1].describe()}",
                "bring all patients onto one grid (a forecast of one patient alone also works)",
            )
