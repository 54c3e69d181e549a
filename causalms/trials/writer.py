"""A trial written as a BIDS folder, patient by patient, from as many processes as one likes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import InputError, UsageError
from causalms.files import whole_file
from causalms.tables import validate, write_table
from causalms.trials.bids import LESIONS, image_path, mask_path, session_of_week
from causalms.trials.columns import describe_columns
from causalms.trials.nifti import write_image, write_mask
from causalms.trials.space import Space
from causalms.trials.trial import MASKS, MODALITIES

BIDS_VERSION = "1.10.0"


class TrialWriter:
    """Write a trial as a BIDS folder.

    Patients may be written by several processes at once; :meth:`finish` comes last and writes the table, so a folder
    without ``participants.tsv`` is one that was never finished. Wrap the whole in
    ``causalms.files.whole_folder`` to leave nothing behind when a run breaks off.

    Parameters
    ----------
    root : path-like
    space : Space
        The grid of every array.
    name : str
        Name of the trial.
    weeks : sequence of int
        Follow-up weeks.

    Examples
    --------
    >>> import tempfile, numpy as np, pandas as pd
    >>> from causalms.tables import PARTICIPANTS_COLUMNS
    >>> from causalms.trials import Space, load_trial
    >>> space = Space((4, 4, 4), np.diag([4.0, 4.0, 4.0, 1.0]))
    >>> writer = TrialWriter(tempfile.mkdtemp(), space, "a trial", weeks=(48,))
    >>> lesion = np.zeros(space.shape, bool); lesion[1, 1, 1] = True
    >>> writer.write_patient("sub-1", {"FLAIR": np.random.default_rng(1).random(space.shape)}, {("NET2", 48): lesion})
    >>> row = dict.fromkeys(PARTICIPANTS_COLUMNS) | {"participant_id": "sub-1", "trial": "a trial", "arm": "placebo"}
    >>> writer.finish(pd.DataFrame([row]))
    >>> trial = load_trial(writer.root)
    >>> trial.weeks, int(trial.mask("sub-1", "NET2", 48).sum()), trial.image("sub-1", "T1w") is None
    ((48,), 1, True)
    """

    def __init__(self, root: str | os.PathLike[str], space: Space, name: str, weeks: tuple[int, ...] | list[int]) -> None:
        self.root = Path(root)
        self.space = space
        self.name = name
        self.weeks = tuple(int(week) for week in weeks)

    def write_patient(
        self,
        participant_id: str,
        images: Mapping[str, np.ndarray],
        masks: Mapping[tuple[str, int], np.ndarray],
    ) -> None:
        """Write one patient's baseline images and masks.

        Parameters
        ----------
        participant_id : str
            With its ``sub-``, letters and digits only.
        images : mapping of modality to array of shape (X, Y, Z)
            Keys are of :data:`causalms.trials.MODALITIES`; leave out what was not acquired.
        masks : mapping of (kind, week) to array of bool
            Kinds are of :data:`causalms.trials.MASKS`; week 0 is baseline.

        Raises
        ------
        UsageError
            If a name, kind, week or shape does not fit.
        InputError
            If the disk refuses.
        """
        if not (participant_id.startswith("sub-") and participant_id[4:].isalnum() and participant_id.isascii()):
            raise UsageError(f"participant {participant_id!r}: BIDS wants sub- and letters or digits, such as sub-0001")
        for modality, image in images.items():
            if modality not in MODALITIES:
                raise UsageError(f"no modality is called {modality!r}; choose one of {', '.join(MODALITIES)}")
            write_image(self.root / image_path(participant_id, modality), image, self.space)
        for (kind, week), mask in masks.items():
            if kind not in MASKS or (week != 0 and week not in self.weeks):
                raise UsageError(f"mask {kind!r} of week {week}: kinds are {', '.join(MASKS)}, weeks 0 and {self.weeks}")
            write_mask(self.root / mask_path(participant_id, kind, session_of_week(week)), mask, self.space)

    def finish(self, participants: pd.DataFrame, readme: str | None = None) -> None:
        """Write ``participants.tsv`` with its ``.json``, the two ``dataset_description.json`` and the README.

        Parameters
        ----------
        participants : DataFrame
            Participants schema; outcomes as ``net2_lesions_week48`` and the like.
        readme : str, optional
            What the README says first; by default what the folder holds.

        Raises
        ------
        InputError
            If the table does not fit its schema, or the disk refuses.
        """
        table = validate(participants, "participants", f"participants of {self.name}")
        made = [{"Name": "causalms", "Version": _version()}]
        raw = {"Name": self.name, "BIDSVersion": BIDS_VERSION, "DatasetType": "raw", "GeneratedBy": made}
        masks = {"Name": f"{self.name}: lesion and brain masks", "BIDSVersion": BIDS_VERSION, "DatasetType": "derivative"}
        _write_json(self.root / "dataset_description.json", raw)
        _write_json(self.root / LESIONS / "dataset_description.json", {**masks, "GeneratedBy": made})
        _write_json(self.root / "participants.json", describe_columns(table))
        _write_text(self.root / "README.md", _readme(self.name, self.space, self.weeks, len(table), readme))
        write_table(_whole_numbers(table), self.root / "participants.tsv")


def _whole_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of whole numbers as integers, so that counts are written 3 and not 3.0."""
    out = table.copy()
    for name in out.columns:
        column = out[name]
        if pd.api.types.is_float_dtype(column) and column.notna().any() and (column.dropna() % 1 == 0).all():
            out[name] = column.astype("Int64")
    return out


def _readme(name: str, space: Space, weeks: tuple[int, ...], patients: int, first: str | None) -> str:
    content = first or f"Trial {name}: {patients} patients in BIDS, one participants table and baseline MRI."
    visits = ", ".join(str(week) for week in weeks)
    return (
        f"# {name}\n\n{content.strip()}\n\n"
        f"- Images at baseline (ses-w00): T1w, T2w, FLAIR, T1w with gadolinium (ce-gadolinium), where acquired.\n"
        f"- Masks in derivatives/lesions: brain, T2 lesions and enhancing lesions (Gd) at baseline;\n"
        f"  new and enlarging T2 lesions since baseline (NET2) at weeks {visits}.\n"
        f"- All on one grid: {space.describe()}.\n"
        f"- participants.json explains every column of participants.tsv.\n"
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    with whole_file(path) as beside:
        try:
            beside.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); free some room") from error


def _version() -> str:
    from causalms import __version__

    return __version__
