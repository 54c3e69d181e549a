"""Volumes from outside: headers that promise too much or too little, bombs, other formats, masks with rounding."""

from __future__ import annotations

import gzip
import resource
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from causalms.errors import InputError
from causalms.trials.naming import choose
from causalms.trials.nifti import read_mask, read_space, read_volume
from causalms.trials.volume_file import MOST_VOXELS, ending
from tests.conftest import Run, refused

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
VALUES = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(np.int16)
#: A volume with these edges may take no more memory than this, before it is refused.
MIB = 2**20


def _nifti(values: np.ndarray = VALUES, slope: float | None = None, kind: type = nib.Nifti1Image) -> bytes:
    image = kind(values, AFFINE)
    image.set_sform(AFFINE, 4)
    image.header.set_slope_inter(slope, 0 if slope else None)
    if slope is None:
        return bytes(image.to_bytes())
    packed = bytearray(kind(values, AFFINE, image.header).to_bytes())
    packed[112:120] = np.array([slope, 0.0], "<f4").tobytes()  # scl_slope, scl_inter
    return bytes(packed)


def _with_edges(packed: bytes, *edges: int) -> bytes:
    changed = bytearray(packed)
    changed[40:56] = np.array([len(edges), *edges, *[1] * (7 - len(edges))], "<i2").tobytes()
    return bytes(changed)


def _written(folder: Path, name: str, packed: bytes) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(packed) if name.endswith(("gz", "mgz")) else packed)
    return path


def _memory_for(action: object) -> float:
    """MiB by which the most memory ever used grows."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert callable(action)
    action()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_nifti_is_read_as_it_was_written(tmp_path: Path, name: str, kind: type) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(_nifti(kind=kind)) if name.lower().endswith("gz") else _nifti(kind=kind))
    values, space = read_volume(path)
    assert np.array_equal(values, VALUES)
    assert np.allclose(space.affine, AFFINE)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("edges", [(30000, 30000, 30000), (600, 600, 600), (32767, 32767, 32767)])
@pytest.mark.parametrize("read", [read_volume, read_mask, read_space])
def test_header_that_promises_more_than_any_scan_is_refused_before_anything_is_allocated(
    tmp_path: Path, name: str, edges: tuple[int, int, int], read: object
) -> None:
    path = _written(tmp_path, name, _with_edges(_nifti(), *edges))
    assert callable(read)

    def refuse() -> None:
        with pytest.raises(InputError, match=rf"a\.nii.*the header promises {edges[0]} x {edges[1]} x {edges[2]} voxels"):
            read(path)

    assert _memory_for(refuse) < 64


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_file_cut_short_is_refused_with_what_it_promises(tmp_path: Path, name: str) -> None:
    path = _written(tmp_path, name, _nifti()[:-10])
    with pytest.raises(InputError, match=r"promises 592 bytes, the file holds 582, so it is cut short"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_file_that_holds_more_than_its_header_promises_is_refused(tmp_path: Path, name: str) -> None:
    path = _written(tmp_path, name, _nifti() + b"\0" * 7)
    with pytest.raises(InputError, match=r"promises 592 bytes, the file holds more than 592"):
        read_volume(path)


def test_bomb_of_compressed_zeros_is_refused_without_being_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(_nifti())
        for _ in range(512):
            file.write(bytes(MIB))
    assert path.stat().st_size < MIB

    def refuse() -> None:
        with pytest.raises(InputError, match=r"bomb\.nii\.gz: the header promises 592 bytes, the file holds more than 592"):
            read_volume(path)

    assert _memory_for(refuse) < 64


def test_gzip_of_several_members_is_read_and_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    packed = _nifti()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(packed[:400]) + gzip.compress(packed[400:]) + bytes(20))
    assert np.array_equal(read_volume(path)[0], VALUES)
    whole = bytearray(gzip.compress(packed))
    whole[-6] ^= 1  # of the checksum that ends the stream
    path.write_bytes(whole)
    with pytest.raises(InputError, match="the gzip stream is broken or cut short"):
        read_volume(path)


@pytest.mark.parametrize("place", [0.0, 16.0, 1e9, float("nan"), float("inf"), -352.0])
def test_header_that_misplaces_its_voxels_is_refused(tmp_path: Path, place: float, capfd: pytest.CaptureFixture[str]) -> None:
    packed = bytearray(_nifti())
    packed[108:112] = np.float32(place).tobytes()
    with pytest.raises(InputError, match=r"a\.nii: "):
        read_volume(_written(tmp_path, "a.nii", bytes(packed)))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (VALUES.astype(np.complex64), "holds complex numbers instead of one number a voxel"),
        (np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "holds colours instead of one number a voxel"),
        (np.zeros((4, 5, 6, 3), np.int16), r"array of shape \(4, 5, 6, 3\), expected one 3D volume"),
    ],
)
def test_volume_that_is_no_number_a_voxel_is_named(tmp_path: Path, values: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_volume(_written(tmp_path, "a.nii", _nifti(values)))


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
def test_freesurfer_volume_is_read_in_its_own_space(tmp_path: Path, name: str, kind: type) -> None:
    nib.save(nib.MGHImage(VALUES.astype(kind), AFFINE), tmp_path / name)
    values, space = read_volume(tmp_path / name)
    assert np.array_equal(values, VALUES)
    assert values.dtype.isnative
    assert np.allclose(space.affine, AFFINE)
    assert read_space(tmp_path / name).same_as(space)


def test_freesurfer_mask_is_counted(run: Run, tmp_path: Path) -> None:
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:4, 2:4, 2:4] = 1
    nib.save(nib.MGHImage(mask, AFFINE), tmp_path / "lesions.mgz")
    ended = run("lesions", tmp_path / "lesions.mgz", "--no-regions", "--out", tmp_path / "l.csv")
    assert ended.code == 0, ended.error
    assert "1 lesions of 1 masks" in ended.printed


@pytest.mark.parametrize("name", ["mask.nrrd", "mask.img", "mask.mha", "mask.dcm", "mask"])
def test_volume_of_another_format_is_named(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(_nifti())
    refused(run("lesions", tmp_path / name, "--out", tmp_path / "l.csv"), 1, name, "images are read as .nii, .nii.gz, .mgh, .mgz")


def test_mask_scaled_from_255_to_one_is_a_mask(tmp_path: Path) -> None:
    mask = VALUES % 7 == 0
    path = _written(tmp_path, "m.nii.gz", _nifti((mask * 255).astype(np.uint8), slope=1 / 255))
    assert np.array_equal(read_mask(path)[0], mask)


@pytest.mark.parametrize("one", [0.9999999, 1.0000001])
def test_mask_of_rounded_ones_is_a_mask(tmp_path: Path, one: float) -> None:
    mask = VALUES % 7 == 0
    path = _written(tmp_path, "m.nii", _nifti(mask.astype(np.float32) * np.float32(one)))
    assert np.array_equal(read_mask(path)[0], mask)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.9999, "0.9999"), (0.5, "0.5"), (255, "255.0"), (1.00001, "1.00001"), (np.nan, "nan"), (np.inf, "inf")]
)
def test_value_that_is_no_mask_is_shown_as_it_is(tmp_path: Path, value: float, shown: str) -> None:
    mask = np.where(VALUES % 7 == 0, np.float32(value), np.float32(0))
    with pytest.raises(InputError, match=f"only 0 and 1, found also {shown};"):
        read_mask(_written(tmp_path, "m.nii", _nifti(mask)))


def test_largest_volume_is_that_of_a_head_at_half_a_millimetre() -> None:
    assert MOST_VOXELS == 512**3
    assert ending(Path("x.nii.gz")) == ".nii.gz"


def test_freesurfer_images_of_a_bids_folder_are_found(tmp_path: Path) -> None:
    assert choose(tmp_path, "sub-1_FLAIR.nii.gz") is None
    nib.save(nib.MGHImage(VALUES, AFFINE), tmp_path / "sub-1_FLAIR.mgz")
    assert choose(tmp_path, "sub-1_FLAIR.nii.gz") == tmp_path / "sub-1_FLAIR.mgz"
    _written(tmp_path, "sub-1_FLAIR.nii.gz", _nifti())
    assert choose(tmp_path, "sub-1_FLAIR.nii.gz") == tmp_path / "sub-1_FLAIR.nii.gz"
