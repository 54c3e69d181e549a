r"""Predicted effects of published arms, a drug left out: written and hashed first, judged afterwards.

python -m studies.exam predict      # writes results/exam/predictions.csv and its SHA-256
python -m studies.exam judge        # refuses predictions whose hash is another
python -m studies.exam relapses     # the second exam: risk ratios of relapse from effects on lesions

For input x, the log ratio of relapse rates or of counts of enhancing lesions in the arm's own trial, a line
:math:`\log r = a + b x` is fitted by least squares to the judged arms of all other drugs.  The prediction is the mean
of the lines that have an input; with none, the mean of the other drugs' arms.  docs/decisions/exam.md says why, and was written
before.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy import stats

from causalms.agreement import exam_arms, exam_form, judge_exam
from causalms.errors import InputError
from causalms.tables import write_table

OUT = Path(__file__).parent / "results" / "exam"
INPUTS = ("relapse_ratio", "gd_ratio")


def predict_arm(arm: pd.Series, others: pd.DataFrame, inputs: tuple[str, ...] = INPUTS) -> float:
    """Predicted ratio of one arm from the arms of other drugs.

    Examples
    --------
    >>> others = pd.DataFrame({"ratio": [0.25, 1.0, 0.5], "relapse_ratio": [0.5, 1.0, None], "gd_ratio": [None, None, None]})
    >>> round(predict_arm(pd.Series({"relapse_ratio": 0.7, "gd_ratio": None}), others), 4), round(0.7**2, 4)
    (0.49, 0.49)
    """
    predictions = []
    for name in inputs:
        known = others.dropna(subset=name)
        if pd.notna(arm[name]) and len(known) > 1:
            x, y = np.log(known[name].to_numpy(float)), np.log(known["ratio"].to_numpy(float))
            slope, level = np.polyfit(x, y, 1)
            predictions.append(level + slope * np.log(float(arm[name])))
    return float(np.exp(np.mean(predictions or [np.log(others["ratio"].to_numpy(float)).mean()])))


def predictions(inputs: tuple[str, ...] = INPUTS) -> pd.DataFrame:
    """The exam's form, filled in."""
    arms = exam_arms()
    judged = arms[arms["metric"] == "new or enlarging T2"]
    values = [predict_arm(arm, judged[judged["drug"] != arm["drug"]], inputs) for _, arm in arms.iterrows()]
    return exam_form().assign(predicted=np.round(values, 4))


def relapse_predictions() -> pd.DataFrame:
    """Risk ratio of relapse over 24 months of each drug, from lesion effects against placebo and the other drugs' risk ratios.

    Only drugs with a judged arm against placebo; a drug's lesion effect is the mean of its arms' log ratios.  ``null`` is the
    mean of the other drugs' log risk ratios.
    """
    arms = exam_arms()
    arms = arms[(arms["metric"] == "new or enlarging T2") & (arms["comparator"] == "placebo")]
    lesions = arms.assign(log_ratio=np.log(arms["ratio"].to_numpy(float))).groupby("drug")["log_ratio"].mean()
    published = pd.read_csv(OUT / "cochrane.csv").set_index("drug")["risk_ratio"]
    drugs = [drug for drug in lesions.index if drug in published.index]
    x, y = lesions[drugs].to_numpy(), np.log(published[drugs].to_numpy())
    rows = []
    for held, drug in enumerate(drugs):
        others = np.arange(len(drugs)) != held
        slope, level = np.polyfit(x[others], y[others], 1)
        predicted, null = np.exp(level + slope * x[held]), np.exp(y[others].mean())
        rows.append({"drug": drug, "lesion_ratio": np.exp(x[held]), "predicted": predicted, "null": null})
    return pd.DataFrame(rows).round(4)


@click.group()
def main() -> None:
    """The exam on published arms, in two steps."""


@main.command()
def predict() -> None:
    """Write the predictions and their hash."""
    write_table(predictions(), OUT / "predictions.csv")
    digest = hashlib.sha256((OUT / "predictions.csv").read_bytes()).hexdigest()
    (OUT / "predictions.sha256").write_text(f"{digest}  predictions.csv\n")
    click.echo(digest)


@main.command()
def relapses() -> None:
    """The second exam: network risk ratios of relapse, written, hashed, then compared."""
    table = relapse_predictions()
    write_table(table, OUT / "relapse_predictions.csv")
    click.echo(hashlib.sha256((OUT / "relapse_predictions.csv").read_bytes()).hexdigest())
    published = pd.read_csv(OUT / "cochrane.csv").set_index("drug").loc[table["drug"]].reset_index()
    log = {name: np.log(table[name].to_numpy()) - np.log(published["risk_ratio"].to_numpy()) for name in ("predicted", "null")}
    gap = np.abs(log["predicted"]) - np.abs(log["null"])
    half = float(stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / np.sqrt(len(gap)))
    judged = table.assign(published=published["risk_ratio"], lower=published["lower"], upper=published["upper"])
    write_table(judged, OUT / "relapses.csv")
    correlation = float(np.corrcoef(np.log(table["predicted"]), np.log(published["risk_ratio"]))[0, 1])
    row = {"error": np.abs(log["predicted"]).mean(), "null_error": np.abs(log["null"]).mean(), "difference": gap.mean()}
    row |= {"lower": gap.mean() - half, "upper": gap.mean() + half, "correlation": correlation, "drugs": len(gap)}
    write_table(pd.DataFrame([row]), OUT / "relapse_scores.csv")
    click.echo(f"{judged.to_string(index=False)}\n{row}")


@main.command()
def judge() -> None:
    """Compare what was written, and beside it the lines of one input alone."""
    verdict = judge_exam(OUT / "predictions.csv")
    if verdict.sha256 != (OUT / "predictions.sha256").read_text().split()[0]:
        raise InputError(f"{OUT / 'predictions.csv'} is not the file that was hashed; restore it")
    write_table(verdict.arms, OUT / "arms.csv")
    rows = [{"predictions": "registered", **scores(verdict)}]
    for name in INPUTS:
        file = OUT / f"{name}.csv"
        write_table(predictions((name,)), file)
        rows.append({"predictions": f"{name.removesuffix('_ratio')} alone (not registered)", **scores(judge_exam(file))})
        file.unlink()
    write_table(pd.DataFrame(rows), OUT / "scores.csv")
    click.echo(repr(verdict))


def scores(verdict: object) -> dict[str, object]:
    """The numbers of a verdict as a row."""
    names = ("error", "null_error", "difference", "lower", "upper", "correlation", "passed")
    return {name: getattr(verdict, name) for name in names}


if __name__ == "__main__":
    main()
