"""What makes a folder of maps a valid BIDS derivative: its description, and a sidecar that says how each map was made."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from causalms.generator import Generator

BIDS_VERSION = "1.10.0"
#: Where patients lie, if one lies outside what the model learned from.
OUTSIDE = "outside.png"
#: Tables and pictures that BIDS has no names for.
_IGNORED = ("forecast.csv", "forecast.json", "notes.txt", OUTSIDE, "figures")


def source_of(trial: Path) -> dict[str, Any]:
    """What the description says of the folder that the forecasts are about: name, authors, and where it lies."""
    name, authors = trial.resolve().name, []
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        described = json.loads((trial / "dataset_description.json").read_text(encoding="utf-8"))
        name = str(described.get("Name") or name)
        authors = [str(author) for author in described.get("Authors", [])]
    names = dict.fromkeys([*(authors or [f"The authors of {name}"]), "The causalms developers"])
    return {"Authors": list(names), "DatasetLinks": {"raw": trial.resolve().as_uri()}}


def describe_dataset(folder: Path, name: str, checksum: str, source: dict[str, Any]) -> None:
    """Write ``dataset_description.json``, a README and ``.bidsignore``."""
    from causalms import __version__

    made = {"Name": "causalms", "Version": __version__, "Description": f"model checksum {checksum}"}
    described = {"Name": f"{name}: forecasts", "BIDSVersion": BIDS_VERSION, "DatasetType": "derivative", "GeneratedBy": [made]}
    described |= source
    _write(folder / "dataset_description.json", described)
    (folder / ".bidsignore").write_text("\n".join(_IGNORED) + "\n", encoding="utf-8")
    readme = (
        f"# {name}: forecasts of new and enlarging T2 lesions\n\n"
        "Not for clinical use. A probability map (probseg) says for each voxel how likely a new or enlarging lesion covers it\n"
        "at the session's week if the arm of its name were set; masks are sampled. Sidecars name model, seed, arm and week;\n"
        "forecast.csv holds expected counts with their prediction intervals, notes.txt what was resampled or missing.\n"
    )
    (folder / "README.md").write_text(readme, encoding="utf-8")


def write_sidecars(anat: Path, generator: Generator, arms: Sequence[str], week: float, seed: int, sources: Sequence[str]) -> None:
    """Write a JSON file beside every map and mask of one patient; ``sources`` are the files that they were made from."""
    from causalms.generator import label_of_arm
    from causalms.trials import TEMPLATE

    files = sorted(anat.glob("*.nii.gz"))
    registered = any("_space-orig_" in file.name for file in files)
    named = {label_of_arm(arm): arm for arm in arms}
    common: dict[str, Any] = {
        "ModelChecksum": generator.checksum,
        "Seed": seed,
        "VisitWeek": week,
        "SkullStripped": True,
        "Sources": list(sources),
    }
    for file in files:
        entities = dict(part.partition("-")[::2] for part in file.name.split("_")[:-1])
        label, _, draw = entities["desc"].partition("Draw")
        there = TEMPLATE if registered and "space" not in entities else "orig"
        sidecar: dict[str, Any] = {"Arm": named[label], **common, "SpatialReference": there}
        if draw:
            sidecar |= {"Type": "Lesion", "Description": "Sampled mask of new and enlarging T2 lesions", "Draw": int(draw[:3])}
        else:
            sidecar |= {"Description": "Probability that a voxel lies in a new or enlarging T2 lesion"}
        _write(file.with_name(file.name.replace(".nii.gz", ".json")), sidecar)


def describe_registered(folder: Path, name: str, columns: Sequence[str], sources: Mapping[str, str]) -> None:
    """README, sidecars and words on the columns of registered scans; ``sources`` has the raw file of each image."""
    from causalms.trials import TEMPLATE

    readme = (
        f"# {name}: scans in MNI152 space\n\nNot for clinical use. Written by causalms register: images of 1 mm without skull,\n"
        "transforms from the scanner to the template, lesion masks in derivatives/lesions. Look at quality.html before use.\n"
    )
    (folder / "README.md").write_text(readme, encoding="utf-8")
    for file in sorted(folder.glob("sub-*/**/anat/*_desc-brain_*.nii.gz")):
        sidecar = {
            "Description": "Image brought to the template and resampled to 1 mm, zero outside the brain",
            "SkullStripped": True,
            "SpatialReference": TEMPLATE,
            "Sources": [f"bids:raw:{sources[file.name]}"],
        }
        _write(file.with_name(file.name.replace(".nii.gz", ".json")), sidecar)
    file = folder / "participants.json"
    words = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    said = "As in the source data set"
    _write(file, {"Description": said, **{column: {"Description": said} for column in columns if column not in words}, **words})


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
