"""Laws of place of the phantom's design ``lifelike``, fitted to public masks: penalised Poisson regression, log-linear in place.

python -m studies.phantom_place_law OPEN_MS --out studies/results

Three laws: where T2 lesions lie (each lesion counts once, spread over its voxels), where their volume lies (each patient counts
alike) and where new lesions came. Terms are products of smooth coordinates (``causalms.phantom.place_law``). The penalty is
chosen by leaving one patient out; nats a lesion over an even density are of patients left out, with standard errors over
patients. Today's law of the design ``pooled`` is judged beside them. Only coefficients leave this script.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy import ndimage

from causalms.phantom.place_law import coordinates, log_linear
from causalms.tables import write_table
from causalms.trials import mni_space, template_anatomy
from studies.common import out_option
from studies.public_masks import baseline_masks, by_its_mask, change_masks, head_of_cs07, on_template

SPACE = mni_space("3mm")
_AWAY = ("at_ventricle", "near_ventricle", "at_cortex", "near_cortex")
_SECOND = tuple("*".join(names) for k in (1, 2) for names in combinations_with_replacement(("side", "front", "up"), k))
TERMS = {
    "T2 lesions": (*_AWAY, *_SECOND),
    "T2 volume": (*_AWAY, *_SECOND, *(f"near_ventricle*{term}" for term in _SECOND)),
    "NET2 lesions": (*_AWAY, "side", "front", "up"),
}
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Sites:
    """Voxels of the template where a lesion may lie, as the phantom has them."""

    def __init__(self) -> None:
        anatomy = template_anatomy(SPACE)
        tissue = anatomy.white + 0.3 * anatomy.grey * (anatomy.distance_to_cortex_mm > 8.0)
        self.inside = (tissue > 0.35) & anatomy.brain
        self.log_tissue = np.log(tissue[self.inside].astype(float))
        self.away = [
            values[self.inside].astype(float) for values in (anatomy.distance_to_ventricles_mm, anatomy.distance_to_cortex_mm)
        ]
        self.at = coordinates(*self.away, SPACE.world(np.argwhere(self.inside)).T)

    def columns(self, terms: tuple[str, ...]) -> np.ndarray:
        """One column a term."""
        return np.stack([log_linear({term: 1.0}, self.at) for term in terms], axis=1)

    def log_density(self, value: np.ndarray) -> np.ndarray:
        """Logarithm of the density that is proportional to tissue times exp(value)."""
        value = value + self.log_tissue
        return value - value.max() - np.log(np.exp(value - value.max()).sum())

    def of_pooled(self) -> np.ndarray:
        """Today's law: three exponentials."""
        parts = [np.exp(self.log_density(-self.away[k] / mm)) for k, mm in ((0, 5.0), (1, 3.0), (0, 20.0))]
        return np.log(0.5 * parts[0] + 0.16 * parts[1] + 0.34 * parts[2])


def mass(mask: np.ndarray, inside: np.ndarray, *, by_volume: bool) -> np.ndarray:
    """Where a patient's lesions lie among the sites: each lesion has mass 1, or all of its voxels together 10 a patient."""
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    here = labels[inside]
    voxels = np.bincount(here)
    weight = (here > 0) / (1.0 if by_volume else np.maximum(voxels[here], 1))
    return weight * (10.0 / weight.sum() if by_volume and weight.any() else 1.0)


def fitted(sites: Sites, columns: np.ndarray, total: np.ndarray, penalty: float) -> np.ndarray:
    """Coefficients of the Poisson regression given the number of lesions, with a ridge penalty; Newton's method."""
    count, sums = total.sum(), total @ columns
    beta = np.zeros(columns.shape[1])
    for _ in range(50):
        density = np.exp(sites.log_density(columns @ beta))
        mean = density @ columns
        gradient = sums - count * mean - penalty * beta
        spread = (columns * density[:, None]).T @ columns - np.outer(mean, mean)
        step = np.linalg.solve(count * spread + penalty * np.eye(len(beta)), gradient)
        beta = beta + step / max(1.0, np.abs(step).max())
        if np.abs(step).max() < 1e-5:
            break
    return beta


def left_out(sites: Sites, columns: np.ndarray, masses: np.ndarray, penalty: float) -> np.ndarray:
    """Log score over an even density of every patient under the law of the others, per lesion of all."""
    even = -np.log(len(columns))
    scores = []
    for patient, own in enumerate(masses):
        beta = fitted(sites, columns, np.delete(masses, patient, axis=0).sum(axis=0), penalty)
        scores.append(own @ (sites.log_density(columns @ beta) - even))
    return np.array(scores)


def per_lesion(scores: np.ndarray, masses: np.ndarray) -> tuple[float, float]:
    """Mean per lesion and its standard error, patients being independent."""
    sizes = masses.sum(axis=1)
    mean = scores.sum() / sizes.sum()
    return mean, np.sqrt(((scores - mean * sizes) ** 2).sum()) / sizes.sum()


def law_of(sites: Sites, name: str, masses: np.ndarray) -> tuple[dict[str, float], dict[str, object]]:
    """Coefficients at the best penalty, and how the law does on patients left out."""
    raw = sites.columns(TERMS[name])
    columns = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    scores = {penalty: left_out(sites, columns, masses, penalty) for penalty in PENALTIES}
    best = max(scores, key=lambda penalty: scores[penalty].sum())
    beta = fitted(sites, columns, masses.sum(axis=0), best) / raw.std(axis=0)
    even = -np.log(len(raw))
    row: dict[str, object] = {"law": name, "terms": len(beta), "penalty": best, "patients": len(masses)}
    row["lesions"] = masses.sum()
    before = masses @ (sites.of_pooled() - even)
    for column, values in (("nats", scores[best]), ("nats_of_pooled", before), ("gain", scores[best] - before)):
        row[column], row[f"{column}_se"] = per_lesion(values, masses)
    return dict(zip(TERMS[name], beta.tolist(), strict=True)), row


@click.command()
@click.argument("open_ms", type=click.Path(path_type=Path))
@out_option
def main(open_ms: Path, out: Path) -> None:
    sites, head = Sites(), head_of_cs07(open_ms)
    t2 = [on_template(mask, head, SPACE) for mask in baseline_masks(open_ms)]
    new = [on_template(mask, by_its_mask(brain), SPACE) for mask, brain in change_masks(open_ms).values()]
    groups = {"T2 lesions": (t2, False), "T2 volume": (t2, True), "NET2 lesions": (new, False)}
    rows, coefficients = [], []
    for name, (masks, by_volume) in groups.items():
        law, row = law_of(sites, name, np.array([mass(mask, sites.inside, by_volume=by_volume) for mask in masks]))
        rows.append(row)
        coefficients += [{"law": name, "term": term, "coefficient": value} for term, value in law.items()]
        click.echo(f"{name}: {{{', '.join(f'{term}: {value:.3g}' for term, value in law.items())}}}")
    table = pd.DataFrame(rows).round(3)
    write_table(table, out / "phantom_place_law.csv")
    write_table(pd.DataFrame(coefficients).round(4), out / "phantom_place_law_coefficients.csv")
    click.echo(table.to_string(index=False))


if __name__ == "__main__":
    main()
