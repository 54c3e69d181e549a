"""NIfTI files in and out: read whole with one-line errors, written fast and with the same bytes every time."""

from __future__ import annotations

import gzip
import zlib
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from causalms.errors import InputError, UsageError
from causalms.trials.space import Space, mni_space

#: Images are written with the 4096 levels of a scanner's 12 bits.
_LEVELS = 4095
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    nib.spatialimages.ImageDataError,
)


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
    image = _image(path, _bytes_of(path))
    try:
        slope, inter = image.header.get_slope_inter()
        plain = slope in (None, 1.0) and inter in (None, 0.0)
        values = np.asarray(image.dataobj) if plain else np.asarray(image.get_fdata(dtype=np.float32))
    except _BROKEN as error:
        raise _damaged(path, "the voxels cannot be read", error) from error
    return values.reshape(values.shape[:3]), _space(path, image)


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
    """A mask as bool; refused if it holds anything but 0 and 1."""
    inside = values == 1
    if np.count_nonzero(values) != np.count_nonzero(inside):
        found = np.unique(values[~inside & (values != 0)])[:3]
        shown = ", ".join(f"{value:g}" for value in found)
        raise InputError(f"{path}: a mask holds only 0 and 1, found also {shown}; threshold it and save it as integers")
    return np.asarray(inside)


def read_space(path: Path) -> Space:
    """Grid of a volume; of a compressed file only the first bytes are unpacked.

    Raises
    ------
    InputError
        As ``read_volume``, as far as the header tells.
    """
    return _space(path, _image(path, _bytes_of(path, only_header=True)))


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


def _bytes_of(path: Path, only_header: bool = False) -> bytes:
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    try:
        with path.open("rb") as file:
            content = file.read(1 << 16) if only_header else file.read()
        if path.name.endswith(".gz"):
            if content[:2] != b"\x1f\x8b":
                raise InputError(f"{path}: named .gz but not compressed by gzip; compress it or rename it to .nii")
            return zlib.decompressobj(31).decompress(content, 4096) if only_header else gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, "the gzip stream is broken or cut short", error) from error
    return content


def _image(path: Path, content: bytes) -> nib.Nifti1Image:
    kind = nib.Nifti2Image if content[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nib.Nifti1Image
    try:
        image = kind.from_bytes(content)
    except _BROKEN as error:
        raise _damaged(path, "not a NIfTI file", error) from error
    shape = image.shape
    if len(shape) < 3 or min(shape[:3]) < 1 or any(n != 1 for n in shape[3:]):
        raise InputError(f"{path}: holds an array of shape {tuple(map(int, shape))}, expected one 3D volume; split it")
    return image


def _space(path: Path, image: nib.Nifti1Image) -> Space:
    if not (int(image.header["sform_code"]) or int(image.header["qform_code"])):
        raise InputError(
            f"{path}: neither sform nor qform says where the brain is (both codes are 0); register the scan to MNI152, or copy "
            "the header of the scan it was made from"
        )
    try:
        return Space(tuple(int(n) for n in image.shape[:3]), image.affine)  # type: ignore[arg-type]
    except (UsageError, HeaderDataError) as error:
        raise InputError(f"{path}: the header's affine cannot be inverted; correct the header (sform, qform)") from error


def _damaged(path: Path, what: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path}: {what} ({reason}); copy or export the file again")


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
    in_mni = any(space.same_as(mni_space(grid)) for grid in ("4mm", "3mm", "2mm"))
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
