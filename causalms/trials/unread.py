"""What lies in a trial's folder and is not read, in words: nothing of a patient is ignored in silence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from causalms.errors import InputError
from causalms.tables import counted
from causalms.trials.bids import LESIONS, files_below, image_path, mask_path
from causalms.trials.layout import Layout
from causalms.trials.lesion_files import LESION_NAME
from causalms.trials.naming import guessed_agent, meant, names_in, unread, without_person
from causalms.trials.trial import MASKS, MODALITIES
from causalms.trials.volume_file import COMPRESSED, ending

_SHOWN = 8


def unread_notes(layout: Layout, participant_ids: Sequence[str]) -> list[str]:
    """Baseline files that are there and not read: passed over for a better one, of a kind that is not known, or elsewhere."""
    passed_over: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    elsewhere: Counter[str] = Counter()
    guessed: Counter[str] = Counter()
    lesions = False
    for participant_id in participant_ids:
        session = layout.baseline[participant_id]
        paths = [image_path(participant_id, modality, session) for modality in MODALITIES]
        masks = [mask_path(participant_id, kind, session) for kind in MASKS if kind != "T2" or layout.lesions is None]
        given = _given_mask(layout, participant_id)
        for wanted in (paths, masks):
            folder = layout.root / wanted[0].parent
            there = names_in(folder)
            others, strangers = unread(
                [name for name in there if (folder / name).resolve() != given], [path.name for path in wanted]
            )
            passed_over.update(_with_choice(others, strangers, there))
            unknown.update(map(_with_advice, strangers))
            lesions |= wanted is masks and layout.lesions is None and any(LESION_NAME.search(name) for name in strangers)
            guessed.update(without_person(name) for name in there if guessed_agent(name))
        elsewhere.update(_elsewhere(layout, participant_id, [layout.root / part[0].parent for part in (paths, masks)]))
    kinds = (
        ("a file that fits better was", passed_over),
        ("no image or mask that the model knows", unknown),
        ("it stands where no image is looked for", elsewhere),
    )
    notes = [f"not read, {why}: {_listed(counts)}" for why, counts in kinds if counts] + _other_derivatives(layout)
    if lesions:
        notes.append(f"T2 lesion masks that are not named label-L_desc-T2_mask are read with `lesions={layout.root / LESIONS}`")
    if guessed:
        notes.append(f"taken for an image with gadolinium, by acq- or rec- (say ce-gadolinium or ce-none): {_listed(guessed)}")
    return notes


def _given_mask(layout: Layout, participant_id: str) -> Path | None:
    """The lesion mask that is read because ``lesions`` says where it lies."""
    try:
        file = None if layout.lesions is None else layout.mask_file(participant_id, "T2")
    except InputError:  # two that fit alike: said where this patient is read
        return None
    return None if file is None else file.resolve()


def images_there(layout: Layout, participant_id: str) -> str:
    """What lies where a participant's baseline images are looked for, in words; empty where there is nothing."""
    session = layout.baseline[participant_id]
    names = names_in(layout.root / image_path(participant_id, "T1w", session).parent)
    others = layout.other_sessions(participant_id)
    if names:
        return f"not read: {', '.join(_with_advice(name) for name in names[:_SHOWN])}"
    if others:
        named = [label.removeprefix("ses-") for label in others[:_SHOWN]]
        return f"there are sessions {', '.join(named)}, later visits by their names; if one is baseline, `baseline={named[0]}`"
    return ""


def _with_advice(name: str) -> str:
    """A file that is not read, less its participant, and what it was probably meant to be."""
    advice = meant(name)
    return f"{without_person(name)} ({advice})" if advice else without_person(name)


def lesion_notes(layout: Layout, participant_ids: Sequence[str]) -> list[str]:
    """Which files are read as lesion masks, and who has none; nothing where masks stand under ``derivatives/lesions``.

    Raises
    ------
    InputError
        If nobody has one.
    """
    if layout.lesions is None:
        return []
    given = layout.lesions.given
    kinds: Counter[str] = Counter()
    without: list[str] = []
    for participant_id in participant_ids:
        try:
            file = layout.mask_file(participant_id, "T2")
        except InputError as error:  # two that fit alike: said where this patient is read
            kinds[f"unclear ({error})"] += 1
            continue
        if file is None:
            without.append(participant_id)
        else:
            kinds[file.name.replace(participant_id, "sub-*").replace(participant_id.removeprefix("sub-"), "*")] += 1
    if not kinds:
        others = filter(None, (layout.lesions.not_taken(name, layout.baseline[name]) for name in participant_ids))
        there = next((f" ({name} is none by its name)" for name in others), "")
        who = f"{', '.join(participant_ids[:3])}{', ...' if len(participant_ids) > 3 else ''}{there}"
        raise InputError(
            f"{given}: no lesion mask of {who}; files or folders there must bear the participant's name and the baseline "
            "session, or be named by a pattern with {participant}"
        )
    notes = [f"T2 lesion masks are read from {given}: {_listed(kinds)}"]
    if without:
        more = f" and {len(without) - _SHOWN} others" if len(without) > _SHOWN else ""
        notes.append(f"no lesion mask in {given}: {', '.join(without[:_SHOWN])}{more}")
    return notes


def _listed(counts: Counter[str]) -> str:
    most = sorted(counts.items())
    more = f" and {len(most) - _SHOWN} other kinds" if len(most) > _SHOWN else ""
    return ", ".join(f"{name} of {counted(count, 'participant')}" for name, count in most[:_SHOWN]) + more


def _with_choice(passed_over: list[str], strangers: list[str], there: list[str]) -> Iterator[str]:
    """Files that were passed over, each with its run and the run that was read where they differ in it."""
    read = [name for name in there if name not in passed_over and name not in strangers]
    for name in passed_over:
        run = re.search(r"_(run-[^_]*)_", name)
        twin = next((one for one in read if without_person(one) == without_person(name)), None)
        chosen = re.search(r"_(run-[^_]*)_", twin) if twin else None
        if run and twin:
            yield f"{run[1]} of {without_person(name)} ({chosen[1] if chosen else 'the one without run-'} is read)"
        else:
            yield without_person(name)


def _elsewhere(layout: Layout, participant_id: str, looked_in: list[Path]) -> Iterator[str]:
    """Volumes of the baseline that stand in other folders than ``anat``; those of other sessions are no baseline."""
    session = layout.baseline[participant_id]
    for base in (layout.root / participant_id, layout.root / LESIONS / participant_id):
        for path in map(Path, sorted(file for file in files_below(base) if ending(file) in COMPRESSED)):
            own = path.relative_to(base).parts
            later = own[0].startswith("ses-") and own[0] != session
            if not later and path.parent not in looked_in:
                where = "/".join(part for part in own[:-1] if not part.startswith("ses-")) or "no folder"
                yield f"{without_person(path.name)} in {where}"


def _other_derivatives(layout: Layout) -> list[str]:
    """Folders of other tools beside the lesions, which may hold lesion masks."""
    base = layout.root / LESIONS.parent
    if not base.is_dir() or layout.lesions is not None:
        return []
    names = [entry.name for entry in sorted(base.iterdir()) if entry.is_dir() and entry.name != LESIONS.name]
    where = LESIONS.parent.as_posix()
    return [f"not read: {where}/{name} (if it holds lesion masks: `lesions={base / name}`)" for name in names[:_SHOWN]]
