"""Damages of images and of trial folders."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np

from studies.robustness.damage import damage

Random = np.random.Generator


def _saved(data: np.ndarray, affine: np.ndarray, code: int = 4) -> bytes:
    image = nibabel.Nifti1Image(data, affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    return bytes(image.to_bytes())


def _parts(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    image = nibabel.Nifti1Image.from_bytes(content)
    return np.asarray(image.dataobj), image.affine


def _field(content: bytes, at: int, form: str, *values: object) -> bytes:
    return content[:at] + struct.pack(form, *values) + content[at + struct.calcsize(form) :]


@damage("image", "refused", "bytes", "mask")
def header_promises_more_than_there_is(content: bytes, random: Random) -> bytes:
    return _field(content, 42, "<3h", 240, 280, 240)


@damage("image", "refused", "bytes", "mask")
def header_promises_more_than_memory(content: bytes, random: Random) -> bytes:
    return _field(content, 42, "<3h", 32000, 32000, 32000)


@damage("image", "refused", "bytes", "mask")
def negative_dimensions(content: bytes, random: Random) -> bytes:
    return _field(content, 42, "<h", -24)


@damage("image", "refused", "bytes", "mask")
def nine_dimensions(content: bytes, random: Random) -> bytes:
    return _field(content, 40, "<h", 9)


@damage("image", "refused", "bytes", "mask")
def unknown_data_type(content: bytes, random: Random) -> bytes:
    return _field(content, 70, "<h", 999)


@damage("image", "refused", "bytes", "mask")
def affine_not_a_number(content: bytes, random: Random) -> bytes:
    return _field(content, 280, "<4f", *[float("nan")] * 4)


@damage("image", "refused", "bytes", "mask")
def affine_zero(content: bytes, random: Random) -> bytes:
    return _field(_field(content, 280, "<12f", *[0.0] * 12), 252, "<h", 0)


@damage("image", "refused", "bytes", "mask")
def offset_of_data_beyond_the_end(content: bytes, random: Random) -> bytes:
    return _field(content, 108, "<f", 1e9)


@damage("image", "refused", "bytes", "mask")
def values_not_numbers(content: bytes, random: Random) -> bytes:
    data, affine = _parts(content)
    data = data.astype(np.float32)
    data[tuple(random.integers(0, s) for s in data.shape)] = np.nan
    return _saved(data, affine)


@damage("image", "refused", "bytes", "mask")
def values_of_two(content: bytes, random: Random) -> bytes:
    data, affine = _parts(content)
    return _saved(data * np.uint8(2), affine)


@damage("image", "refused", "bytes", "mask")
def probabilities(content: bytes, random: Random) -> bytes:
    data, affine = _parts(content)
    return _saved(data.astype(np.float32) * np.float32(0.7), affine)


@damage("image", "harmless", "bytes", "mask")
def scaled_255(content: bytes, random: Random) -> bytes:
    data, affine = _parts(content)
    return _field(_saved(data * np.uint8(255), affine), 112, "<2f", 1 / 255, 0.0)


@damage("image", "harmless", "bytes", "mask")
def rounded_ones(content: bytes, random: Random) -> bytes:
    data, affine = _parts(content)
    return _saved(data.astype(np.float32) * np.float32(0.9999999), affine)


@damage("image", "refused", "bytes", "mask")
def four_dimensions(content: bytes, random: Random) -> bytes:
    data, affine = _parts(content)
    return _saved(np.stack([data, data], axis=-1), affine)


@damage("image", "harmless", "bytes", "mask")
def trailing_dimension_of_one(content: bytes, random: Random) -> bytes:
    data, affine = _parts(content)
    return _saved(data[..., None], affine)


@damage("image", "refused", "bytes", "mask")
def colours(content: bytes, random: Random) -> bytes:
    data, affine = _parts(content)
    rgb = np.zeros(data.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["R"] = data
    return _saved(rgb, affine)


@damage("image", "refused", "bytes", "mask")
def complex_numbers(content: bytes, random: Random) -> bytes:
    data, affine = _parts(content)
    return _saved(data.astype(np.complex64), affine)


@damage("image", "refused", "bytes", "mask")
def gzip_under_the_plain_suffix(content: bytes, random: Random) -> bytes:
    return gzip.compress(content)


def _some(folder: Path, pattern: str, random: Random) -> Path:
    files = sorted(folder.rglob(pattern))
    return files[int(random.integers(len(files)))]


def _image(folder: Path, random: Random) -> Path:
    return _some(folder, "sub-*_FLAIR.nii.gz", random)


@damage("folder", "refused", "path", "trial")
def image_cut(folder: Path, random: Random) -> None:
    file = _image(folder, random)
    file.write_bytes(file.read_bytes()[:2000])


@damage("folder", "refused", "path", "trial")
def image_empty(folder: Path, random: Random) -> None:
    _image(folder, random).write_bytes(b"")


@damage("folder", "refused", "path", "trial")
def image_of_noise(folder: Path, random: Random) -> None:
    _image(folder, random).write_bytes(random.bytes(3000))


@damage("folder", "refused", "path", "trial")
def image_not_a_number(folder: Path, random: Random) -> None:
    _resaved(folder, random, lambda data: np.where(data > data.mean(), np.nan, data))


@damage("folder", "refused", "path", "trial")
def image_constant(folder: Path, random: Random) -> None:
    _resaved(folder, random, np.zeros_like)


@damage("folder", "refused", "path", "trial")
def image_of_another_shape(folder: Path, random: Random) -> None:
    _resaved(folder, random, lambda data: data[:-3])


@damage("folder", "refused", "path", "trial")
def image_in_scanner_space(folder: Path, random: Random) -> None:
    _resaved(folder, random, lambda data: data, code=1)


@damage("folder", "refused", "path", "trial")
def image_far_from_the_brain(folder: Path, random: Random) -> None:
    _resaved(folder, random, lambda data: data, shift=300.0)


def _resaved(folder: Path, random: Random, change: object, code: int = 4, shift: float = 0.0) -> None:
    file = _image(folder, random)
    image = nibabel.load(file)
    data, affine = np.asarray(image.dataobj, np.float32), image.affine.copy()
    affine[:3, 3] += shift
    file.write_bytes(gzip.compress(_saved(np.asarray(change(data), np.float32), affine, code), 1))  # type: ignore[operator]


@damage("folder", "refused", "path", "trial")
def participants_missing(folder: Path, random: Random) -> None:
    (folder / "participants.tsv").unlink()


@damage("folder", "refused", "path", "trial")
def participants_in_utf16(folder: Path, random: Random) -> None:
    file = folder / "participants.tsv"
    file.write_bytes(file.read_text().encode("utf-16"))


@damage("folder", "refused", "path", "trial")
def participant_without_images(folder: Path, random: Random) -> None:
    file = folder / "participants.tsv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[-1].replace(lines[-1].split("\t")[0], "sub-9999")]) + "\n")


@damage("folder", "refused", "path", "trial")
def patient_twice(folder: Path, random: Random) -> None:
    file = folder / "participants.tsv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[-1]]) + "\n")


@damage("folder", "refused", "path", "trial")
def age_of_564(folder: Path, random: Random) -> None:
    file = folder / "participants.tsv"
    lines = [line.split("\t") for line in file.read_text().splitlines()]
    lines[1][lines[0].index("age")] = "564"
    file.write_text("\n".join("\t".join(line) for line in lines) + "\n")


@damage("folder", "refused", "path", "trial")
def baseline_images_missing(folder: Path, random: Random) -> None:
    _image(folder, random).unlink()


@damage("folder", "refused", "path", "trial")
def description_broken(folder: Path, random: Random) -> None:
    (folder / "dataset_description.json").write_text("{")


@damage("folder", "refused", "path", "trial")
def mask_is_a_folder(folder: Path, random: Random) -> None:
    file = _some(folder, "*label-L*_mask.nii.gz", random)
    file.unlink()
    file.mkdir()


@damage("folder", "refused", "path", "trial")
def link_to_nothing(folder: Path, random: Random) -> None:
    file = _image(folder, random)
    file.unlink()
    file.symlink_to("nowhere.nii.gz")
