"""How like real scans the phantom is: T2 and NET2 lesions against the open Ljubljana masks (Lesjak 2016, 2018).

Both sides are counted by one rule, T2 masks on one 2 mm grid; intervals from resampling patients.

    python -m studies.phantom_realism --open-ms PATH --out results [--patients 100] [--seed 1]
"""

from pathlib import Path

import click
import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from scipy.stats import ks_2samp

import causalms as cms
from causalms.lesions import lesion_table
from causalms.tables import write_table
from causalms.trials import mni_space, resample_trial, template_anatomy
from studies.common import out_option, seed_option

SPACE = mni_space("2mm")
LEAST_MM3 = 16  # two voxels of the grid: lesions that can be seen on both sides


def volumes(mask, affine):
    volumes_mm3 = lesion_table(mask, affine)["volume_mm3"].to_numpy()
    return volumes_mm3[volumes_mm3 >= LEAST_MM3]


def with_interval(statistic, real, phantom, rng):
    draws = [statistic(*[[g[i] for i in rng.integers(len(g), size=len(g))] for g in (real, phantom)]) for _ in range(500)]
    return {"value": statistic(real, phantom), "lower": np.quantile(draws, 0.025), "upper": np.quantile(draws, 0.975)}


def distance(real, phantom):
    return ks_2samp(np.concatenate(real), np.concatenate(phantom)).statistic


def likeness(real, phantom):
    return np.corrcoef(np.mean(real, axis=0), np.mean(phantom, axis=0))[0, 1]


@click.command()
@click.option("--open-ms", required=True, type=click.Path(path_type=Path, exists=True), envvar="CAUSALMS_OPEN_MS")
@out_option
@click.option("--patients", default=100, show_default=True)
@seed_option(1)
def main(open_ms: Path, out: Path, patients: int, seed: int) -> None:
    phantom = cms.simulate_trial("pooled", patients, seed, "2mm")
    names = list(phantom.participants["participant_id"])
    ids = sorted(path.name for path in (open_ms / "derivatives" / "lesions").glob("sub-cs*"))
    scans = resample_trial(cms.load_trial(open_ms, participants=ids), SPACE)
    t2 = {"real": [scans.mask(pid, "T2") for pid in ids], "phantom": [phantom.mask(pid, "T2") for pid in names]}
    sizes = {side: [volumes(mask, SPACE.affine) for mask in masks] for side, masks in t2.items()}
    changes = [nib.load(path) for path in sorted(open_ms.glob("derivatives/lesions/sub-lg*/*/anat/*NET2_mask.nii.gz"))]
    new = {"real": [volumes(np.asarray(image.dataobj) > 0, image.affine) for image in changes]}
    new["phantom"] = [volumes(phantom.truth.potential_mask(pid, "placebo", 96), SPACE.affine) for pid in names]
    compared = {
        "T2 lesions a patient": {side: [np.array([len(v)]) for v in group] for side, group in sizes.items()},
        "T2 volume a patient (mL)": {side: [np.array([v.sum() / 1000]) for v in group] for side, group in sizes.items()},
        "volume of a T2 lesion (mm3)": sizes,
        "volume of a NET2 lesion (mm3)": new,
    }
    rng, rows = np.random.default_rng(seed), []
    figure, axes = plt.subplots(2, 4, figsize=(16, 7.5), layout="constrained")
    for axis, (quantity, groups) in zip(axes[0], compared.items(), strict=True):
        row = {"quantity": quantity, "statistic": "KS distance", **with_interval(distance, *groups.values(), rng)}
        for side, group in groups.items():
            row |= dict(
                zip(
                    [f"{q}_{side}" for q in ("q1", "median", "q3")],
                    np.quantile(np.concatenate(group), [0.25, 0.5, 0.75]),
                    strict=True,
                )
            )
            axis.ecdf(np.concatenate(group), label=f"{side}, {len(group)} patients")
        rows.append(row)
        axis.set(xscale="log", xlabel=quantity, title="KS {value:.2f} ({lower:.2f} to {upper:.2f})".format(**row))
        axis.legend()
    brain = template_anatomy(SPACE).brain
    maps = [[gaussian_filter(mask.astype(np.float32), 2.0)[brain][::4] for mask in masks] for masks in t2.values()]
    row = {"quantity": "map of T2 lesion frequency", "statistic": "correlation", **with_interval(likeness, *maps, rng)}
    for column, (side, masks) in enumerate(t2.items()):
        share = np.mean(masks, axis=0)
        row[f"peak_{side}"] = share.max()
        for view, cut in enumerate((share[:, :, 46], share[40])):
            axes[1, 2 * column + view].imshow(cut.T, origin="lower", vmax=0.7 * share.max(), cmap="magma")
            axes[1, 2 * column + view].set(title=f"{side}: share with a lesion, peak {share.max():.2f}", xticks=[], yticks=[])
    table = pd.DataFrame([*rows, row]).round(3)
    write_table(table, out / "phantom_realism.csv")
    figure.savefig(out / "phantom_realism.png", dpi=110)
    click.echo(table.to_string(index=False))


if __name__ == "__main__":
    main()
