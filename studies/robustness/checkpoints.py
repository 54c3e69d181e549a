"""Damages of checkpoints and of interrupted training: tensors, header, and checksums that fit the damage."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors.torch import load, save

from causalms.generator.checkpoint import checksum
from studies.robustness.damage import damage

Random = np.random.Generator
KINDS = ("checkpoint", "shipped", "run")


def _header(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _rebuilt(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def _sealed(content: bytes, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    """A checkpoint whose entries and tensors were changed and whose checksums were made anew to fit."""
    header = _header(content)[0]
    entries, tensors = json.loads(header["__metadata__"]["causalms"]), load(content)
    change(entries, tensors)
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith("error_model.")}
    entries["checksum"] = checksum(own)
    entries.pop("header_checksum", None)
    entries["header_checksum"] = hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
    return bytes(save(tensors, {"causalms": json.dumps(entries)}))


@damage("checkpoint", "refused", "bytes", *KINDS)
def tensor_missing(content: bytes, random: Random) -> bytes:
    header, data = _header(content)
    del header[next(name for name in header if name != "__metadata__")]
    return _rebuilt(header, data)


@damage("checkpoint", "refused", "bytes", *KINDS)
def tensor_renamed(content: bytes, random: Random) -> bytes:
    header, data = _header(content)
    header["renamed"] = header.pop(next(name for name in header if name != "__metadata__"))
    return _rebuilt(header, data)


@damage("checkpoint", "refused", "bytes", *KINDS)
def tensor_of_another_shape(content: bytes, random: Random) -> bytes:
    header, data = _header(content)
    name = next(name for name in header if name != "__metadata__" and len(header[name]["shape"]) > 1)
    header[name]["shape"] = header[name]["shape"][::-1] if len(set(header[name]["shape"])) > 1 else [7, 7]
    return _rebuilt(header, data)


@damage("checkpoint", "refused", "bytes", *KINDS)
def no_metadata(content: bytes, random: Random) -> bytes:
    header, data = _header(content)
    header.pop("__metadata__")
    return _rebuilt(header, data)


@damage("checkpoint", "refused", "bytes", *KINDS)
def promises_a_terabyte(content: bytes, random: Random) -> bytes:
    return struct.pack("<Q", 2**40) + content[8:]


@damage("checkpoint", "refused", "bytes", *KINDS)
def one_byte_of_the_weights(content: bytes, random: Random) -> bytes:
    start = len(content) - len(_header(content)[1])
    place = int(random.integers(start, len(content)))
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@damage("checkpoint", "refused", "bytes", *KINDS)
def one_letter_of_the_header(content: bytes, random: Random) -> bytes:
    place = 8 + int(random.integers(len(content) - len(_header(content)[1]) - 8))
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@damage("checkpoint", "said", "bytes", *KINDS)
def header_without_checksum(content: bytes, random: Random) -> bytes:
    header, data = _header(content)
    entries = json.loads(header["__metadata__"]["causalms"])
    del entries["header_checksum"]
    header["__metadata__"] = {"causalms": json.dumps(entries)}
    return _rebuilt(header, data)


@damage("checkpoint", "refused", "bytes", *KINDS)
def weights_that_are_no_numbers(content: bytes, random: Random) -> bytes:
    def change(entries: dict[str, Any], tensors: dict[str, Any]) -> None:
        names = sorted(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel() > 4)
        tensors[names[int(random.integers(len(names)))]].view(-1)[0] = float("nan")

    return _sealed(content, change)


@damage("checkpoint", "refused", "bytes", "checkpoint")
def other_arms(content: bytes, random: Random) -> bytes:
    return _sealed(content, lambda entries, tensors: entries.update(arms=["other", "one more"]))


@damage("checkpoint", "refused", "bytes", "checkpoint", "shipped")
def one_arm_less(content: bytes, random: Random) -> bytes:
    return _sealed(content, lambda entries, tensors: entries.update(arms=entries["arms"][1:]))


@damage("checkpoint", "refused", "bytes", "checkpoint", "shipped")
def an_arm_twice(content: bytes, random: Random) -> bytes:
    return _sealed(content, lambda entries, tensors: entries.update(arms=[entries["arms"][0], *entries["arms"][:-1]]))


@damage("checkpoint", "refused", "bytes", "run")
def a_finished_checkpoint(content: bytes, random: Random) -> bytes:
    return _sealed(content, lambda entries, tensors: entries.pop("resume"))


@damage("checkpoint", "refused", "bytes", "run")
def run_of_other_data(content: bytes, random: Random) -> bytes:
    return _sealed(content, lambda entries, tensors: entries["resume"].update(fingerprint="0" * 64 + " []"))


def _enter_metadata() -> None:
    texts = {
        "metadata not JSON": "{",
        "metadata a list": "[]",
        "metadata a number": "7",
        "metadata deep": "[" * 100_000,
        "metadata empty": "{}",
        "metadata of schema x": '{"schema_version": "x"}',
    }
    for name, text in texts.items():

        def put(content: bytes, random: Random, text: str = text) -> bytes:
            header, data = _header(content)
            header["__metadata__"] = {"causalms": text}
            return _rebuilt(header, data)

        put.__name__ = name
        damage("checkpoint", "refused", "bytes", *KINDS)(put)
    for key in ("arms", "weeks", "config", "lesion_rule", "recipe", "checksum", "error_model", "count_calibration"):
        for value in (None, "x", [], {"a": 1}, -1):
            _enter_entry(key, value)
    for key in ("stage", "step", "elapsed", "log", "best_score", "levels", "fingerprint"):
        _enter_run_entry(key)


def _enter_entry(key: str, value: object) -> None:
    def change(content: bytes, random: Random) -> bytes:
        header, data = _header(content)
        entries = json.loads(header["__metadata__"]["causalms"])
        entries[key] = value
        header["__metadata__"] = {"causalms": json.dumps(entries)}
        return _rebuilt(header, data)

    change.__name__ = f"header {key} {value!r}"
    damage("checkpoint", "refused", "bytes", "checkpoint", "shipped")(change)
    if key in ("recipe", "checksum"):  # a record that nothing reads, and what is made anew
        return

    def sealed(content: bytes, random: Random) -> bytes:
        return _sealed(content, lambda entries, tensors: entries.update({key: value}))

    sealed.__name__ = f"header {key} {value!r}, checksum made anew"
    damage("checkpoint", "refused", "bytes", "checkpoint", "shipped")(sealed)


def _enter_run_entry(key: str) -> None:
    def change(content: bytes, random: Random) -> bytes:
        value = ([None, "x", -1] if key != "best_score" else ["x", [], {}])[int(random.integers(3))]
        return _sealed(content, lambda entries, tensors: entries["resume"].update({key: value}))

    change.__name__ = f"resume {key}, checksum made anew"
    damage("checkpoint", "refused", "bytes", "run")(change)


_enter_metadata()
