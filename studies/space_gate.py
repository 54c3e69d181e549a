"""The gate of MNI152 space on scans whose position is known: simulated and real ones in place, moved, tilted, scaled, raw.

python -m studies.space_gate OPEN_MS --out studies/results [--registered DIR]

OPEN_MS holds sub-cs07 (brain-extracted, in MNI152 space) and sub-lg01 (raw). DIR is what ``causalms register`` made of sub-lg01:
its transforms put the raw heads, skull on, into MNI152 space, and its images are a second real brain in place. Each brain in
place is also moved and tilted by known amounts, and seen through noise, a bias field and a cut.
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


def _moved(images: Images, move: np.ndarray) -> Images:
    return images[0], Space(images[1].shape, move @ images[1].affine)


def _in_place(images: Images) -> Iterator[tuple[str, str, Images]]:
    """One image alone; noise of the image's own spread, a bias field of 0.6 to 1.4, and 30 mm below or 15 mm above gone."""
    values, space = images
    rng = np.random.default_rng(1)
    for number, image in enumerate(values):
        yield "real brain in place, one image", f"image {number + 1}", ([image], space)
    noisy = [np.where(x != 0, x + rng.standard_normal(x.shape) * x[x != 0].std(), 0) for x in values]
    yield "real brain in place, noise or bias field", "noise", (noisy, space)
    for axis in range(3):
        field = np.moveaxis(np.linspace(0.6, 1.4, space.shape[axis])[:, None, None], 0, axis)
        yield "real brain in place, noise or bias field", f"bias along {'xyz'[axis]}", ([x * field for x in values], space)
    height = np.argwhere(values[0] != 0)[:, 2]
    for name, gone in (("below", slice(0, height.min() + 30)), ("above", slice(height.max() - 14, None))):
        cut = [x.copy() for x in values]
        for image in cut:
            image[:, :, gone] = 0
        yield "real brain in place, cut", name, (cut, space)


def _members(images: Images, seed: int) -> Iterator[tuple[str, str, Images]]:
    rng = np.random.default_rng(seed)
    for axis, name in enumerate(("x", "y", "z")):
        along = np.eye(3)[axis]
        for sign in (-1, 1):
            for size in (4, 6, 8, 10, 15, 25):
                yield (
                    f"moved {size} mm",
                    f"{sign * size} mm along {name}",
                    _moved(images, _move(shift=tuple(sign * size * along))),
                )
            for size in (6, 8, 10, 12, 15, 25):
                yield (
                    f"tilted {size} degrees",
                    f"{sign * size} about {name}",
                    _moved(images, _move((0, 0, 0), tuple(sign * size * along))),
                )
    for scale in (0.8, 0.9, 1.1, 1.25):
        yield f"scaled {scale}", str(scale), _moved(images, _move(scale=scale))
    for draw in range(40):
        shift = rng.uniform(10, 40) * _direction(rng)
        yield "scanner coordinates", f"draw {draw}", _moved(images, _move(tuple(shift), tuple(rng.uniform(-20, 20, 3))))


def _heads(heads: dict[str, Images], transforms: dict[str, np.ndarray]) -> Iterator[tuple[str, str, Images]]:
    for name, head in heads.items():
        yield "raw head, skull on, as scanned", name, head
        if name in transforms:
            yield "head in MNI152 space, skull on", name, _moved(head, transforms[name])


def _direction(rng: np.random.Generator) -> np.ndarray:
    direction = rng.standard_normal(3)
    return np.asarray(direction / np.linalg.norm(direction))


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
    transforms, brains = {}, {"sub-cs07": real}
    if registered is not None:
        for file in registered.rglob("*_from-*_xfm.txt"):
            name = file.name.partition("_from-")[2].partition("_")[0] + file.name[8:15]
            transforms[name] = read_transform(file, real[1])
        images = [read_volume(file) for file in sorted((registered / "sub-lg01").rglob("*_desc-brain_*.nii.gz"))]
        brains["sub-lg01, registered"] = ([values for values, _ in images], images[0][1])
    rows = [_row("real brain in place", name, images) for name, images in brains.items()]
    rows += [_row(*member) for images in brains.values() for member in _in_place(images)]
    rng = np.random.default_rng(seed)
    trial = simulate_trial("pooled", patients=patients, seed=seed)
    for name in trial.participants["participant_id"]:
        there = [image for kind in ("T1w", "T2w", "FLAIR") if (image := trial.image(name, kind)) is not None]
        images, brain = (there, trial.space), trial.mask(name, "brain")
        rows.append(_row("simulated brain in place", name, images, brain))
        for size in (4, 6, 8):
            rows.append(
                _row(f"simulated brain moved {size} mm", name, _moved(images, _move(tuple(size * _direction(rng)))), brain)
            )
        for size in (6, 8, 12):
            turned = Rotation.from_rotvec(np.deg2rad(size) * _direction(rng)).as_euler("xyz", degrees=True)
            rows.append(_row(f"simulated brain tilted {size} degrees", name, _moved(images, _move(degrees=tuple(turned))), brain))
    rows += [_row(*member) for images in brains.values() for member in _members(images, seed)]
    rows += [_row(*member) for member in _heads(heads, transforms)]
    table = pd.DataFrame(rows)
    grouped = table.groupby("kind", sort=False)
    parts = {
        f"{name}_{end}": getattr(grouped[name], end)() for name in ("similarity", "motion_mm", "volume") for end in ("min", "max")
    }
    summary = pd.DataFrame({"scans": grouped.size(), "refused": grouped["refused"].sum(), **parts}).round(3).reset_index()
    write_table(summary.assign(seed=seed), out / "space_gate.csv")
    click.echo(summary.to_string(index=False))


if __name__ == "__main__":
    main()
