"""Where a file of a trial stands in its BIDS folder, and what stands there."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from causalms.trials.naming import choose

#: Folder of the masks inside a trial, a BIDS derivative dataset of its own.
LESIONS = Path("derivatives") / "lesions"

_IMAGE_NAME = {"T1w": "T1w", "T2w": "T2w", "FLAIR": "FLAIR", "ceT1w": "ce-gadolinium_T1w"}
_MASK_NAME = {"brain": "desc-brain", "T2": "label-L_desc-T2", "Gd": "label-L_desc-Gd", "NET2": "label-L_desc-NET2"}
_WEEK = re.compile(r"^ses-w(\d+)$")


def session_of_week(week: int) -> str:
    """Session label of a visit week; week 0 is baseline.

    Examples
    --------
    >>> session_of_week(0), session_of_week(48)
    ('ses-w00', 'ses-w48')
    """
    return f"ses-w{week:02d}"


def week_of_session(session: str) -> int | None:
    """Visit week of a session label, or None if the label tells none.

    Examples
    --------
    >>> week_of_session("ses-w48"), week_of_session("ses-02")
    (48, None)
    """
    match = _WEEK.match(session)
    return int(match.group(1)) if match else None


def image_path(participant_id: str, modality: str, session: str | None = "ses-w00") -> Path:
    """Path of a baseline image inside the trial.

    Examples
    --------
    >>> image_path("sub-01", "ceT1w").as_posix()
    'sub-01/ses-w00/anat/sub-01_ses-w00_ce-gadolinium_T1w.nii.gz'
    """
    return _anat(participant_id, session) / f"{_stem(participant_id, session)}_{_IMAGE_NAME[modality]}.nii.gz"


def mask_path(participant_id: str, kind: str, session: str | None) -> Path:
    """Path of a mask inside the trial.

    Examples
    --------
    >>> mask_path("sub-01", "NET2", "ses-w48").as_posix()
    'derivatives/lesions/sub-01/ses-w48/anat/sub-01_ses-w48_label-L_desc-NET2_mask.nii.gz'
    """
    return LESIONS / _anat(participant_id, session) / f"{_stem(participant_id, session)}_{_MASK_NAME[kind]}_mask.nii.gz"


def sessions(root: Path, participant_id: str) -> frozenset[str]:
    """Session labels of a participant, images and masks together; empty if there are no session folders."""
    sessions: set[str] = set()
    for base in (root / participant_id, root / LESIONS / participant_id):
        if base.is_dir():
            sessions |= {entry.name for entry in base.iterdir() if entry.name.startswith("ses-") and entry.is_dir()}
    return frozenset(sessions)


def files_below(folder: Path) -> list[str]:
    """Every file in a folder and the folders in it; none if there is no such folder."""
    files: list[str] = []
    folders = [os.fspath(folder)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file():
                    files.append(entry.path)
    return files


def find(root: Path, expected: Path) -> Path | None:
    """The file at a path, or the file beside it that says the same with other BIDS entities; None if there is none.

    Raises
    ------
    InputError
        If several files fit alike.
    """
    return choose(root / expected.parent, expected.name)


def _anat(participant_id: str, session: str | None) -> Path:
    return Path(participant_id) / session / "anat" if session else Path(participant_id) / "anat"


def _stem(participant_id: str, session: str | None) -> str:
    return f"{participant_id}_{session}" if session else participant_id
