"""Read a BIDS folder as a Trial: the table at once, images when they are asked for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import delayed

from causalms.errors import InputError, named_arguments
from causalms.lesions import LesionCount, LesionRule, count_lesions
from causalms.tables import counted, net2_column
from causalms.trials.bids import LESIONS, files_below, image_path, sessions, week_of_session
from causalms.trials.columns import outcome_week
from causalms.trials.layout import Layout
from causalms.trials.lesion_files import LesionFiles
from causalms.trials.native import NativeGrid, native_path, read_native
from causalms.trials.participants import dataset_name, read_participants
from causalms.trials.resample import resample_trial
from causalms.trials.sessions import choose_baselines
from causalms.trials.space import Space, mni_space
from causalms.trials.template import template_anatomy
from causalms.trials.trial import MODALITIES, Trial
from causalms.trials.unread import lesion_notes, unread_notes
from causalms.workers import results_in_order

#: Gives a mask on its own grid, or None.
MaskReader = Callable[[str, str, int], tuple[np.ndarray, Space] | None]


def fill_from_masks(table: pd.DataFrame, weeks: tuple[int, ...], read: MaskReader) -> tuple[pd.DataFrame, list[str]]:
    """Fill baseline counts and volumes and NET2 outcomes from masks by the default rule.

    A column is filled only where it holds nobody's value at all: a value missing for some is taken as missing on purpose.

    Parameters
    ----------
    table : DataFrame
        Participants.
    weeks : tuple of int
    read : callable
        ``read(participant_id, kind, week)`` gives a mask with its grid, or None.

    Returns
    -------
    table : DataFrame
    notes : list of str
        What was filled, in words.
    """
    wanted: list[tuple[str, int, dict[str, str]]] = [
        ("T2", 0, {"lesions": "t2_lesions", "volume_ml": "t2_volume_ml"}),
        ("Gd", 0, {"lesions": "gd_lesions"}),
    ]
    for week in weeks:
        wanted.append(("NET2", week, {"lesions": net2_column(week), "volume_ml": net2_column(week, "net2_volume_ml")}))
    out, notes = table.copy(), []
    for kind, week, names in wanted:
        empty = {value: name for value, name in names.items() if name not in out or out[name].isna().all()}
        if not empty:
            continue
        counts = [_count(read(participant_id, kind, week)) for participant_id in out["participant_id"]]
        known = sum(count is not None for count in counts)
        for value, name in empty.items():
            out[name] = pd.Series([np.nan if c is None else float(getattr(c, value)) for c in counts], index=out.index)
        if known:
            notes.append(
                f"{' and '.join(empty.values())} of {counted(known, 'participant')} counted from their {kind} masks "
                "(26-connected, at least 3 mm3)"
            )
    return out, notes


def _count(mask_and_grid: tuple[np.ndarray, Space] | None) -> LesionCount | None:
    if mask_and_grid is None:
        return None
    mask, space = mask_and_grid
    return count_lesions(mask, space.voxel_volume_mm3, LesionRule.default())


def net2_counts(trial: Trial, week: int, grid: Sequence[int] | None = None, workers: int = 1) -> pd.DataFrame:
    """Observed NET2 outcomes of a visit counted from masks, as training and rung 3 count them.

    Parameters
    ----------
    trial : Trial
    week : int
    grid : sequence of int, optional
        Shape of the model's grid in MNI152 space, onto which the masks are brought; by default each on its own.
    workers : int
        Processes that share the participants.

    Returns
    -------
    DataFrame
        One row a participant, columns as of draws (by region on a model's grid only); NaN without a mask.
    """
    if grid is not None:
        space = next(own for own in map(mni_space, ("4mm", "3mm", "2mm", "1mm")) if list(own.shape) == list(grid))
        trial = resample_trial(trial, space)
    calls = (delayed(_counts)(trial, str(name), week, grid is not None) for name in trial.participants["participant_id"])
    return pd.DataFrame(list(results_in_order(calls, workers, "count them again")), index=trial.participants.index)


def _counts(trial: Trial, participant_id: str, week: int, on_grid: bool) -> dict[str, float]:
    """NET2 outcomes of one participant, nothing without a mask; by region where the trial lies on a model's grid."""
    mask, own = trial.mask(participant_id, "NET2", week), trial.space if on_grid else trial.space_of(participant_id)
    regions = template_anatomy(trial.space).regions if on_grid else None
    return {} if mask is None else count_lesions(mask, own.voxel_volume_mm3, LesionRule.default(), regions).columns()


@dataclass(frozen=True)
class FolderSource:
    """Images of a BIDS folder; those of one patient must all lie on one grid.

    Parameters
    ----------
    layout : Layout
    several_grids : bool
        Whether participants lie on different grids.
    """

    layout: Layout
    several_grids: bool = False

    def image(self, participant_id: str, modality: str) -> np.ndarray | None:
        """Baseline image on the patient's own grid, float32; None if there is none."""
        own = self.layout.own_image(participant_id, modality)
        if own is None:
            return None
        values, space = own
        self._same_grid(participant_id, space)
        return values

    def space(self, participant_id: str) -> Space | None:
        """The patient's own grid, that of the first image; None where there is neither image nor mask."""
        return self.layout.space(participant_id)

    def native(self, participant_id: str) -> NativeGrid | None:
        """The grid that a registered patient's scan was taken on; None for one who was not registered here."""
        return read_native(native_path(participant_id, self.layout.baseline[participant_id], self.layout.root))

    def place(self, participant_id: str) -> str:
        """The first baseline image of a participant, for messages."""
        files = (self.layout.image_file(participant_id, modality) for modality in MODALITIES)
        return str(next((file for file in files if file is not None), participant_id))

    def stamp(self, participant_id: str) -> str:
        """Baseline and files of a participant with sizes and times of change: another text where other things are read."""
        root = self.layout.root
        files = [file for base in (root, root / LESIONS) for file in files_below(base / participant_id)]
        if self.layout.lesions is not None and (own := self.layout.mask_file(participant_id, "T2")) is not None:
            files.append(os.fspath(own))
        read_as = f"baseline {self.layout.baseline.get(participant_id)}, lesions {self.layout.lesions}"
        return read_as + "".join(f"\n{file} {(here := os.stat(file)).st_size} {here.st_mtime_ns}" for file in sorted(files))

    def mask(self, participant_id: str, kind: str, week: int) -> np.ndarray | None:
        """Mask on the patient's own grid, bool; None if there is none."""
        path = self.layout.mask_file(participant_id, kind, week)
        if path is None:
            return None
        mask, space = self.layout.read_mask(path, kind, week)
        self._same_grid(participant_id, space)
        return mask

    def _same_grid(self, participant_id: str, space: Space) -> None:
        own = self.layout.space(participant_id)
        if own is None or own.same_as(space):
            return
        first, *others = self.layout.grids(participant_id).items()
        for other in others:
            if not first[1].same_as(other[1]):
                raise InputError(
                    f"{participant_id}: {first[0].name} has {first[1].describe()}, {other[0].name} has {other[1].describe()}; "
                    "register and resample the patient's images onto one grid (causalms register, FSL FLIRT, ANTs)"
                )
        raise InputError(
            f"{participant_id}: a follow-up mask has {space.describe()}, the baseline images {own.describe()}; resample it onto "
            "the grid of the baseline images (FSL FLIRT, ANTs)"
        )


@named_arguments
def load_trial(
    path: str | os.PathLike[str],
    participants: Sequence[str] | None = None,
    *,
    baseline: str | None = None,
    lesions: str | os.PathLike[str] | None = None,
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
        Read only these; the trial's grid is then that of the first of them.
    baseline : str, optional
        The session that is baseline, with or without ``ses-``; by default told from names, dates and numbers.
    lesions : path-like, optional
        Where the baseline T2 lesion masks lie, if not under ``derivatives/lesions``: a folder of LST-AI, SAMSEG or nnU-Net whose
        files or folders bear the participants' names, or a pattern with ``{participant}`` (or ``{id}``), ``{session}`` and ``*``.
    follow_ups : bool
        Whether outcomes that the table lacks are counted from the NET2 masks of follow-up sessions; a forecast reads none.

    Returns
    -------
    Trial

    Raises
    ------
    InputError
        If the folder has no readable participants table, a column does not fit its schema, a participant is unknown,
        no image is there to give the grid, or nobody has a file where ``lesions`` says.
        Images are not read here, except masks for the columns that are missing.

    See Also
    --------
    causalms.trials.check_trial : every problem of a folder at once.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from causalms.phantom import write_simulated_trial
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "trial"
    >>> _ = write_simulated_trial(folder, "lifelike", patients=4, seed=1)
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
    layout = Layout(root, baselines.session, None if lesions is None else LesionFiles(os.fspath(lesions)))
    space, grids = _spaces(layout, ids)
    later = Counter(session for name in ids for session in of_participant[name] if session != baselines.session[name])
    weeks = {week for week in (*map(week_of_session, later), *map(outcome_week, table.columns)) if week}
    notes += [] if baselines.note is None else [baselines.note]
    notes += [*grids, *lesion_notes(layout, ids), *unread_notes(layout, ids)]
    notes += [
        f"session {session} of {counted(patients, 'participant')} names no week, its NET2 masks are not read; "
        "name it after its week (ses-w48)"
        for session, patients in sorted(later.items())
        if week_of_session(session) is None
    ]
    ordered = tuple(sorted(weeks))
    table, derived = fill_from_masks(table, ordered if follow_ups else (), layout.own_mask)
    return Trial(dataset_name(root), table, space, ordered, FolderSource(layout, bool(grids)), (*notes, *derived))


def _spaces(layout: Layout, participant_ids: Sequence[str]) -> tuple[Space, list[str]]:
    """Grid of the first participant who has one, and, where they differ, how many grids there are.

    Headers that cannot be read are left to whoever reads the image.
    """
    patients: Counter[Space] = Counter()
    broken: InputError | None = None
    for participant_id in participant_ids:
        try:
            space = layout.space(participant_id)
        except InputError as error:
            broken = broken or error
            continue
        if space is not None:
            same = next((known for known in patients if known.same_as(space)), space)
            patients[same] += 1
    if patients:
        first = next(iter(patients))
        many = f"participants lie on {len(patients)} grids, each is read on its own; {patients[first]} on {first.describe()}"
        return first, [] if len(patients) == 1 else [many]
    if broken is not None:
        raise broken
    first_id = participant_ids[0]
    raise InputError(
        f"{layout.root}: no image or mask of any participant found; expected for example "
        f"{image_path(first_id, 'FLAIR', layout.baseline[first_id]).as_posix()} (tables alone go to causalms effects)"
    )
