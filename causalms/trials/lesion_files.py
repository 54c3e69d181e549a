"""Baseline lesion masks that lie elsewhere or are named as the tool that made them names them: LST-AI, SAMSEG, nnU-Net."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from causalms.errors import InputError, UsageError
from causalms.trials.nifti import binary
from causalms.trials.volume_file import COMPRESSED, ending

#: Labels of white-matter lesions in FreeSurfer's table: SAMSEG writes 99; 25 and 57 are those of the left and right side.
_FREESURFER_LESIONS = (25, 57, 99)
#: White matter and cortex of both sides; a segmentation that holds them is one of FreeSurfer.
_FREESURFER_TISSUE = (2, 3, 41, 42)
LESION_NAME = re.compile(r"(seg-lst|lesion|label-l(?![a-z])|wmh|bples)", re.IGNORECASE)
#: Baseline images, tissue, lesions of another kind and probabilities, by the end or a part of their names.
_OTHER = re.compile(
    r"(t1w?|t2w?|flair|pdw?|brain_?mask|brain|template|distance|_000\d)$|bias|desc-brain|desc-(gd|net2)|prob|^r?m?ples",
    re.IGNORECASE,
)
_OTHER_FOLDERS = ("posteriors", "probabilities", "temp", "tmp")


@dataclass(frozen=True)
class LesionFiles:
    """Where the baseline lesion mask of each participant lies.

    Parameters
    ----------
    given : str
        A folder whose files or folders bear the participant's name, or a pattern with ``{participant}`` (sub-01) or ``{id}``
        (01), and if wanted ``{session}`` and ``*``.

    Raises
    ------
    UsageError
        If it is neither.

    Examples
    --------
    >>> LesionFiles("lst/{participant}/{session}/space-mni_seg-lst.nii.gz").given[:17]
    'lst/{participant}'
    """

    given: str

    def __post_init__(self) -> None:
        if not self.is_folder and not re.search(r"\{(participant|id)\}", self.given):
            raise UsageError(
                f"`lesions={self.given}`: no such folder, and no pattern; name the folder, or the files with {{participant}} in "
                "place of sub-01, for example 'lst/{participant}/{session}/*seg-lst.nii.gz'"
            )

    @property
    def is_folder(self) -> bool:
        """Whether a folder was given, not a pattern."""
        return Path(self.given).is_dir()

    def file(self, participant_id: str, session: str | None) -> Path | None:
        """The lesion mask of a participant at baseline, or None.

        Binary lesion masks come before a segmentation of all tissues, images in MNI152 space before others.

        Raises
        ------
        InputError
            If two files fit alike.
        """
        files = self._in_folder(participant_id, session) if self.is_folder else self._by_pattern(participant_id, session)
        ranked = sorted((_rank(path), path) for path in files if not (self.is_folder and _is_other(path)))
        if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
            one, other = ranked[0][1], ranked[1][1]
            pattern = str(one).replace(participant_id, "{participant}")
            raise InputError(
                f"{one}: fits the lesion mask of {participant_id}, and so does {other}; name one with `lesions={pattern}`"
            )
        return ranked[0][1] if ranked else None

    def not_taken(self, participant_id: str, session: str | None) -> str:
        """Name of a file of the folder that is the participant's and by its name no lesion mask; empty where there is none."""
        files = self._in_folder(participant_id, session) if self.is_folder else []
        return next((path.name for path in files if _is_other(path)), "")

    def inside(self, path: Path, values: np.ndarray) -> np.ndarray:
        """Where the lesions are: 1 of a mask, SAMSEG's lesion labels, LST-AI's regions, what nnU-Net's dataset.json says.

        Raises
        ------
        InputError
            If the file holds probabilities, or labels that nothing explains.
        """
        if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
            other = values[values != np.rint(values)]
            if float(np.abs(values - np.rint(values)).max()) > 1e-3:
                raise InputError(
                    f"{path}: holds probabilities ({other.flat[0]:.3g}), no lesion mask; threshold it as its tool advises"
                )
        labels = np.unique(np.rint(values).astype(np.int64))
        if set(labels) <= {0, 1}:
            return np.rint(values) == 1 if values.dtype.kind == "f" else binary(path, values)
        wanted = _lesion_labels(path, {int(label) for label in labels})
        return np.isin(np.rint(values), sorted(wanted))

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """Volumes of the folder by every part of their path."""
        root = Path(self.given)
        index: dict[str, list[Path]] = {}
        for path in sorted(root.rglob("*")):
            if ending(path) in COMPRESSED:
                for token in dict.fromkeys(re.split(r"[_.\s/]", path.relative_to(root).as_posix())):
                    index.setdefault(token, []).append(path)
        return index

    def _in_folder(self, participant_id: str, session: str | None) -> list[Path]:
        files = self._by_name.get(participant_id) or self._by_name.get(participant_id.removeprefix("sub-"), [])
        with_session = [path for path in files if re.search(r"(^|[/_])ses-", str(path.relative_to(self.given)))]
        if not with_session:
            return files
        if session is None:
            return [path for path in files if path not in with_session]
        return [path for path in with_session if re.search(rf"(^|[/_]){re.escape(session)}([/_.]|$)", str(path))]

    def _by_pattern(self, participant_id: str, session: str | None) -> list[Path]:
        place = self.given.replace("{participant}", participant_id).replace("{id}", participant_id.removeprefix("sub-"))
        place = place.replace("{session}", session or "")
        path = Path(place)
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        return sorted(one for one in anchor.glob(str(path.relative_to(anchor))) if ending(one) in COMPRESSED)


def _is_other(path: Path) -> bool:
    """Whether a file of a tool's folder is no mask of T2 lesions, by its name or folder."""
    stem = path.name[: -len(ending(path))]
    return any(part.lower() in _OTHER_FOLDERS for part in path.parts[-3:-1]) or _OTHER.search(stem) is not None


def _rank(path: Path) -> tuple[int, int]:
    """How well a file fits, the lowest best: lesions alone, then with regions or tissues, then any; MNI152 space first."""
    name = path.name.lower()
    kind = 2 if LESION_NAME.search(name) is None else int("annotated" in name)
    kind = 1 if name.startswith(("seg.", "samseg")) else kind
    space = re.search(r"space-([a-z0-9]+)", name)
    return kind, 1 if space is None else 0 if space[1].startswith("mni") else 2


def _lesion_labels(path: Path, labels: set[int]) -> set[int]:
    """Which labels of a segmentation are lesions."""
    if len(labels & set(_FREESURFER_TISSUE)) >= 2 and 1 not in labels:  # 1 to N: lesions numbered one by one
        return set(_FREESURFER_LESIONS)
    if "annotated" in path.name:
        return labels - {0}
    for folder in (path.parent, path.parent.parent):
        if (folder / "dataset.json").is_file():
            return _of_dataset(folder / "dataset.json")
    shown = ", ".join(str(label) for label in sorted(labels)[:6])
    raise InputError(
        f"{path}: holds the labels {shown}, and nothing says which are lesions; give a mask of 0 and 1, or put nnU-Net's "
        "dataset.json beside it"
    )


def _of_dataset(file: Path) -> set[int]:
    """Labels that nnU-Net's ``dataset.json`` (of either version) calls lesions; a region is a list of labels."""
    try:
        labels = json.loads(file.read_text(encoding="utf-8"))["labels"]
        regions = [(one, other) if isinstance(other, int | list) else (other, int(one)) for one, other in labels.items()]
        pairs = [(str(name), int(label)) for name, own in regions for label in (own if isinstance(own, list) else [own])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: no list of labels as nnU-Net writes it; correct it or remove it") from error
    wanted = {label for name, label in pairs if LESION_NAME.search(name)}
    if not wanted:
        names = ", ".join(dict.fromkeys(name for name, _ in pairs))
        raise InputError(f"{file}: no label is called lesion (labels: {names}); rename the label of lesions")
    return wanted
