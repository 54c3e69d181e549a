"""What the names of a BIDS folder's images say: which file is the image that is wanted, and which are not read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from causalms.errors import InputError
from causalms.trials.volume_file import COMPRESSED, ending

#: Values of ``ce-`` that say no contrast agent was given.
_NO_AGENT = ("none", "no", "without", "pre", "native")
#: Values of ``acq-`` and ``rec-`` that say it was, where ``ce-`` says nothing.
_AGENT = re.compile(r"gd|gado|^gad|gad$|(?<!pre)(?<!non)(?<!no)contrast|post$", re.IGNORECASE)
#: Suffixes, without their case, under which the images that are known also go.
_MEANT = {
    **dict.fromkeys(("flair", "t2flair", "t2wflair", "t2f", "flairw"), "FLAIR"),
    **dict.fromkeys(("t1", "t1w", "mprage", "t1n"), "T1w"),
    **dict.fromkeys(("t2", "t2w"), "T2w"),
    **dict.fromkeys(("t1gd", "t1wgd", "t1c", "t1ce", "t1wce", "t1post", "t1wpost", "t1gad", "gd", "ce"), "ce-gadolinium_T1w"),
}
#: Values of ``desc-`` under which pipelines write the whole image, made ready.
_READY = ("preproc", "preprocessed", "brain", "n4", "biascorrected", "skullstripped")
#: Entities that tell two acquisitions of one image apart without saying that it is another image.
_HARMLESS = ("acq", "run", "rec", "space", "res", "dir", "ce", "desc", "part")


def names_in(folder: Path) -> list[str]:
    """Names of the volumes of a folder, sorted; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(name for name in os.listdir(folder) if ending(name) in COMPRESSED)


def choose(folder: Path, wanted: str) -> Path | None:
    """The file of a folder that is the image or mask called ``wanted``, or None.

    Of several that fit, in this order: images in MNI152 space (``space-MNI*``), preprocessed ones (``desc-preproc``), the exact
    name, the lowest ``run-``.

    Raises
    ------
    InputError
        If two differ only in entities that say nothing about which is better (``acq-``, ``rec-``).
    """
    ranked = sorted((rank, name) for name in names_in(folder) if (rank := _rank(name, wanted)) is not None)
    if not ranked:
        return None
    if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
        names = " and ".join(name for _, name in ranked[:2])
        raise InputError(f"{folder}: {names} both fit {wanted}; keep one or name it exactly so")
    return folder / ranked[0][1]


def unread(names: Iterable[str], wanted: Iterable[str]) -> tuple[list[str], list[str]]:
    """Names of images that are passed over for a better one, and names that are no image that is known.

    Examples
    --------
    >>> there = ["sub-1_run-1_FLAIR.nii.gz", "sub-1_run-2_FLAIR.nii.gz", "sub-1_PDw.nii.gz"]
    >>> unread(there, ["sub-1_FLAIR.nii.gz"])
    (['sub-1_run-2_FLAIR.nii.gz'], ['sub-1_PDw.nii.gz'])
    """
    passed_over: list[str] = []
    fits: set[str] = set()
    for name_wanted in wanted:
        ranked = sorted((rank, name) for name in names if (rank := _rank(name, name_wanted)) is not None)
        passed_over += [name for _, name in ranked[1:]]
        fits |= {name for _, name in ranked}
    return passed_over, [name for name in names if name not in fits]


def guessed_agent(name: str) -> bool:
    """Whether an image counts as one with gadolinium only because its ``acq-`` or ``rec-`` says so.

    Examples
    --------
    >>> guessed_agent("sub-1_acq-postGd_T1w.nii.gz"), guessed_agent("sub-1_ce-gadolinium_T1w.nii.gz")
    (True, False)
    """
    suffix, entities = _entities(name)
    return suffix == "T1w" and "ce" not in entities and _with_agent(entities)


def meant(name: str) -> str:
    """What a name that is not read was probably meant to be, in words; empty where that is unclear.

    Examples
    --------
    >>> meant("sub-1_flair.nii.gz"), meant("sub-1_PDw.nii.gz"), meant("sub-1_space-orig_FLAIR.nii.gz")
    ('did you mean FLAIR?', '', 'space-orig is not MNI152')
    """
    suffix, entities = _entities(name)
    known = _MEANT.get(re.sub(r"[^a-z0-9]", "", suffix.lower()))
    if known is not None and suffix not in ("FLAIR", "T1w", "T2w"):
        return f"did you mean {known}?"
    if known is not None and not entities.get("space", "mni").lower().startswith("mni"):
        return f"space-{entities['space']} is not MNI152"
    if known == "T1w" and "ce" not in entities and _AGENT.search(entities.get("desc", "")):
        return "did you mean ce-gadolinium_T1w?"
    if known is not None and entities.get("desc", "preproc").lower() not in _READY:
        return f"desc-{entities['desc']} is not known: did you mean desc-preproc?"
    return ""


def without_person(name: str) -> str:
    """A file name less its participant, session and run, to count alike files together.

    Examples
    --------
    >>> without_person("sub-01_ses-1_run-2_PDw.nii.gz")
    'PDw'
    """
    return re.sub(r"(sub|ses|run)-[^_]*_", "", name)[: -len(ending(name))]


def _rank(name: str, wanted: str) -> tuple[bool, bool, bool, int] | None:
    """How well a file fits, the lowest best; None if it is another image."""
    suffix, entities = _entities(name)
    suffix_wanted, entities_wanted = _entities(wanted)
    if suffix != suffix_wanted or _mistaken(entities, entities_wanted):
        return None
    run = re.sub(r"\D", "", entities.get("run", "")) or "0"
    return (
        not entities.get("space", "").lower().startswith("mni"),
        entities.get("desc", "").lower() not in _READY,
        name != wanted,
        int(run),
    )


def _mistaken(entities: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether the entities say that this is another image than the one that is wanted."""
    if _with_agent(entities) != ("ce" in wanted):
        return True
    if any(entities.get(key) != value for key, value in wanted.items() if key != "ce"):
        return True
    other = {key for key in entities if key not in wanted and key not in _HARMLESS}
    space = entities.get("space", "mni").lower()
    described = "desc" in wanted or entities.get("desc", "preproc").lower() in _READY
    return bool(other) or not space.startswith("mni") or not described or entities.get("part", "mag") != "mag"


def _with_agent(entities: Mapping[str, str]) -> bool:
    """Whether the image was taken after a contrast agent: ``ce-`` says so, or where it is not there ``acq-`` or ``rec-``."""
    if "ce" in entities:
        return entities["ce"].lower() not in _NO_AGENT
    return any(_AGENT.search(entities.get(key, "")) for key in ("acq", "rec"))


@lru_cache(maxsize=4096)
def _entities(name: str) -> tuple[str, Mapping[str, str]]:
    *entities, suffix = name[: -len(ending(name))].split("_")
    return suffix, dict(entity.partition("-")[::2] for entity in entities)
