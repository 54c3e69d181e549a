"""Damaged checkpoints and forecasts that cannot be made leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Run, files_in, refused


def _rewritten(checkpoint: Path, path: Path, schema: int | None = None, extra: bool = False) -> None:
    """The same checkpoint with another schema version or one tensor more, and a checksum that agrees."""
    import torch

    from causalms.generator import checkpoint as module

    read = module.read_checkpoint(checkpoint)
    header = {key: value for key, value in read.header.items() if key not in ("checksum", "schema_version")}
    tensors = {**read.tensors, "smuggled": torch.zeros(2)} if extra else read.tensors
    module.write_checkpoint(path, tensors, header if schema is None else {**header, "schema_version": schema})


def _flipped(checkpoint: Path, path: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[-3] ^= 0xFF
    path.write_bytes(bytes(content))


DAMAGES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "one byte changed": (_flipped, "checksum"),
    "cut short": (lambda whole, path: path.write_bytes(whole.read_bytes()[:5000]), "not a readable safetensors checkpoint"),
    "a pickle": (lambda _, path: path.write_bytes(b"\x80\x04\x95cos\nsystem\n."), "not a readable safetensors checkpoint"),
    "another version": (lambda whole, path: _rewritten(whole, path, schema=99), "checkpoint schema 99"),
    "an extra tensor": (lambda whole, path: _rewritten(whole, path, extra=True), "extra tensor 'smuggled'"),
    "not there": (lambda _, path: None, "no such checkpoint"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_isrefused(run: Run, simulated: Path, checkpoint: Path, tmp_path: Path, damage: str) -> None:
    make, words = DAMAGES[damage]
    model = tmp_path / "model.safetensors"
    make(checkpoint, model)
    refused(run("forecast", simulated, "--model", model, "--out", tmp_path / "out"), 1, "model.safetensors", words)
    assert not (tmp_path / "out").exists()
    assert set(files_in(tmp_path)) <= {"model.safetensors"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--arm", "aspirin"], "aspirin"),
        (["--participant", "sub-9999"], "sub-9999"),
        (["--week", "9999"], "9999"),
    ],
)
def test_forecast_that_cannot_be_made_leaves_nothing(
    run: Run, simulated: Path, checkpoint: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    ended = run("forecast", simulated, "--model", checkpoint, "--out", tmp_path / "out", *options)
    assert ended.code in (1, 2)
    refused(ended, ended.code, words)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(("options", "words"), [(["--arm", "aspirin"], "aspirin"), (["--week", "9999"], "9999")])
def test_arm_or_week_that_the_model_does_not_know_is_refused_before_scans_are_read(
    run: Run, checkpoint: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    refused(run("forecast", tmp_path / "no-trial", "--model", checkpoint, "--out", tmp_path / "out", *options), 1, words)
