"""What a scan says of the count, kept on disk: a query of expected outcomes then needs neither images nor encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from causalms.errors import UsageError
from causalms.files import whole_file
from causalms.generator.model import Generator
from causalms.generator.network import Reading
from causalms.generator.outcomes import Scan
from causalms.trials import Trial


class _Kept(Reading):
    """A reading of which the state alone was kept."""

    def __init__(self, state: Tensor) -> None:
        self.state = state


def kept_scan(generator: Generator, trial: Trial, row: Mapping[str, Any], folder: Path) -> Scan:
    """The patient of a row, encoded for expected counts, from ``folder`` where it is kept, else encoded and kept there.

    The name of a file tells the checkpoint (network, error model, summary of patients), the patient's files, row and grid, and
    the version: where any of them changed, the patient is encoded again.  A kept scan holds no features of places, so that
    neither maps nor masks can be made of it.

    Raises
    ------
    UsageError
        If the trial is in memory, where nothing tells whether it is the same.
    """
    from causalms import __version__

    participant_id, stamp = str(row["participant_id"]), getattr(trial.source, "stamp", None)
    if not (scans := "" if stamp is None else stamp(participant_id)):
        raise UsageError("`cache` is for trials in folders, on the model's own grid; leave it out")
    made_from = repr((scans, row, trial.space.describe(), _digest(generator), str(_device(generator)), __version__))
    file = folder / f"{quote(participant_id, safe='')}.{hashlib.sha256(made_from.encode()).hexdigest()[:16]}.safetensors"
    if file.is_file() and (known := _read(file, _device(generator))) is not None:
        return known
    scan = generator.encode(trial, participant_id)
    words = json.dumps([participant_id, list(scan.missing), scan.distances, scan.log_size])
    arrays = {"state": scan.encoded.state, "rate": scan.rate, "covariates": torch.from_numpy(scan.covariates)}
    with whole_file(file) as beside:
        save_file({name: value.cpu().contiguous() for name, value in arrays.items()}, beside, metadata={"words": words})
    return scan


def _read(file: Path, device: torch.device) -> Scan | None:
    """The scan that was kept; None where the disk spoilt it."""
    try:
        with safe_open(file, framework="pt") as kept:
            participant_id, missing, distances, log_size = json.loads(kept.metadata()["words"])
            state, rate = kept.get_tensor("state").to(device), kept.get_tensor("rate").to(device)
            columns, nothing = kept.get_tensor("covariates").numpy(), torch.zeros(0, device=device)
        return Scan(participant_id, _Kept(state), rate, nothing, tuple(missing), columns, distances, log_size)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None


#: The digest of each generator, with the parts beside its network that it was made of.
_digests: WeakKeyDictionary[Generator, tuple[object, object, str]] = WeakKeyDictionary()


def _digest(generator: Generator) -> str:
    """The generator's digest, made once, and again where a part beside the network was replaced."""
    known = _digests.get(generator)
    if known is None or known[0] is not generator.error_model or known[1] is not generator.seen:
        known = _digests[generator] = generator.error_model, generator.seen, generator.digest
    return known[2]


def _device(generator: Generator) -> torch.device:
    return next(generator.network.parameters()).device
