"""A checkpoint whose header was changed is refused."""

from __future__ import annotations

import json
import struct
from importlib import resources
from pathlib import Path

import pytest

from causalms.errors import InputError
from causalms.generator import Generator


def _changed(file: Path, target: Path, metadata: str | None = None, **entries: object) -> Path:
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    own = json.loads(header["__metadata__"]["causalms"])
    header["__metadata__"]["causalms"] = json.dumps({**own, **entries}) if metadata is None else metadata
    text = json.dumps(header).encode()
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
    with pytest.raises(InputError, match=r"train it again|copy it again"):
        Generator.load(_changed(reference, tmp_path / "x.safetensors", **entries))


def test_arms_of_a_written_checkpoint_cannot_be_exchanged_unseen(reference: Path, tmp_path: Path) -> None:
    model = Generator.load(reference)
    model.save(tmp_path / "a.safetensors")
    assert Generator.load(tmp_path / "a.safetensors").arms == model.arms
    with pytest.raises(InputError, match="header does not match its checksum"):
        Generator.load(_changed(tmp_path / "a.safetensors", tmp_path / "b.safetensors", arms=list(reversed(model.arms))))
