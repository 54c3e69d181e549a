"""The bytes of a file that holds a volume: its header first, then no more than the header promises.

A file from outside may promise more than fits in memory, or unpack to more than it promises (a damaged header, or a bomb made of
compressed zeros).  Both are told from the first bytes, before anything of that size is allocated.
"""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer import MGHImage
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from causalms.errors import InputError

#: Endings of the files that are read, and whether they are compressed.
COMPRESSED = {".nii": False, ".nii.gz": True, ".mgh": False, ".mgz": True}
#: Voxels of the largest volume that is read: 512 a side, a head at half a millimetre.
MOST_VOXELS = 2**27
BROKEN = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    OverflowError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
    nib.spatialimages.ImageDataError,
)
#: Bytes from which every header can be read.
_START = 1 << 12
#: Where the voxels may begin at the latest, after extensions of the header; and how long FreeSurfer's remarks may be.
_FARTHEST, _LONGEST_REMARKS = 1 << 24, 1 << 20
_GIB = 2**30


def read_image(path: Path) -> nib.spatialimages.SpatialImage:
    """An image whose voxels are in memory as they are stored.

    Raises
    ------
    InputError
        If the file is missing, of another kind, cut short, holds more or less than its header promises, is no single volume of
        numbers, or is larger than the largest brain scan.
    """
    promised, most = _promised(path, _parsed(path, _start(path)))
    content = _content(path, most + 1)
    if not promised <= len(content) <= most:
        held = f"more than {most:,}" if len(content) > most else f"{len(content):,}, so it is cut short"
        raise InputError(f"{path}: the header promises {promised:,} bytes, the file holds {held}; copy or export it again")
    return _parsed(path, content)


def read_header(path: Path) -> nib.spatialimages.SpatialImage:
    """An image whose voxels are not there: of a compressed file only the first bytes are unpacked.

    Raises
    ------
    InputError
        As :func:`read_image`, as far as the header tells.
    """
    image = _parsed(path, _start(path))
    _promised(path, image)
    return image


def damaged(path: Path, what: str, error: Exception) -> InputError:
    """The error for a file that its reader cannot make sense of."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path}: {what} ({reason}); copy or export the file again")


def ending(path: Path | str) -> str:
    """The ending that tells the kind of a volume's file, in small letters.

    Examples
    --------
    >>> ending(Path("sub-01_FLAIR.NII.gz")), ending(Path("aseg.mgz")), ending(Path("scan.nrrd"))
    ('.nii.gz', '.mgz', '.nrrd')
    """
    name = os.path.basename(path).lower()
    return next((known for known in COMPRESSED if name.endswith(known)), os.path.splitext(name)[1])


def _start(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    kind = ending(path)
    if kind not in COMPRESSED:
        raise InputError(f"{path}: images are read as {', '.join(COMPRESSED)}, not {kind!r}; convert it (dcm2niix, mri_convert)")
    try:
        with path.open("rb") as file:
            content = file.read(1 << 16)
        if not content:
            raise InputError(f"{path}: the file is empty; copy or export it again")
        if not COMPRESSED[kind]:
            return content[:_START]
        if content[:2] != b"\x1f\x8b":
            raise InputError(f"{path}: named {kind} but not compressed by gzip; compress it or rename it")
        return zlib.decompressobj(31).decompress(content, _START)
    except (OSError, zlib.error) as error:
        raise damaged(path, "the gzip stream is broken or cut short", error) from error


def _parsed(path: Path, content: bytes) -> nib.spatialimages.SpatialImage:
    kind: type[nib.spatialimages.SpatialImage]
    if ending(path) in (".mgh", ".mgz"):
        kind = MGHImage
    else:
        kind = nib.Nifti2Image if content[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nib.Nifti1Image
    try:
        with LoggingOutputSuppressor():
            return kind.from_bytes(content)
    except BROKEN as error:
        raise damaged(path, f"not a {'FreeSurfer' if kind is MGHImage else 'NIfTI'} file", error) from error


def _promised(path: Path, image: nib.spatialimages.SpatialImage) -> tuple[int, int]:
    """Bytes of the unpacked file by its header, and the most that it may hold: FreeSurfer's end with remarks of any length."""
    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 3 or min(shape[:3]) < 1 or any(n != 1 for n in shape[3:]):
        raise InputError(f"{path}: holds an array of shape {shape}, expected one 3D volume; split it")
    if math.prod(shape) > MOST_VOXELS:
        size = " x ".join(map(str, shape[:3]))
        raise InputError(
            f"{path}: the header promises {size} voxels ({math.prod(shape) * 4 / _GIB:,.0f} GiB in memory), more than the "
            f"{MOST_VOXELS:,} of the largest scan that is read; resample it, or export it again if the header is damaged"
        )
    stored = image.get_data_dtype()
    if stored.kind not in "biuf":
        raise InputError(f"{path}: holds {_words(stored)} instead of one number a voxel; export the magnitude or one channel")
    first = {nib.Nifti1Image: 352, nib.Nifti2Image: 544, MGHImage: 284}[type(image)]
    offset = int(image.dataobj.offset)
    if not first <= offset <= _FARTHEST:
        raise InputError(
            f"{path}: the header says that voxels begin at byte {offset:,}, expected {first} or a few more; export it again"
        )
    promised = offset + math.prod(shape) * int(stored.itemsize)
    return promised, promised + (_LONGEST_REMARKS if isinstance(image, MGHImage) else 0)


def _content(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return _unpacked(file, most) if COMPRESSED[ending(path)] else file.read(most)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, "the gzip stream is broken or cut short", error) from error
    except MemoryError as error:
        raise InputError(f"{path}: {most / _GIB:.1f} GiB do not fit in memory; resample it") from error


def _unpacked(file: BinaryIO, most: int) -> bytes:
    """The first ``most`` bytes of a gzip stream of one or several members; where all is read, their checksums are verified."""
    parts: list[bytes] = []
    left, packed, stream = most, b"", zlib.decompressobj(31)
    while left > 0 and (packed := packed or file.read(1 << 20)):
        if stream.eof:
            packed = packed.lstrip(b"\0")  # some writers pad
            if not packed:
                continue
            stream = zlib.decompressobj(31)
        parts.append(stream.decompress(packed, left))
        left -= len(parts[-1])
        packed = stream.unused_data if stream.eof else stream.unconsumed_tail
    if left > 0 and not stream.eof:
        raise EOFError("it ends early")
    return b"".join(parts)


def _words(stored: np.dtype[np.generic]) -> str:
    return {"c": "complex numbers", "V": "colours"}.get(stored.kind, f"values of type {stored}")
