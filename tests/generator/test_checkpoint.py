"""A checkpoint whose header was changed is refused."""

from __future__ import annotations

import json
import struct
import warnings
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from causalms.errors import DataNote, InputError
from causalms.generator import Generator
from causalms.generator.checkpoint import read_checkpoint


def _changed(file: Path, target: Path, metadata: str | None = None, old: bool = True, **entries: object) -> Path:
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    own = json.loads(header["__metadata__"]["causalms"])
    if old and entries:
        del own["header_checksum"]  # as older versions wrote it
    header["__metadata__"]["causalms"] = json.dumps({**own, **entries}) if metadata is None else metadata
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    target.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return target


@pytest.fixture(scope="module")
def reference() -> Path:
    return Path(str(resources.files("causalms.generator") / "reference.safetensors"))


@pytest.mark.parametrize("metadata", ["{", "[]", "7", "[" * 100_000])
def test_a_header_that_is_no_mapping_is_refused(reference: Path, tmp_path: Path, metadata: str) -> None:
    with pytest.raises(InputError, match="the file is damaged"):
        Generator.load(_changed(reference, tmp_path / "x.safetensors", metadata))


@pytest.mark.parametrize(
    "entries",
    [
        {"arms": "abcdef"},
        {"arms": []},
        {"weeks": []},
        {"weeks": ["x", "y"]},
        {"config": {"name": "x", "grid": "4mm", "channels": "x"}},
    ],
)
def test_a_header_of_wrong_entries_is_refused(reference: Path, tmp_path: Path, entries: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"train it again|copy it again"), pytest.warns(DataNote):
        Generator.load(_changed(reference, tmp_path / "x.safetensors", **entries))


def test_a_checkpoint_without_checksum_of_its_header_loads_with_a_note(reference: Path, tmp_path: Path) -> None:
    with pytest.warns(DataNote, match=r"old.safetensors: its header has no checksum .* save it anew"):
        old = Generator.load(_changed(reference, tmp_path / "old.safetensors", recipe={}))
    old.save(tmp_path / "new.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Generator.load(tmp_path / "new.safetensors").arms == old.arms


def test_weights_that_are_no_numbers_are_refused_even_with_a_checksum_that_fits(reference: Path, tmp_path: Path) -> None:
    model = Generator.load(reference)
    with torch.no_grad():
        next(model.network.parameters()).view(-1)[0] = float("nan")
    model.save(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=r"x.safetensors: tensor .* holds values that are no numbers; train it again"):
        Generator.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["shipped", "saved"])
def test_any_flipped_byte_of_a_checkpoint_is_refused_or_changes_nothing(reference: Path, tmp_path: Path, name: str) -> None:
    file = reference
    if name == "saved":
        file = tmp_path / "saved.safetensors"
        Generator.load(reference).save(file)
    content, undamaged = file.read_bytes(), read_checkpoint(file)
    length = 8 + struct.unpack("<Q", content[:8])[0]
    random = np.random.default_rng(2)
    places = {*random.integers(0, length, 150), *random.integers(length, len(content), 50)}
    refused = 0
    for place in map(int, sorted(places)):
        changed = bytearray(content)
        changed[place] ^= 1 << int(random.integers(8))
        (tmp_path / "x.safetensors").write_bytes(changed)
        try:
            read = read_checkpoint(tmp_path / "x.safetensors")
        except InputError:
            refused += 1
        else:
            assert (read.checksum, read.header) == (undamaged.checksum, undamaged.header), place
    assert refused >= 0.95 * len(places)


def test_arms_of_a_written_checkpoint_cannot_be_exchanged_unseen(reference: Path, tmp_path: Path) -> None:
    model = Generator.load(reference)
    model.save(tmp_path / "a.safetensors")
    assert Generator.load(tmp_path / "a.safetensors").arms == model.arms
    with pytest.raises(InputError, match="header does not match its checksum"):
        Generator.load(_changed(tmp_path / "a.safetensors", tmp_path / "b.safetensors", old=False, arms=model.arms[::-1]))
