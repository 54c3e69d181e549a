"""The gate of MNI152 space on scans whose position is known: simulated and real ones in place, moved, tilted, scaled, raw.

python -m studies.space_gate OPEN_MS --out studies/results [--registered DIR]

OPEN_MS holds sub-cs07 (brain-extracted, in MNI152 space) and sub-lg01 (raw). DIR is what ``causalms register`` made of sub-lg01:
its transforms put the raw heads, skull on, into MNI152 space, and its images are a second real brain in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from causalms.phantom import simulate_trial
from causalms.register import read_transform
from causalms.tables import write_table
from causalms.trials import Space, measure_position, read_volume
from studies.common import out_option, seed_option

Images = tuple[list[np.ndarray], Space]
_CENTRE = np.array([0.0, -20.0, 8.0])


def _move(shift: tuple[float, ...] = (0, 0, 0), degrees: tuple[float, ...] = (0, 0, 0), scale: float = 1.0) -> np.ndarray:
    """About the middle of the brain: turned about the three axes, scaled, then shifted (mm)."""
    move = np.eye(4)
    move[:3, :3] = scale * Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    move[:3, 3] = _CENTRE - move[:3, :3] @ _CENTRE + shift
    return move


def _members(
    images: Images, heads: dict[str, Images], transforms: dict[str, np.ndarray], seed: int
) -> Iterator[tuple[str, str, Images]]:
    values, space = images
    rng = np.random.default_rng(seed)

    def moved(move: np.ndarray) -> Images:
        return values, Space(space.shape, move @ space.affine)

    for axis, name in enumerate(("x", "y", "z")):
        for size in (4, 6, 8, 10, 15, 25):
            for sign in (-1, 1):
                yield (
                    f"moved {size} mm",
                    f"{sign * size} mm along {name}",
                    moved(_move(shift=tuple(sign * size * np.eye(3)[axis]))),
                )
        for size in (6, 8, 10, 12, 15, 25):
            for sign in (-1, 1):
                yield (
                    f"tilted {size} degrees",
                    f"{sign * size} about {name}",
                    moved(_move(degrees=tuple(sign * size * np.eye(3)[axis]))),
                )
    for scale in (0.8, 0.9, 1.1, 1.25):
        yield f"scaled {scale}", str(scale), moved(_move(scale=scale))
    for draw in range(40):
        direction = rng.standard_normal(3)
        shift = rng.uniform(10, 40) * direction / np.linalg.norm(direction)
        degrees = rng.uniform(-20, 20, 3)
        yield "scanner coordinates", f"draw {draw}", moved(_move(tuple(shift), tuple(degrees)))
    for name, head in heads.items():
        yield "raw head, skull on, as scanned", name, head
        if name in transforms:
            yield "head in MNI152 space, skull on", name, (head[0], Space(head[1].shape, transforms[name] @ head[1].affine))


def _row(kind: str, member: str, images: Images, brain: np.ndarray | None = None) -> dict[str, object]:
    values, space = images
    inside = np.any([image != 0 for image in values], axis=0) if brain is None else brain
    position = measure_position(values, inside, space)
    return {"kind": kind, "member": member, **vars(position), "refused": position.problem() is not None}


@click.command()
@click.argument("open_ms", type=click.Path(path_type=Path))
@out_option
@click.option("--registered", type=click.Path(path_type=Path))
@click.option("--patients", default=60, show_default=True)
@seed_option(5)
def main(open_ms: Path, out: Path, registered: Path | None, patients: int, seed: int) -> None:
    read = [read_volume(file) for file in sorted((open_ms / "sub-cs07").rglob("*.nii.gz"))]
    real = ([values for values, _ in read], read[0][1])
    raw = {
        file.name.rpartition("_")[2][: -len(".nii.gz")] + file.name[8:15]: read_volume(file)
        for file in sorted((open_ms / "sub-lg01").rglob("*.nii.gz"))
    }
    heads = {name: ([values], space) for name, (values, space) in raw.items()}
    transforms, rows = {}, [_row("real brain in place", "sub-cs07", real)]
    if registered is not None:
        for file in registered.rglob("*_from-*_xfm.txt"):
            name = file.name.partition("_from-")[2].partition("_")[0] + file.name[8:15]
            transforms[name] = read_transform(file, real[1])
        images = [read_volume(file) for file in sorted((registered / "sub-lg01").rglob("*_desc-brain_*.nii.gz"))]
        rows.append(_row("real brain in place", "sub-lg01, registered", ([values for values, _ in images], images[0][1])))
    trial = simulate_trial("pooled", patients=patients, seed=seed)
    for name in trial.participants["participant_id"]:
        there = [image for kind in ("T1w", "T2w", "FLAIR") if (image := trial.image(name, kind)) is not None]
        rows.append(_row("simulated brain in place", name, (there, trial.space), trial.mask(name, "brain")))
    rows += [_row(*member) for member in _members(real, heads, transforms, seed)]
    table = pd.DataFrame(rows)
    grouped = table.groupby("kind", sort=False)
    parts = {
        f"{name}_{end}": getattr(grouped[name], end)() for name in ("similarity", "gain", "volume") for end in ("min", "max")
    }
    summary = pd.DataFrame({"scans": grouped.size(), "refused": grouped["refused"].sum(), **parts}).round(3).reset_index()
    write_table(summary.assign(seed=seed), out / "space_gate.csv")
    click.echo(summary.to_string(index=False))


if __name__ == "__main__":
    main()
