"""Volumes in and out: NIfTI (and FreeSurfer's) read with one-line errors, NIfTI written with the same bytes every time."""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from causalms.errors import InputError, UsageError
from causalms.trials.space import Space, mni_space
from causalms.trials.volume_file import BROKEN, damaged, read_header, read_image

#: Images are written with the 4096 levels of a scanner's 12 bits.
_LEVELS = 4095
#: How far a mask's value may be from 0 and 1: some units in the last place of single precision, from scaling in the header.
_ROUNDING = 1e-6


def read_volume(path: Path) -> tuple[np.ndarray, Space]:
    """Values of a volume, scaled as its header says, and its grid.

    Returns
    -------
    values : array, shape (X, Y, Z)
        In the file's own integer type where the header asks for no scaling, else float32.
    space : Space

    Raises
    ------
    InputError
        If the file is missing, no gzip, cut short, no NIfTI, or not one three-dimensional volume.
    """
    image = read_image(path)
    try:
        slope, inter = image.header.get_slope_inter() if hasattr(image.header, "get_slope_inter") else (None, None)
        plain = slope in (None, 1.0) and inter in (None, 0.0)
        values = np.asarray(image.dataobj) if plain else np.asarray(image.get_fdata(dtype=np.float32))
    except BROKEN as error:
        raise damaged(path, "the voxels cannot be read", error) from error
    except MemoryError as error:
        raise InputError(f"{path}: {image.shape} voxels do not fit in memory; resample it") from error
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return values.reshape(values.shape[:3]), _space(path, image)


def finite(path: Path, values: np.ndarray) -> np.ndarray:
    """An image in single precision; refused if a value is not finite, or too large for it."""
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32, copy=False)
    if not np.isfinite(numbers.sum(dtype=np.float64)):
        wrong = int((~np.isfinite(numbers)).sum())
        raise InputError(f"{path}: {wrong} voxels are not finite (NaN or infinite); set them to 0 or export the image again")
    return numbers


def read_mask(path: Path) -> tuple[np.ndarray, Space]:
    """A mask as bool, and its grid.

    Raises
    ------
    InputError
        As ``read_volume``, or if the file holds anything but 0 and 1.
    """
    values, space = read_volume(path)
    return binary(path, values), space


def binary(path: Path, values: np.ndarray) -> np.ndarray:
    """A mask as bool; refused if it holds anything but 0 and 1, up to the rounding of single precision."""
    inside, outside = values == 1, values == 0
    if values.dtype.kind == "f" and np.count_nonzero(inside) + np.count_nonzero(outside) < values.size:
        inside, outside = np.abs(values - 1) <= _ROUNDING, np.abs(values) <= _ROUNDING
    if np.count_nonzero(inside) + np.count_nonzero(outside) < values.size:
        others = np.unique(values[~inside & ~outside])[:3]
        shown = ", ".join(str(value) for value in others)  # the shortest digits that tell the value from its neighbours
        raise InputError(f"{path}: a mask holds only 0 and 1, found also {shown}; threshold it and save it as integers")
    return np.asarray(inside)


def read_space(path: Path) -> Space:
    """Grid of a volume; of a compressed file only the first bytes are unpacked.

    Raises
    ------
    InputError
        As ``read_volume``, as far as the header tells.
    """
    return _space(path, read_header(path))


def write_image(path: Path, values: np.ndarray, space: Space) -> None:
    """Write an image as compressed NIfTI with 4096 grey levels between its smallest and its largest value.

    The same values give the same bytes on every machine with the same zlib.

    Raises
    ------
    UsageError
        If the array has another shape than the grid or holds a value that is not finite.
    InputError
        If the disk refuses.
    """
    numbers = _fitting(path, values, space).astype(np.float32, copy=False)
    low, high = float(numbers.min()), float(numbers.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UsageError(f"{path.name}: holds values that are not finite; give finite numbers")
    slope = (high - low) / _LEVELS or 1.0
    stored = np.rint((numbers - low) / slope).astype("<i2")
    _write(path, _header(space, "<i2", slope, low), stored)


def write_map(path: Path, values: np.ndarray, space: Space) -> None:
    """Write numbers (a probability map, distances) in single precision, without grey levels.

    Raises
    ------
    UsageError, InputError
        As ``write_image``.
    """
    numbers = _fitting(path, values, space)
    if not np.isfinite(numbers).all():
        raise UsageError(f"{path.name}: holds values that are not finite; give finite numbers")
    _write(path, _header(space, "<f4", 1.0, 0.0), numbers.astype("<f4"))


def write_mask(path: Path, mask: np.ndarray, space: Space) -> None:
    """Write a mask as compressed NIfTI of 0 and 1 (uint8).

    Raises
    ------
    UsageError
        If the array has another shape than the grid, or values besides 0 and 1.
    InputError
        If the disk refuses.
    """
    values = _fitting(path, mask, space)
    if values.dtype != bool and not np.isin(np.unique(values), (0, 1)).all():
        raise UsageError(f"{path.name}: a mask holds 0 and 1, found {np.unique(values)[:5].tolist()}; threshold it first")
    _write(path, _header(space, "u1", 1.0, 0.0), values.astype(np.uint8))


def write_displacements(path: Path, field: np.ndarray, space: Space) -> None:
    """Write displacements (mm, right-anterior-superior; shape X, Y, Z, 3) as ITK and ANTs read them.

    Raises
    ------
    InputError
        If the disk refuses.
    """
    header = _blank_header(space, "<f4").copy()
    header.set_data_shape((*space.shape, 1, 3))
    header.set_intent("vector")
    to_itk = field * np.array([-1, -1, 1])
    _write(path, bytes(header.binaryblock + b"\0\0\0\0"), to_itk[..., None, :].astype("<f4"))


def read_displacements(path: Path) -> tuple[np.ndarray, Space]:
    """Displacements that :func:`write_displacements` wrote, and their grid.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    try:
        image = nib.load(path)
        values = np.asarray(image.dataobj, dtype=np.float32)
        field = values[..., 0, :] * np.array([-1, -1, 1], dtype=np.float32)
        return field, Space(field.shape[:3], np.asarray(image.affine))
    except (*BROKEN, FileNotFoundError, IndexError, nib.filebasedimages.ImageFileError) as error:
        raise InputError(f"{path}: is no deformation that causalms register wrote; register the scan again") from error


def _space(path: Path, image: nib.spatialimages.SpatialImage) -> Space:
    header = image.header
    if "goodRASFlag" in header and not int(header["goodRASFlag"]):
        raise InputError(f"{path}: its header (goodRASFlag 0) does not say where the brain is; register the scan to MNI152")
    if "sform_code" in header and not (int(header["sform_code"]) or int(header["qform_code"])):
        raise InputError(
            f"{path}: neither sform nor qform says where the brain is (both codes are 0); register the scan to MNI152, or copy "
            "the header of the scan it was made from"
        )
    try:
        return Space(tuple(int(n) for n in image.shape[:3]), image.affine)  # type: ignore[arg-type]
    except (UsageError, HeaderDataError) as error:
        raise InputError(f"{path}: the header's affine cannot be inverted; correct the header (sform, qform)") from error


def _fitting(path: Path, values: np.ndarray, space: Space) -> np.ndarray:
    array = np.asarray(values)
    if array.shape != space.shape:
        raise UsageError(f"{path.name}: has shape {array.shape}, the grid {space.shape}; give the array on the trial's grid")
    return array


@lru_cache(maxsize=64)
def _blank_header(space: Space, kind: str) -> nib.Nifti1Header:
    header = nib.Nifti1Header()
    header.set_data_shape(space.shape)
    header.set_data_dtype(np.dtype(kind))
    in_mni = any(space.same_as(mni_space(grid)) for grid in ("4mm", "3mm", "2mm", "1mm"))
    code = "mni" if in_mni else "aligned"
    header.set_qform(space.affine, code, strip_shears=True)
    header.set_sform(space.affine, code)
    header.set_xyzt_units("mm")
    header["vox_offset"] = 352
    return header


def _header(space: Space, kind: str, slope: float, inter: float) -> bytes:
    header = _blank_header(space, kind).copy()
    header["scl_slope"], header["scl_inter"] = slope, inter
    return bytes(header.binaryblock + b"\0\0\0\0")


def _write(path: Path, header: bytes, stored: np.ndarray) -> None:
    packed = bytearray(gzip.compress(header + stored.tobytes(order="F"), compresslevel=1, mtime=0))
    packed[9] = 255  # operating system: unknown, so that the bytes are the same everywhere
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place or free some room") from error
