"""Every problem of a trial folder at once, each in one line with its mend."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from causalms.errors import InputError, named_arguments
from causalms.tables import PARTICIPANTS_COLUMNS, net2_column, validate
from causalms.trials.bids import image_path, mask_path, session_of_week, sessions, week_of_session
from causalms.trials.dictionary import outcome_week
from causalms.trials.folder import image_file, load_trial, mask_file, own_mask
from causalms.trials.nifti import binary, finite, read_volume
from causalms.trials.participants import read_raw_participants, respell_sex
from causalms.trials.position import measure_position
from causalms.trials.sessions import choose_baselines
from causalms.trials.space import Space
from causalms.trials.trial import MODALITIES


@dataclass(frozen=True)
class Problem:
    """What is wrong, where, and what to do; ``where`` is a file, a column or a participant."""

    where: str
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.mend}"


@named_arguments
def check_trial(path: str | os.PathLike[str], baseline: str | None = None) -> list[Problem]:
    """List every problem of a trial folder.

    Looked for: an unreadable table, missing or repeated ids, values outside a column's schema, arms of one patient (any drug is
    allowed, but a single patient is most often a misspelling), missing baseline images, images that cannot be read or are not
    finite, grids that differ within a patient or between patients, masks that hold more than 0 and 1, an empty brain or T2
    lesion mask (an empty NET2 or enhancing mask is normal), and NET2 masks that are missing at a visit whose count is in the
    table.

    Parameters
    ----------
    path : path-like
        BIDS folder.
    baseline : str, optional
        The session that is baseline; by default told as :func:`causalms.load_trial` tells it.

    Returns
    -------
    list of Problem
        Empty if the folder is in order.

    Examples
    --------
    >>> import tempfile
    >>> str(check_trial(tempfile.mkdtemp())[0]).split(": ")[1]
    'no such file; a trial needs a participants table (BIDS)'
    """
    root = Path(path)
    try:
        table = read_raw_participants(root)
    except InputError as error:
        where, _, rest = str(error).partition(": ")
        what, _, mend = rest.partition("; ")
        return [Problem(where, what, mend)]
    file = str(root / "participants.tsv")
    problems = [*_identity(table, file), *_values(table, file), *_arms(table, file)]
    ids = [name if name.startswith("sub-") else f"sub-{name}" for name in table["participant_id"].dropna().unique()]
    seen = {name: sessions(root, name) for name in ids}
    try:
        baselines = choose_baselines(root, seen, baseline).session
    except InputError as error:
        return [*problems, _as_problem(error)]
    grids: dict[str, Space] = {}
    for participant_id in ids:
        weeks = sorted(week for session in seen[participant_id] if (week := week_of_session(session)))
        problems += _patient(root, participant_id, baselines[participant_id], weeks, table, grids)
    return [*problems, *_between(grids)]


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
    return table.round(1).reset_index()


def _identity(table: pd.DataFrame, file: str) -> Iterator[Problem]:
    ids = table["participant_id"]
    for row in np.flatnonzero(ids.isna()):
        yield Problem(file, f"row {row + 1} has no participant_id", "fill it in")
    for row in np.flatnonzero(ids.duplicated() & ids.notna()):
        yield Problem(file, f"row {row + 1}: participant {ids.iloc[row]!r} stands twice", "keep one row a participant")


def _values(table: pd.DataFrame, file: str) -> Iterator[Problem]:
    """One problem a column that does not fit the schema."""
    known = table.copy()
    if "sex" in known:
        known["sex"] = respell_sex(known["sex"])
    for column in [name for name in PARTICIPANTS_COLUMNS if name in known and name != "participant_id"]:
        alone = pd.DataFrame({name: pd.Series([None] * len(known), dtype=object) for name in PARTICIPANTS_COLUMNS})
        alone["participant_id"] = [f"sub-{row}" for row in range(len(known))]
        alone["trial"] = "t"
        alone[column] = known[column].fillna("t") if column == "trial" else known[column]
        try:
            validate(alone, "participants", file)
        except InputError as error:
            _, _, rest = str(error).partition(": ")
            what, _, mend = rest.rpartition("; ")
            yield Problem(file, what, mend)


def _arms(table: pd.DataFrame, file: str) -> Iterator[Problem]:
    if "arm" not in table:
        return
    for arm, patients in table["arm"].dropna().value_counts().items():
        if patients == 1:
            mend = "correct it if it is misspelt; an effect needs two or more, so merge or leave out the arm"
            yield Problem(file, f"arm {arm!r} has one patient", mend)


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
            problems.append(Problem(missing, "is missing although the table has the count", "add the mask or clear the count"))
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
        problems.append(_as_problem(error))
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
        yield _as_problem(error)


def _mask(path: Path, spaces: dict[str, Space], may_be_empty: bool) -> Iterator[Problem]:
    try:
        values, space = read_volume(path)
        spaces[path.name] = space
        inside = binary(path, values)
    except InputError as error:
        yield _as_problem(error)
        return
    if not inside.any() and not may_be_empty:
        yield Problem(str(path), "the mask is empty", "segment again, or remove the file if there is none")


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


def _as_problem(error: InputError) -> Problem:
    where, _, rest = str(error).partition(": ")
    what, _, mend = rest.rpartition("; ")
    return Problem(where, what or rest, mend if what else "correct it")
