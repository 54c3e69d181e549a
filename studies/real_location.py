"""Where new lesions came in real patients: the model's average map beside a frequency map and maps of distance.

python -m studies.real_location OPEN_MS --out studies/results

OPEN_MS holds change masks with brain masks of sub-lg01 to sub-lg10, baseline lesion masks of sub-cs01 to sub-cs15 and images of
sub-cs07. Of the followed patients only sub-lg01 has images, so the model is judged by its average map over simulated patients;
brains are brought to the template by their masks. The frequency map is of other patients than those it
is judged on; it and all others are compared with the better of its two forms.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy import ndimage

from causalms import CausalModel, simulate_trial
from causalms.calibration import RiskMap, place_scores
from causalms.lesions import lesion_table
from causalms.tables import write_table
from causalms.trials import mni_space, template_anatomy
from studies.common import model_option, out_option, seed_option
from studies.public_masks import baseline_masks, by_its_mask, change_masks, head_of_cs07, on_template

SPACE = mni_space("4mm")
_WIDTHS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)  # of smoothing, voxels
_FLOOR = 0.02  # of every map, spread evenly over the brain, so that no place is impossible


def _centres(mask: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The brain voxel nearest to the middle of each lesion."""
    table, voxels = lesion_table(mask, SPACE.affine), np.argwhere(inside)
    world = table[["x_mm", "y_mm", "z_mm"]].to_numpy(float)
    apart = ((world[:, None] - SPACE.world(voxels)[None]) ** 2).sum(axis=2)
    return voxels[apart.argmin(axis=1)] if len(world) else np.zeros((0, 3), int)


def _density(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    values = np.where(inside, values, 0.0)
    return np.where(inside, (1 - _FLOOR) * values / values.sum() + _FLOOR / inside.sum(), 0.0)


def _best_scale(law: dict[float, np.ndarray], centres: np.ndarray) -> float:
    """The width of highest likelihood for the baseline lesions of the frequency map."""
    return max(law, key=lambda scale: float(np.log(law[scale][tuple(centres.T)]).sum()))


def _judged(density: np.ndarray, inside: np.ndarray, centres: np.ndarray) -> RiskMap:
    return RiskMap(density, np.zeros(SPACE.shape, bool), inside, centres)


def _auc(density: np.ndarray, inside: np.ndarray, centres: np.ndarray) -> float:
    """Share of pairs of a lesion and a brain voxel in which the lesion's place has the higher density; ties count half."""
    background = np.sort(density[inside])
    at = density[tuple(centres.T)]
    return float(
        np.mean(np.searchsorted(background, at, "left") + np.searchsorted(background, at, "right")) / 2 / len(background)
    )


def _frequency(baseline: list[np.ndarray], inside: np.ndarray) -> np.ndarray:
    """How often a voxel is a lesion, left and right as one, smoothed as lets each half of the patients best predict the other."""
    mirrored = [mask + mask[::-1].astype(float) for mask in baseline]
    halves = [np.mean(mirrored[part::2], axis=0) for part in (0, 1)]
    others = [np.vstack([_centres(mask, inside) for mask in baseline[1 - part :: 2]]) for part in (0, 1)]

    def fit(width: float) -> float:
        maps = [_density(ndimage.gaussian_filter(half, width), inside) for half in halves]
        return float(sum(np.log(one[tuple(at.T)]).sum() for one, at in zip(maps, others, strict=True)))

    return _density(ndimage.gaussian_filter(np.mean(mirrored, axis=0), max(_WIDTHS, key=fit)), inside)


def maps_of(open_ms: Path, model: str, patients: int, seed: int, inside: np.ndarray) -> dict[str, np.ndarray]:
    """Every map as a density over the brain."""
    anatomy = template_anatomy(SPACE)
    scaled, masks = head_of_cs07(open_ms), baseline_masks(open_ms)
    baseline = {
        "as they lie": [on_template(one, np.eye(4), SPACE) for one in masks],
        "scaled": [on_template(one, scaled, SPACE) for one in masks],
    }
    frequency = {f"lesion frequency of sub-cs01 to sub-cs15, {how}": _frequency(ones, inside) for how, ones in baseline.items()}
    everyone = np.vstack([_centres(mask, inside) for mask in baseline["scaled"]])
    scales = (3.0, 5.0, 7.0, 10.0, 14.0, 20.0, 30.0)
    away = anatomy.distance_to_ventricles_mm
    near = {scale: _density(np.exp(-away / scale), inside) for scale in scales}
    white = {scale: _density(anatomy.white * np.exp(-away / scale), inside) for scale in scales}
    reference, trial = CausalModel.load(model), simulate_trial("lifelike", patients=patients, seed=seed)
    risks = [np.asarray(reference.risk_map(trial, str(name), "placebo", 96)) for name in trial.participants["participant_id"]]
    return {
        **frequency,
        "model, mean over simulated patients": _density(np.mean(risks, axis=0), inside),
        "white matter x exp(-distance)": white[_best_scale(white, everyone)],
        "exp(-distance to the ventricles)": near[_best_scale(near, everyone)],
        "uniform": _density(np.ones(SPACE.shape), inside),
    }


@click.command()
@click.argument("open_ms", type=click.Path(path_type=Path))
@out_option
@model_option()
@click.option("--patients", default=40, show_default=True, help="Simulated patients of the model's mean map.")
@seed_option(9)
def main(open_ms: Path, out: Path, model: str, patients: int, seed: int) -> None:
    inside = template_anatomy(SPACE).brain
    centres = {}
    for name, (change, brain) in change_masks(open_ms).items():
        found = _centres(on_template(change, by_its_mask(brain), SPACE), inside)
        if len(found):
            centres[name] = found
        click.echo(f"{name}: {len(found)} new lesions")
    maps = maps_of(open_ms, model, patients, seed, inside)
    nats = {
        name: place_scores([_judged(one, inside, at) for at in centres.values()])["estimate"].iloc[1]
        for name, one in maps.items()
    }
    first = max([name for name in maps if name.startswith("lesion frequency")], key=lambda name: nats[name])
    auc = pd.DataFrame({name: {who: _auc(density, inside, at) for who, at in centres.items()} for name, density in maps.items()})
    rows = []
    for name, density in maps.items():
        judged = [_judged(density, inside, at) for at in centres.values()]
        score = place_scores(judged, reference=maps[first]).set_index("measure")
        apart = auc[name] - auc[first]
        row = {"map": name, "auc": auc[name].mean(), "auc_over_frequency": apart.mean(), "auc_over_frequency_se": apart.sem()}
        for column, measure in (
            ("nats_over_uniform", "gain over uniform"),
            ("nats_over_frequency", "gain over the reference map"),
        ):
            row |= {column: score.loc[measure, "estimate"], f"{column}_se": score.loc[measure, "se"]}
        rows.append({**row, "patients": len(centres), "lesions": sum(map(len, centres.values()))})
    table = pd.DataFrame(rows).round(3).assign(simulated=patients, seed=seed)
    write_table(table, out / "real_location.csv")
    click.echo(table.to_string(index=False))


if __name__ == "__main__":
    main()
