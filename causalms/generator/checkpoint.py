"""Checkpoints: safetensors with a JSON header, loaded only if version, schema and checksum match; nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from causalms.errors import DataNote, InputError
from causalms.files import whole_file
from causalms.generator.seen import Seen
from causalms.stats import ErrorModel

#: Raised by one whenever the tensors or the meaning of the header change.
SCHEMA_VERSION = 1
#: Parts beside the network, with a checksum of their own each: learned again, the network stays the same.
_PARTS: dict[str, type[ErrorModel] | type[Seen]] = {"error_model": ErrorModel, "seen": Seen}


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, the header (config, arms, weeks, lesion rule, recipe, scores), and what it has beside the network."""

    tensors: Mapping[str, Tensor]
    header: Mapping[str, Any]
    checksum: str
    error_model: ErrorModel | None = None
    seen: Seen | None = None


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes, in the order of names.

    Examples
    --------
    >>> checksum({"a": torch.zeros(2)})[:8] == checksum({"a": torch.zeros(2)})[:8]
    True
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_checkpoint(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    header: Mapping[str, Any],
    error_model: ErrorModel | None = None,
    seen: Seen | None = None,
) -> str:
    """Write tensors, header, error model and summary of the training patients, whole or not at all; returns the checksum.

    Error model and summary have checksums of their own, so that a network keeps its name when they are learned anew.
    """
    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    digest = checksum(ready)
    content = {"schema_version": SCHEMA_VERSION, "checksum": digest, **header}
    for part, value in (("error_model", error_model), ("seen", seen)):
        if value is not None:
            arrays = {f"{part}.{name}": torch.from_numpy(array).float() for name, array in value.arrays().items()}
            content[part] = {**value.words_and_numbers(), "checksum": checksum(arrays)}
            ready |= arrays
    content = json.loads(json.dumps(content))  # as it will be read
    content["header_checksum"] = _header_checksum(content)
    with whole_file(path) as beside:
        save_file(ready, beside, metadata={"causalms": json.dumps(content)})
    return digest


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint; one whose header has no checksum, as older versions wrote them, is read with a :class:`DataNote`.

    Raises
    ------
    InputError
        If the file is missing, is not safetensors, was written by another schema version, or its checksum does not match.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such checkpoint; give a .safetensors file made by 'causalms train', or 'reference'")
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{file}: not a readable safetensors checkpoint ({reason}); train or copy it again") from error
    if "causalms" not in metadata:
        raise InputError(f"{file}: a safetensors file without a causalms header; give one made by 'causalms train'")
    header = _header(metadata["causalms"], file)
    if header.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{file}: checkpoint schema {header.get('schema_version')}, this version reads {SCHEMA_VERSION}; "
            "train it again with this version"
        )
    parts = {part: _part(part, tensors, header.pop(part, None), file) for part in _PARTS}
    digest = checksum(tensors)
    _refuse_damage(file, header.get("checksum"), digest)
    return Checkpoint(tensors, header, digest, **parts)


def _part(part: str, tensors: dict[str, Tensor], words: Any, file: Path) -> Any:
    """A part beside the network, its tensors taken out of the network's; None where the checkpoint has none."""
    arrays = {name: tensors.pop(name) for name in sorted(tensors) if name.startswith(f"{part}.")}
    if words is None and not arrays:
        return None
    _refuse_damage(file, (words or {}).get("checksum"), checksum(arrays))
    plain = {name.removeprefix(f"{part}."): tensor.double().numpy() for name, tensor in arrays.items()}
    try:
        return _PARTS[part].read(plain, words or {})
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def _header(text: str, file: Path) -> dict[str, Any]:
    """The header's entries; where it holds a checksum of its own, checked."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: a causalms header that is no JSON; the file is damaged, copy it again") from error
    if not isinstance(header, dict) or not all(isinstance(header.get(part, {}), dict) for part in _PARTS):
        raise InputError(f"{file}: a causalms header without entries; the file is damaged, copy it again")
    written = header.pop("header_checksum", None)
    if written is None:
        note = "its header has no checksum (an older version wrote it), so that damage of it may pass unseen; save it anew"
        warnings.warn(DataNote(f"{file}: {note}"), stacklevel=3)
    elif written != _header_checksum(header):
        raise InputError(f"{file}: the header does not match its checksum; the file is damaged, copy it again")
    return header


def _header_checksum(header: Mapping[str, Any]) -> str:
    """SHA-256 of the entries: arms, weeks and recipe decide what the tensors mean."""
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _refuse_damage(file: Path, written: Any, digest: str) -> None:
    if written != digest:
        raise InputError(f"{file}: checksum {digest[:12]} instead of {str(written)[:12]}; the file is damaged, copy it again")


def load_tensors(module: torch.nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put tensors into a module after checking names and shapes.

    Raises
    ------
    InputError
        If a tensor is missing, extra, of another shape or not finite; the first one is named.
    """
    own = module.state_dict()
    for name in sorted(own.keys() - tensors.keys()):
        raise InputError(f"{source}: tensor {name!r} is missing; the checkpoint is of another model, train it again")
    for name in sorted(tensors.keys() - own.keys()):
        raise InputError(f"{source}: extra tensor {name!r}; the checkpoint is of another model, train it again")
    for name, value in own.items():
        if not bool(torch.isfinite(tensors[name]).all()):
            raise InputError(f"{source}: tensor {name!r} holds values that are no numbers; train it again")
        if tuple(tensors[name].shape) != tuple(value.shape):
            raise InputError(
                f"{source}: tensor {name!r} has shape {tuple(tensors[name].shape)}, expected {tuple(value.shape)}; train it again"
            )
    module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
