"""How like real scans the phantom is: T2 and NET2 lesions of two designs beside the open Ljubljana masks (Lesjak 2016, 2018).

All sides are counted by one rule on one 2 mm grid of the template; heads are brought to its size, volumes are those before.
Intervals come from resampling patients.

    python -m studies.phantom_realism --open-ms PATH --out results [--patients 100] [--seed 1]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import ks_2samp

import causalms as cms
from causalms.tables import write_table
from causalms.trials import mni_space, template_anatomy
from studies.common import out_option, seed_option
from studies.public_masks import baseline_masks, by_its_mask, change_masks, head_of_cs07, on_template

SPACE = mni_space("2mm")
DESIGNS = ("lifelike", "pooled")
LEAST_MM3 = 16  # two voxels of the grid: lesions that can be seen on all sides
NEAR_MM = 6.0
BANDS = ((0, 10), (10, 20), (20, 40))
_REPLICATES = 500


@dataclass(frozen=True)
class Side:
    """Masks and lesions of one group of patients.

    Attributes
    ----------
    t2_maps : list of float arrays
        Smoothed T2 masks inside the brain, one a patient.
    share : float array of the grid's shape
        Share of patients with a T2 lesion.
    t2, net2 : list of DataFrame
        Lesions of each patient: volume_mm3, reach_mm (least distance to the ventricles), x_mm, y_mm, z_mm.
    """

    t2_maps: list[np.ndarray]
    share: np.ndarray
    t2: list[pd.DataFrame]
    net2: list[pd.DataFrame]


def lesions_of(mask: np.ndarray, scale: float = 1.0) -> pd.DataFrame:
    """Lesions of a mask from ``LEAST_MM3`` up; ``scale`` is how much volumes grew on the way to the template."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    numbers = np.arange(1, count + 1)
    middle = np.array(ndimage.center_of_mass(mask, labels, numbers)).reshape(-1, 3)
    table = pd.DataFrame(SPACE.world(middle), columns=["x_mm", "y_mm", "z_mm"])
    table["volume_mm3"] = np.bincount(labels.ravel(), minlength=count + 1)[1:] * SPACE.voxel_volume_mm3 / scale
    table["reach_mm"] = ndimage.minimum(template_anatomy(SPACE).distance_to_ventricles_mm, labels, numbers)
    return table[table["volume_mm3"] >= LEAST_MM3].reset_index(drop=True)


def side_of(t2: list[np.ndarray], scale: float, net2: list[pd.DataFrame]) -> Side:
    """A group from its T2 masks and its tables of NET2 lesions."""
    brain = template_anatomy(SPACE).brain
    maps = [ndimage.gaussian_filter(mask.astype(np.float32), 2.0)[brain][::4] for mask in t2]
    return Side(maps, np.mean(t2, axis=0), [lesions_of(mask, scale) for mask in t2], net2)


def public_side(open_ms: Path) -> Side:
    """The public masks on the template."""
    head = head_of_cs07(open_ms)
    net2 = []
    for change, brain in change_masks(open_ms).values():
        matrix = by_its_mask(brain)
        net2.append(lesions_of(on_template(change, matrix, SPACE), float(np.linalg.det(matrix[:3, :3]))))
    t2 = [on_template(mask, head, SPACE) for mask in baseline_masks(open_ms)]
    return side_of(t2, float(np.linalg.det(head[:3, :3])), net2)


def phantom_side(design: str, patients: int, seed: int) -> Side:
    """Simulated patients; NET2 under placebo at week 96."""
    trial = cms.simulate_trial(design, patients, seed, "2mm")
    t2, net2 = [], []
    for pid in trial.participants["participant_id"]:
        t2.append(np.asarray(trial.mask(pid, "T2")))
        net2.append(lesions_of(trial.truth.potential_mask(pid, "placebo", 96)))
    return side_of(t2, 1.0, net2)


QUANTITIES: dict[str, Callable[[Side], list[np.ndarray]]] = {
    "T2 lesions a patient": lambda side: [np.array([len(one)]) for one in side.t2],
    "T2 volume a patient (mL)": lambda side: [np.array([one["volume_mm3"].sum() / 1000]) for one in side.t2],
    "volume of a T2 lesion (mm3)": lambda side: [one["volume_mm3"].to_numpy() for one in side.t2],
    "volume of a NET2 lesion (mm3)": lambda side: [one["volume_mm3"].to_numpy() for one in side.net2],
}


def _redrawn(groups: list[list[np.ndarray]], rng: np.random.Generator) -> list[list[np.ndarray]]:
    return [[group[i] for i in rng.integers(len(group), size=len(group))] for group in groups]


def with_interval(statistic: Callable[..., float], groups: list[list[np.ndarray]], rng: np.random.Generator) -> dict[str, float]:
    """A statistic of groups of patients, and its 95% interval from resampling patients."""
    draws = [statistic(*_redrawn(groups, rng)) for _ in range(_REPLICATES)]
    lower, upper = np.nanquantile(draws, [0.025, 0.975])
    return {"value": statistic(*groups), "lower": lower, "upper": upper}


def distance(real: list[np.ndarray], phantom: list[np.ndarray]) -> float:
    """Kolmogorov-Smirnov distance of what the patients hold together."""
    return float(ks_2samp(np.concatenate(real), np.concatenate(phantom)).statistic)


def likeness(real: list[np.ndarray], phantom: list[np.ndarray]) -> float:
    """Correlation of two frequency maps over the brain."""
    return float(np.corrcoef(np.mean(real, axis=0), np.mean(phantom, axis=0))[0, 1])


def distances(sides: dict[str, Side], rng: np.random.Generator) -> pd.DataFrame:
    """Each design against the public masks: distributions and the frequency map."""
    public, rows = sides["public"], []
    for quantity, values in QUANTITIES.items():
        for design in DESIGNS:
            groups = [values(public), values(sides[design])]
            row = {"quantity": quantity, "design": design, "statistic": "KS distance", **with_interval(distance, groups, rng)}
            for name, group in zip(("public", "phantom"), groups, strict=True):
                quartiles = np.quantile(np.concatenate(group), [0.25, 0.5, 0.75])
                row |= dict(zip((f"{q}_{name}" for q in ("q1", "median", "q3")), quartiles, strict=True))
                row[f"mean_{name}"] = np.concatenate(group).mean()
            rows.append(row)
    for design in DESIGNS:
        row = {"quantity": "map of T2 lesion frequency", "design": design, "statistic": "correlation"}
        row |= with_interval(likeness, [public.t2_maps, sides[design].t2_maps], rng)
        rows.append({**row, "peak_public": public.share.max(), "peak_phantom": sides[design].share.max()})
    return pd.DataFrame(rows)


def near(values: np.ndarray) -> np.ndarray:
    """Rows of lesions that reach near the ventricles."""
    return values[:, 1] <= NEAR_MM


def _joined(patients: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(patients)


STRUCTURE: dict[str, Callable[[list[np.ndarray]], float]] = {
    "share of lesions near the ventricles": lambda ones: float(near(_joined(ones)).mean()),
    "share of their volume": lambda ones: float(_joined(ones)[near(_joined(ones)), 0].sum() / _joined(ones)[:, 0].sum()),
    "median volume near, mm3": lambda ones: float(np.median(_joined(ones)[near(_joined(ones)), 0])),
    "median volume elsewhere, mm3": lambda ones: float(np.median(_joined(ones)[~near(_joined(ones)), 0])),
    "log SD of volume near": lambda ones: float(np.log(_joined(ones)[near(_joined(ones)), 0]).std()),
    "log SD of volume elsewhere": lambda ones: float(np.log(_joined(ones)[~near(_joined(ones)), 0]).std()),
}


def pair_shares(patients: list[np.ndarray], band: tuple[int, int]) -> np.ndarray:
    """Share of pairs of lesions at a distance in the band, for every two patients; of one patient's own pairs on the diagonal.

    Between patients the second lesion counts on both sides of the head.
    """
    shares = np.full((len(patients), len(patients)), np.nan)
    for i, one in enumerate(patients):
        for j, other in enumerate(patients):
            if i == j and len(one) > 1:
                apart = np.linalg.norm(one[:, None] - one[None], axis=2)[np.triu_indices(len(one), 1)]
            elif i != j and len(one) and len(other):
                sides = np.concatenate([other, other * [-1, 1, 1]])
                apart = np.linalg.norm(one[:, None] - sides[None], axis=2)
            else:
                continue
            shares[i, j] = ((apart > band[0]) & (apart <= band[1])).mean()
    return shares


def pair_correlation(shares: np.ndarray, pairs: np.ndarray, chosen: np.ndarray) -> float:
    """Observed pairs within patients over those expected if lesions of different patients were paired."""
    own = np.nansum(pairs[chosen] * np.diag(shares)[chosen])
    between = shares[np.ix_(chosen, chosen)][chosen[:, None] != chosen[None]]
    return float(own / (pairs[chosen].sum() * np.nanmean(between)))


def structure(sides: dict[str, Side], rng: np.random.Generator) -> pd.DataFrame:
    """Size by place, and how lesions of one patient lie to each other, on every side."""
    rows = []
    for name, side in sides.items():
        for kind, lesions in (("T2", side.t2), ("NET2", side.net2)):
            values = [one[["volume_mm3", "reach_mm"]].to_numpy() for one in lesions]
            for quantity, statistic in STRUCTURE.items():
                rows.append({"lesions": kind, "quantity": quantity, "side": name, **with_interval(statistic, [values], rng)})
        centres = [one[["x_mm", "y_mm", "z_mm"]].to_numpy() for one in side.net2]
        pairs = np.array([len(one) * (len(one) - 1) / 2 for one in centres])
        for band in BANDS:
            shares = pair_shares(centres, band)
            chosen = rng.integers(len(centres), size=(_REPLICATES, len(centres)))
            lower, upper = np.nanquantile([pair_correlation(shares, pairs, one) for one in chosen], [0.025, 0.975])
            row = {"lesions": "NET2", "quantity": f"pair correlation, {band[0]} to {band[1]} mm", "side": name}
            value = pair_correlation(shares, pairs, np.arange(len(centres)))
            rows.append({**row, "value": value, "lower": lower, "upper": upper})
    return pd.DataFrame(rows)


def draw(sides: dict[str, Side], table: pd.DataFrame, file: Path) -> None:
    """Distributions above, frequency maps below."""
    figure = plt.figure(figsize=(16, 7.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 0.95])
    for axis, (quantity, values) in zip(above.subplots(1, 4), QUANTITIES.items(), strict=True):
        for name, side in sides.items():
            axis.ecdf(np.concatenate(values(side)), label=f"{name}, {len(values(side))} patients")
        found = table[table["quantity"] == quantity].set_index("design")["value"]
        axis.set(xscale="log", xlabel=quantity, title="KS " + ", ".join(f"{name} {found[name]:.2f}" for name in DESIGNS))
        axis.legend(fontsize=8)
    for axis, (name, side) in zip(below.subplots(1, 6).reshape(3, 2), sides.items(), strict=True):
        for panel, cut, what in zip(
            axis, (side.share[:, :, 39], side.share[21]), ("axial, z = 4 mm", "sagittal, x = -37 mm"), strict=True
        ):
            panel.imshow(cut.T, origin="lower", vmin=0, vmax=0.8 * side.share.max(), cmap="magma")
            panel.set(title=f"{name}: {what}\npeak of all {side.share.max():.2f}", xticks=[], yticks=[])
    figure.savefig(file, dpi=100)


@click.command()
@click.option("--open-ms", required=True, type=click.Path(path_type=Path, exists=True), envvar="CAUSALMS_OPEN_MS")
@out_option
@click.option("--patients", default=100, show_default=True)
@seed_option(1)
def main(open_ms: Path, out: Path, patients: int, seed: int) -> None:
    sides = {"public": public_side(open_ms)}
    sides |= {design: phantom_side(design, patients, seed) for design in DESIGNS}
    rng = np.random.default_rng(seed)
    table, parts = distances(sides, rng).round(3), structure(sides, rng).round(3)
    write_table(table, out / "phantom_realism.csv")
    write_table(parts, out / "phantom_structure.csv")
    draw(sides, table, out / "phantom_realism.png")
    click.echo(table.to_string(index=False))
    click.echo(parts.to_string(index=False))


if __name__ == "__main__":
    main()
