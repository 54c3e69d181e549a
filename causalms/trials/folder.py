"""Read a BIDS folder as a Trial: the table at once, images when they are asked for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from causalms.errors import InputError, named_arguments
from causalms.trials.bids import (
    LESIONS,
    find,
    image_path,
    mask_path,
    session_of_week,
    sessions,
    week_of_session,
)
from causalms.trials.derived import fill_from_masks
from causalms.trials.dictionary import outcome_week
from causalms.trials.naming import names_in, unread, without_person
from causalms.trials.nifti import binary, finite, read_mask, read_space, read_volume
from causalms.trials.participants import dataset_name, read_participants
from causalms.trials.sessions import choose_baselines
from causalms.trials.space import Space
from causalms.trials.trial import MASKS, MODALITIES, Trial


@dataclass(frozen=True)
class FolderSource:
    """Images of a BIDS folder that must all lie on one grid.

    Parameters
    ----------
    root : Path
    space : Space
        The trial's grid; an image on another is refused, never resampled.
    baseline : mapping of str to (str or None)
        The session of each participant that is baseline.
    """

    root: Path
    space: Space
    baseline: Mapping[str, str | None]

    def image(self, participant_id: str, modality: str) -> np.ndarray | None:
        """Baseline image, float32; None if there is none."""
        path = image_file(self.root, participant_id, modality, self.baseline[participant_id])
        if path is None:
            return None
        values, space = read_volume(path)
        self._same_grid(participant_id, path, space)
        return finite(path, values)

    def place(self, participant_id: str) -> str:
        """The first baseline image of a participant, for messages."""
        files = (image_file(self.root, participant_id, modality, self.baseline[participant_id]) for modality in MODALITIES)
        return str(next((file for file in files if file is not None), participant_id))

    def stamp(self, participant_id: str) -> str:
        """Names, sizes and times of change of all files of a participant: another text where any of them was changed."""
        files = [
            file for base in (self.root, self.root / LESIONS) for file in (base / participant_id).rglob("*") if file.is_file()
        ]
        return "\n".join(f"{file} {(here := file.stat()).st_size} {here.st_mtime_ns}" for file in sorted(files))

    def mask(self, participant_id: str, kind: str, week: int) -> np.ndarray | None:
        """Mask, bool; None if there is none."""
        path = mask_file(self.root, participant_id, kind, week, self.baseline[participant_id])
        if path is None:
            return None
        values, space = read_volume(path)
        self._same_grid(participant_id, path, space)
        return binary(path, values)

    def _same_grid(self, participant_id: str, path: Path, space: Space) -> None:
        if self.space.same_as(space):
            return
        own = grids(self.root, participant_id, self.baseline[participant_id])
        first, *others = own.items()
        for other in others:
            if not first[1].same_as(other[1]):
                raise InputError(
                    f"{participant_id}: {first[0].name} has {first[1].describe()}, {other[0].name} has {other[1].describe()}; "
                    "register and resample the patient's images onto one grid (FSL FLIRT, ANTs)"
                )
        raise InputError(
            f"{path}: has {space.describe()}, the trial {self.space.describe()}; load this participant alone or bring all "
            "participants onto one grid"
        )


@named_arguments
def load_trial(
    path: str | os.PathLike[str],
    participants: Sequence[str] | None = None,
    *,
    baseline: str | None = None,
    follow_ups: bool = True,
) -> Trial:
    """Read a trial from a BIDS folder.

    The folder holds ``participants.tsv``, baseline images under ``sub-*/ses-*/anat`` and masks under
    ``derivatives/lesions``. Sessions named ``ses-w00``, ``ses-w48`` tell their week. Which session is baseline
    is told by names (baseline, M00, screening), dates or numbers, is said in :attr:`Trial.notes`, and refused where
    unclear. Columns of the participants table that are missing are filled with missing values, or
    from the masks where they can be, and :attr:`Trial.notes` says so.

    Parameters
    ----------
    path : path-like
    participants : sequence of str, optional
        Read only these; the trial's grid is then theirs.
    baseline : str, optional
        The session that is baseline, with or without ``ses-``; by default told from names, dates and numbers.
    follow_ups : bool
        Whether outcomes that the table lacks are counted from the NET2 masks of follow-up sessions; a forecast reads none.

    Returns
    -------
    Trial

    Raises
    ------
    InputError
        If the folder has no readable participants table, a column does not fit its schema, a participant is unknown or
        no image is there to give the grid. Images are not read here, except masks for the columns that are missing.

    See Also
    --------
    causalms.trials.check_trial : every problem of a folder at once.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from causalms.phantom import write_simulated_trial
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "trial"
    >>> _ = write_simulated_trial(folder, "pooled", patients=4, seed=1)
    >>> len(load_trial(folder))
    4
    """
    root = Path(path)
    table, notes = read_participants(root)
    of_participant = {participant_id: sessions(root, participant_id) for participant_id in table["participant_id"]}
    baselines = choose_baselines(root, of_participant, baseline)
    if participants is not None:
        known = set(table["participant_id"])
        for participant_id in participants:
            if participant_id not in known:
                raise InputError(f"{root / 'participants.tsv'}: no participant {participant_id!r}; check the name (sub-...)")
        table = table.set_index("participant_id", drop=False).loc[list(participants)].reset_index(drop=True)
    ids = table["participant_id"].tolist()
    space = _first_space(root, ids, baselines.session)
    later = Counter(session for name in ids for session in of_participant[name] if session != baselines.session[name])
    weeks = {week for week in (*map(week_of_session, later), *map(outcome_week, table.columns)) if week}
    notes += [] if baselines.note is None else [baselines.note]
    notes += _unread_images(root, ids, baselines.session)
    notes += [
        f"session {session} of {patients} participants names no week, its NET2 masks are not read; name it after its week "
        "(ses-w48)"
        for session, patients in sorted(later.items())
        if week_of_session(session) is None
    ]
    ordered = tuple(sorted(weeks))
    table, derived = fill_from_masks(
        table, ordered if follow_ups else (), lambda pid, kind, week: own_mask(root, pid, kind, week, baselines.session[pid])
    )
    source = FolderSource(root, space, baselines.session)
    return Trial(dataset_name(root), table, space, ordered, source, (*notes, *derived))


def image_file(root: Path, participant_id: str, modality: str, baseline: str | None) -> Path | None:
    """File of a baseline image, or None."""
    return find(root, image_path(participant_id, modality, baseline))


def mask_file(root: Path, participant_id: str, kind: str, week: int, baseline: str | None) -> Path | None:
    """File of a mask at a week (0 is baseline), or None."""
    return find(root, mask_path(participant_id, kind, session_of_week(week) if week else baseline))


def own_mask(root: Path, participant_id: str, kind: str, week: int, baseline: str | None) -> tuple[np.ndarray, Space] | None:
    """A mask on its own grid, whatever the trial's, or None."""
    path = mask_file(root, participant_id, kind, week, baseline)
    if path is None:
        return None
    return read_mask(path)


def grids(root: Path, participant_id: str, baseline: str | None) -> dict[Path, Space]:
    """Grid of every baseline file of a participant: images first, then masks."""
    files = [image_file(root, participant_id, modality, baseline) for modality in MODALITIES]
    files += [mask_file(root, participant_id, kind, 0, baseline) for kind in MASKS]
    return {file: read_space(file) for file in files if file is not None}


def _unread_images(root: Path, participant_ids: Sequence[str], baseline: Mapping[str, str | None]) -> list[str]:
    """Baseline images that are there and not read, in words: passed over for a better file, or of a kind that is not known."""
    passed_over: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for participant_id in participant_ids:
        paths = [image_path(participant_id, modality, baseline[participant_id]) for modality in MODALITIES]
        others, strangers = unread(names_in(root / paths[0].parent), [path.name for path in paths])
        passed_over.update(map(without_person, others))
        unknown.update(map(without_person, strangers))
    return [
        f"not read, {why}: " + ", ".join(f"{name} of {count} participants" for name, count in sorted(counts.items())[:8])
        for why, counts in (("a file that fits better was", passed_over), ("no image that the model knows", unknown))
        if counts
    ]


def _first_space(root: Path, participant_ids: Sequence[str], baseline: Mapping[str, str | None]) -> Space:
    """Grid of the first image, or, where nobody has one, of the first mask."""
    for participant_id in participant_ids:
        for modality in MODALITIES:
            file = image_file(root, participant_id, modality, baseline[participant_id])
            if file is not None:
                return read_space(file)
    for participant_id in participant_ids:
        for kind in MASKS:
            file = mask_file(root, participant_id, kind, 0, baseline[participant_id])
            if file is not None:
                return read_space(file)
    first = participant_ids[0]
    raise InputError(
        f"{root}: no image or mask of any participant found; expected for example "
        f"{image_path(first, 'FLAIR', baseline[first]).as_posix()} (tables alone go to causalms effects)"
    )
