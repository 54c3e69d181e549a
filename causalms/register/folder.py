"""Registration of one patient of a BIDS folder: images and masks of all visits in template space, with the inverse transforms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from causalms.errors import InputError, UsageError
from causalms.lesions import LesionRule, count_lesions
from causalms.register.patient import Registration, onto, register_images
from causalms.register.scan import STANDARD_SPACE, Scan
from causalms.register.transforms import read_transforms, write_transform
from causalms.trials import (
    MODALITIES,
    TEMPLATE,
    Deformation,
    Layout,
    NativeGrid,
    image_path,
    images_there,
    mask_path,
    native_path,
    read_mask,
    read_space,
    resample_lesions,
    template_anatomy,
    write_image,
    write_mask,
    write_native,
)


@dataclass(frozen=True)
class ExternalFiles:
    """What was made elsewhere, each a path with ``{participant}`` (sub-01) or ``{id}`` (01) and if wanted ``{session}``.

    Parameters
    ----------
    xfm : str or tuple of str, optional
        Transform of the reference image to the template: :func:`causalms.register.read_transform`; several are a chain in the
        order of ``antsApplyTransforms -t``, such as 1Warp.nii.gz and 0GenericAffine.mat.
    xfm_reference : str, optional
        The template image that a matrix of FSL leads to.
    brain_mask : str, optional
        Brain mask in the world of the reference image.
    """

    xfm: str | tuple[str, ...] = ()
    xfm_reference: str | None = None
    brain_mask: str | None = None

    @property
    def transforms(self) -> tuple[str, ...]:
        """The patterns of the chain of transforms."""
        return (self.xfm,) if isinstance(self.xfm, str) else tuple(self.xfm)

    def stamp(self, participant_id: str, session: str | None) -> str:
        """Names, sizes and times of change of the files of a participant: another text where one of them was changed."""
        patterns = [pattern for pattern in (*self.transforms, self.xfm_reference, self.brain_mask) if pattern]
        files = [file for pattern in patterns if (file := _path(pattern, participant_id, session)).is_file()]
        return "\n".join(f"{file} {(here := file.stat()).st_size} {here.st_mtime_ns}" for file in files)


def register_patient(
    layout: Layout, participant_id: str, out: Path, external: ExternalFiles | None = None, deformable: bool = False
) -> dict[str, Any]:
    """Register the baseline images of a participant and move every mask with them.

    Parameters
    ----------
    layout : Layout
        Of the folder that is read.
    participant_id : str
    out : Path
        BIDS folder that is written into: images of 1 mm in MNI152 space without their skull, the brain mask, lesion masks of
        baseline and NET2 masks of later visits, each lesion with its volume; transforms and their inverses.
    external : ExternalFiles, optional
    deformable : bool
        Whether a deformation follows the affine transform; it and its inverse are written beside the matrices.

    Returns
    -------
    dict
        What the quality page says of the participant.

    Raises
    ------
    InputError, RefusalError
        If a file cannot be read, or the images could not be registered to the template.
    """
    external = external or ExternalFiles()
    session = layout.baseline[participant_id]
    images = {name: Scan(*own) for name in MODALITIES if (own := layout.own_image(participant_id, name)) is not None}
    if not images:
        there = images_there(layout, participant_id)
        expected = f"expected for example {image_path(participant_id, 'T1w', session)}"
        raise InputError(
            f"{participant_id}: no baseline image; {there}; {expected}"
            if there
            else f"{participant_id}: no baseline image; {expected}"
        )
    where = f"{participant_id}, {session}" if session else participant_id
    brain = _brain_mask(layout, participant_id, session, external)
    transform, follows = None, None
    if external.xfm:
        first = next(name for name in ("T1w", "FLAIR", "T2w", "ceT1w") if name in images)
        target = None if external.xfm_reference is None else read_space(_path(external.xfm_reference, participant_id, session))
        chain = [_path(pattern, participant_id, session) for pattern in external.transforms]
        transform, follows = read_transforms(chain, images[first].space, target)
    if follows is not None and deformable:
        raise UsageError("`deformable` finds a deformation, and `xfm` holds one; leave one of them out")
    registration = register_images(where, images, brain, transform, follows or deformable)
    _write_images(out, participant_id, session, images, registration)
    moved, notes = 0, []
    for kind in ("T2", "Gd"):
        own = layout.own_mask(participant_id, kind)
        if own is not None:
            matrix, note = _matrix_of(own[1], images, registration.to_template)
            moved += _move_mask(out / mask_path(participant_id, kind, session), Scan(*own), matrix, registration.deformation)
            notes += [f"{kind} mask: {note}"] if note else []
    for later in layout.other_sessions(participant_id):
        moved += _move_later(layout, participant_id, later, out, (images[registration.reference], registration))
    return {
        "participant_id": participant_id,
        "session": session or "",
        "images": ", ".join(images),
        "reference": registration.reference,
        "similarity": registration.position.similarity,
        "motion_mm": registration.position.motion_mm,
        "brain_ml": float(registration.brain.values.sum() * registration.brain.space.voxel_volume_mm3 / 1000),
        "scale": registration.scale,
        **({} if registration.deformation is None else _told(registration.deformation, registration.registered_brain)),
        "lesions_moved": moved,
        "note": "; ".join(notes),
    }


def _brain_mask(layout: Layout, participant_id: str, session: str | None, external: ExternalFiles) -> Scan | None:
    if external.brain_mask is not None:
        return Scan(*read_mask(_path(external.brain_mask, participant_id, session)))
    own = layout.own_mask(participant_id, "brain")
    return None if own is None else Scan(*own)


def _path(pattern: str, participant_id: str, session: str | None) -> Path:
    try:
        named = pattern.format(participant=participant_id, id=participant_id.removeprefix("sub-"), session=session or "")
    except (KeyError, IndexError, ValueError) as error:
        raise UsageError(f"{pattern}: only {{participant}}, {{id}} and {{session}} stand for something; write it so") from error
    return Path(named)


def _write_images(
    out: Path, participant_id: str, session: str | None, images: dict[str, Scan], registration: Registration
) -> None:
    for name, scan in registration.registered.items():
        file = out / image_path(participant_id, name, session)
        stem, _, rest = file.name.partition(f"_{session}_" if session else "_")
        stem = f"{stem}_{session}" if session else stem
        contrast, _, suffix = rest.rpartition("_")
        entities = [part for part in (stem, contrast, f"space-{TEMPLATE}", "desc-brain", suffix) if part]
        write_image(file.with_name("_".join(entities)), scan.values, STANDARD_SPACE)
        write_transform(file.with_name(f"{stem}_from-{name}_to-{TEMPLATE}_mode-image_xfm.txt"), registration.to_template[name])
    write_mask(out / mask_path(participant_id, "brain", session), registration.registered_brain, STANDARD_SPACE)
    home = registration.home
    grid = NativeGrid(images[home].space, registration.to_template[home], home, registration.deformation)
    write_native(native_path(participant_id, session, out), grid)


def _matrix_of(space: Any, images: dict[str, Scan], to_template: Any) -> tuple[np.ndarray, str]:
    """The transform of the image on whose grid a mask lies; where it lies on none, that of the FLAIR, and a note."""
    same = [name for name in ("FLAIR", "T2w", "T1w", "ceT1w") if name in images and images[name].space.same_as(space)]
    if same:
        return to_template[same[0]], ""
    home = next(name for name in ("FLAIR", "T2w", "T1w", "ceT1w") if name in images)
    return to_template[home], f"lies on the grid of no image; moved as the {home} by its world coordinates"


def _told(deformation: Deformation, brain: np.ndarray) -> dict[str, float]:
    """How far the deformation moves the brain (mm, root mean square), and its least ratio of volumes."""
    points = STANDARD_SPACE.world(np.argwhere(brain)[::50])
    apart = deformation.into_scan(points) - points
    ratio = deformation.least_volume_ratio(template_anatomy(deformation.space).brain)
    return {"deformation_mm": float(np.sqrt((apart**2).sum(axis=1).mean())), "least_volume_ratio": ratio}


def _move_mask(path: Path, mask: Scan, matrix: np.ndarray, deformation: Deformation | None) -> int:
    """Write a mask on the template's grid; how many lesions it holds there."""
    moved = mask.moved(matrix)
    through = None if deformation is None else deformation.into_template
    lesions = resample_lesions(moved.values, moved.space, STANDARD_SPACE, through)
    write_mask(path, lesions, STANDARD_SPACE)
    return count_lesions(lesions, STANDARD_SPACE.voxel_volume_mm3, LesionRule.default()).lesions


def _move_later(layout: Layout, participant_id: str, later: str, out: Path, baseline: tuple[Scan, Registration]) -> int:
    """Move the NET2 mask of a later visit: as that visit's own image, or as baseline where it lies on its grid."""
    there = replace(layout, baseline={**layout.baseline, participant_id: later}, lesions=None)
    own = there.own_mask(participant_id, "NET2")
    if own is None:
        return 0
    mask, (reference, registration) = Scan(*own), baseline
    images = {name: Scan(*found) for name in MODALITIES if (found := there.own_image(participant_id, name)) is not None}
    if mask.space.same_as(reference.space) or not images:
        matrix = np.eye(4)
    else:
        name = next(name for name in ("FLAIR", "T1w", "T2w", "ceT1w") if name in images)
        matrix = onto(f"{participant_id}, {later}, {name}", images[name], reference, registration.brain)
    to_template = registration.to_template[registration.reference] @ matrix
    return _move_mask(out / mask_path(participant_id, "NET2", later), mask, to_template, registration.deformation)
