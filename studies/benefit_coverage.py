"""Do the intervals of predicted benefit hold the truth?  Phantom patients with known rates, their counts drawn again and again.

Patients of a trial are drawn with replacement from a large phantom population whose rates under both arms are known, so the
truth of every statistic is an exact average.  A fixed prediction knows the columns but not what only the images show, and is
wrong in level and effect; ``cross-fitted`` learns the prediction from the trial itself.

python -m studies.benefit_coverage --out results --repetitions 400   (3 to 4 minutes of one core for each cell of 400 patients)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import click
import numpy as np
import pandas as pd

from causalms.benefit import (
    Benefit,
    Comparison,
    Inference,
    benefit,
    benefit_curves,
    benefit_groups,
    best_linear_predictor,
    choose_treatment,
    cross_fit,
    cross_fitted_benefit,
    policy_value,
    ranking,
)
from causalms.benefit.heterogeneity import areas
from causalms.phantom import load_design
from causalms.phantom.covariates import draw_baseline, terms
from causalms.tables import write_table
from studies.common import out_option, seed_option

ARMS = Comparison(outcome="lesions", drug="drug", reference="placebo")
FORMULA = "log_gd + age + log_t2 + relapses"
SHARES = (1.0, 0.75, 0.5, 0.3, 0.2)
CAP = 0.3
#: Change of the drug's log rate ratio per unit of a centred column; "absolute" has a constant rate ratio.
SCENARIOS = {
    "absolute": {"log_ratio": np.log(0.15)},
    "modified": {"log_ratio": np.log(0.5), "log_gd": -0.5, "age": 0.4},
    "no effect": {"log_ratio": 0.0},
}
Interval = tuple[str, float, float, float, float]


def population(scenario: str, patients: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Phantom patients of DEFINE's baseline: covariates, true mean counts under both arms and a third, and predictions."""
    design = load_design("pooled")
    trial = next(one for one in design.trials if one.name == "DEFINE")
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(patients):
        drawn = draw_baseline(trial.baseline, rng)
        known = {name: getattr(drawn, name) for name in ("age", "sex", "edss", "disease_duration", "relapses_prior_year")}
        centred = terms(**known, gd_lesions=drawn.gd_lesions, t2_lesions=drawn.t2_lesions, t2_volume_ml=9.0)
        rows.append({**centred, "dirty_white_matter": drawn.dirty_white_matter, "black_holes": drawn.black_holes})
    people = pd.DataFrame(rows)
    seen = trial.log_rate_week96 + sum(slope * people[name] for name, slope in design.rate.columns.items())
    hidden = sum(slope * people[name] for name, slope in design.rate.image_markers.items())
    effect = SCENARIOS[scenario]
    modified = sum(slope * people[name] for name, slope in effect.items() if name != "log_ratio")
    people["before"], people["after"] = np.exp(seen + hidden), np.exp(seen + hidden + effect["log_ratio"] + modified)
    people["strong"] = people["after"] * 0.5 * np.exp(0.3 * people["age"])
    # Half of the modification, a fifth too many lesions on placebo, a weaker drug.
    people["under_reference"] = 1.2 * np.exp(seen)
    people["under_drug"] = np.exp(
        seen + 0.8 * effect["log_ratio"] + 0.5 * modified - (scenario == "no effect") * 0.3 * people["age"]
    )
    people["under_strong"] = people["under_drug"] * np.exp(-0.5 + 0.15 * people["age"])
    return people


def drawn_trial(people: pd.DataFrame, patients: int, rng: np.random.Generator, arms: tuple[str, ...]) -> pd.DataFrame:
    """A randomised trial of patients drawn with replacement; counts have variance m + 2 m^2."""
    rows = people.iloc[rng.integers(len(people), size=patients)].reset_index(drop=True)
    place = rng.permutation(np.arange(patients) % len(arms))
    mean = rows[["before", "after", "strong"][: len(arms)]].to_numpy()[np.arange(patients), place]
    lesions = rng.negative_binomial(0.5, 0.5 / (0.5 + mean))
    return rows.assign(participant_id=np.arange(patients), arm=np.array(arms, object)[place], lesions=lesions)


def intervals(data: Benefit, people: pd.DataFrame, score: np.ndarray, inference: Inference) -> Iterator[Interval]:
    """Every interval of one trial beside its truth in the population: name, estimate, lower, upper, truth."""
    before, after = people["before"].to_numpy(), people["after"].to_numpy()
    spared = before - after
    order = np.argsort(-score, kind="stable")
    ranked = ranking(data, inference=inference)
    for (_, row), truth in zip(ranked.iterrows(), areas(score[order], spared[order]), strict=True):
        yield row["measure"], row["estimate"], row["lower"], row["upper"], truth
    slope = float(np.cov(score, spared)[0, 1] / score.var(ddof=1))
    targets = {"average benefit": spared.mean(), "calibration in the large": spared.mean() - score.mean(), "slope": slope}
    lines = best_linear_predictor(data, inference=inference).iloc[:3]
    for (_, row), (name, truth) in zip(lines.iterrows(), targets.items(), strict=True):
        yield name, row["estimate"], row["lower"], row["upper"], truth
    yield from _curve(data, score, before, after, inference)
    group_rows = benefit_groups(data, 4, inference=inference)
    cuts = np.quantile(data.score, [0.25, 0.5, 0.75])
    place = np.searchsorted(cuts, score, side="left")
    groups = [spared[place == number].mean() for number in range(4)]
    for row, truth in zip(group_rows.itertuples(), [*groups, groups[-1] - groups[0]], strict=True):
        yield f"GATES {row.group}", row.observed, row.lower, row.upper, float(truth)
    yield from _policies(data, score, before, after, inference)


def _curve(data: Benefit, score: np.ndarray, before: np.ndarray, after: np.ndarray, inference: Inference) -> Iterator[Interval]:
    curve = benefit_curves(data, shares=SHARES, inference=inference)
    inside = score[:, None] >= curve["threshold"].to_numpy()
    lesions, left = ((side[:, None] * inside).sum(axis=0) / inside.sum(axis=0) for side in (before, after))
    for name, truth in (("ad", lesions - left), ("ar", left / lesions)):
        for number, share in enumerate(SHARES):  # thresholds rise as shares fall
            row = curve.iloc[number]
            yield f"{name.upper()} at {share:.0%}", row[name], row[f"{name}_lower"], row[f"{name}_upper"], float(truth[number])
        low, high = curve[f"{name}_band_lower"], curve[f"{name}_band_upper"]
        outside = np.where(truth < low, -1, np.where(truth > high, 1, 0))
        worst = outside[np.flatnonzero(outside)[0]] if outside.any() else 0
        yield f"{name.upper()} band", 0.0, -0.5, 0.5, float(worst)  # all of the curve inside its band, or the side it left on


def _policies(
    data: Benefit, score: np.ndarray, before: np.ndarray, after: np.ndarray, inference: Inference
) -> Iterator[Interval]:
    numbers = policy_value(data, caps=(1.0, CAP), inference=inference)
    top = score >= np.quantile(score, 1 - CAP)
    rules = [np.zeros(len(score)), np.ones(len(score)), score > 0, top & (score > 0)]
    values = [np.where(rule, after, before).mean() for rule in rules]
    gains = [((rule - rule.mean()) * (before - after)).mean() for rule in rules[2:]]
    truths = [values[0], values[1], values[2], gains[0], values[3], gains[1]]
    names = [
        "value: nobody",
        "value: all",
        "value: benefit > 0",
        "gain: benefit > 0",
        f"value: cap {CAP:.0%}",
        f"gain: cap {CAP:.0%}",
    ]
    for (_, row), name, truth in zip(numbers.iterrows(), names, truths, strict=True):
        yield name, row["estimate"], row["lower"], row["upper"], float(truth)


def choice_intervals(people: pd.DataFrame, patients: int, rng: np.random.Generator, inference: Inference) -> Iterator[Interval]:
    """Choice among three arms, the strong one for at most ``CAP``."""
    trial = drawn_trial(people, patients, rng, ("placebo", "drug", "strong"))
    names = {"under_reference": "placebo", "under_drug": "drug", "under_strong": "strong"}
    predictions = trial[["participant_id", *names]].rename(columns=names)
    choice = choose_treatment(
        trial.drop(columns=list(names)), predictions, outcome="lesions", capped="strong", cap=CAP, inference=inference
    ).results
    lines = choice.set_index("measure")
    gain = people[["under_reference", "under_drug"]].min(axis=1) - people["under_strong"]
    strong = (gain >= np.quantile(gain, 1 - CAP)) & (gain > 0)
    other = np.where(people["under_drug"] < people["under_reference"], people["after"], people["before"])
    value = float(np.where(strong, people["strong"], other).mean())
    single = people["after"] if people["under_drug"].mean() < people["under_reference"].mean() else people["before"]
    truths = {"value of chosen treatment": value, "spared by choosing": float(single.mean()) - value}
    for name, truth in truths.items():
        row = lines.loc[name]
        yield f"{name}, cap {CAP:.0%}", row["estimate"], row["lower"], row["upper"], truth


def repetition(people: pd.DataFrame, kind: str, patients: int, seed: int, redraws: int) -> Iterator[Interval]:
    """All intervals of one simulated trial."""
    rng = np.random.default_rng([seed, patients])
    trial = drawn_trial(people, patients, rng, ("placebo", "drug"))
    if kind == "cross-fitted":
        outside = people.assign(participant_id=-1 - np.arange(len(people)))
        predictions = cross_fit(trial, ARMS, FORMULA, seed=seed, outside=outside)
        beyond = predictions.iloc[patients:]
        score = (beyond["under_reference"] - beyond["under_drug"]).to_numpy()
    else:
        predictions = trial[["participant_id", "under_reference", "under_drug"]]
        score = (people["under_reference"] - people["under_drug"]).to_numpy()
    data = benefit(trial, predictions, ARMS) if kind == "fixed" else cross_fitted_benefit(trial, ARMS, FORMULA, seed=seed)
    inference = Inference(redraws=redraws)
    yield from intervals(data, people, score, inference)
    if kind == "fixed":
        yield from choice_intervals(people, patients, rng, inference)


def summarise(rows: list[Interval]) -> dict[str, float]:
    """Trials with an interval, coverage with its Monte-Carlo error, the misses on either side, the mean width and the bias."""
    values = np.array([row[1:] for row in rows], float)
    values = values[~np.isnan(values[:, 1])]  # without an interval: a rule that parts off fewer than 10 patients
    if not len(values):
        return {"judged": 0}
    estimate, lower, upper, truth = values.T
    held = (lower <= truth) & (truth <= upper)
    share = held.mean()
    return {
        "judged": len(values),
        "coverage": share,
        "coverage_mcse": float(np.sqrt(share * (1 - share) / len(values))),
        "truth_below": float((truth < lower).mean()),
        "truth_above": float((truth > upper).mean()),
        "width": float((upper - lower).mean()),
        "bias": float((estimate - truth).mean()),
        "truth": float(truth.mean()),
    }


def coverage(scenario: str, kind: str, patients: int, repetitions: int, seed: int, redraws: int = 999) -> pd.DataFrame:
    """One row a quantity."""
    people = population(scenario)
    kept: dict[str, list[Interval]] = {}
    for number in range(repetitions):
        for row in repetition(people, kind, patients, seed + number, redraws):
            kept.setdefault(row[0], []).append(row)
    keys = {"scenario": scenario, "prediction": kind, "patients": patients, "repetitions": repetitions, "redraws": redraws}
    keys["seed"] = seed
    return pd.DataFrame([{**keys, "quantity": name, **summarise(rows)} for name, rows in kept.items()])


@click.command()
@out_option
@click.option("--repetitions", default=400, show_default=True)
@click.option("--patients", multiple=True, type=int, default=(400,), show_default=True, help="Of a trial; may be repeated.")
@click.option("--scenario", "scenarios", multiple=True, type=click.Choice(list(SCENARIOS)), default=tuple(SCENARIOS))
@click.option(
    "--prediction", "kinds", multiple=True, type=click.Choice(("fixed", "cross-fitted")), default=("fixed", "cross-fitted")
)
@click.option("--redraws", default=999, show_default=True, help="0: t quantiles, to see what the redraws are for.")
@seed_option(16)
def main(
    out: Path,
    repetitions: int,
    patients: tuple[int, ...],
    scenarios: tuple[str, ...],
    kinds: tuple[str, ...],
    redraws: int,
    seed: int,
) -> None:
    """Write benefit_coverage.csv, coverage of every 95% interval by scenario, prediction and size, and it side by side.

    The table is written after every cell; a run that was stopped goes on with the cells that are not in it.
    """
    file = out / "benefit_coverage.csv"
    tables = [pd.read_csv(file)] if file.exists() else []
    keys = ["scenario", "prediction", "patients", "repetitions", "redraws", "seed"]
    done = set(tables[0][keys].itertuples(index=False, name=None)) if tables else set()
    for kind, size, scenario in product(kinds, patients, scenarios):
        if (scenario, kind, size, repetitions, redraws, seed) in done:
            continue
        begin = time.process_time()
        tables.append(coverage(scenario, kind, size, repetitions, seed, redraws))
        write_table(pd.concat(tables, ignore_index=True).round(5), file)
        print(f"{scenario}, {kind}, {size} patients: {time.process_time() - begin:.0f} CPU s", flush=True)
    wide = side_by_side(pd.concat(tables, ignore_index=True))
    write_table(wide, out / "benefit_coverage_wide.csv")
    print(wide.to_string(index=False))


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """Coverage with one row a quantity and one column a scenario and prediction; empty below 100 trials with an interval."""
    column = table["scenario"] + " (" + table["prediction"] + ")"
    if table["patients"].nunique() > 1:
        column = column + " " + table["patients"].astype(str)
    wide = (
        table[table["judged"] >= 100]
        .assign(column=column)
        .pivot_table(index="quantity", columns="column", values="coverage", sort=False)
    )
    return wide.round(3).rename_axis(columns=None).reset_index()


if __name__ == "__main__":
    main()
