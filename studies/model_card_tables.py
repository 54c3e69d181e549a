"""Put the tables of studies/results/model_card into the model card, between its markers, so that card and results never differ.

python -m studies.model_card_tables [--results studies/results] [--card causalms/generator/MODEL_CARD.md]
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import click
import pandas as pd

from causalms.files import whole_file

RESULTS, CARD = Path("studies/results"), Path("causalms/generator/MODEL_CARD.md")


def with_interval(row: pd.Series) -> str:
    return f"{row['estimate']:.2f} ({row['lower']:.2f}-{row['upper']:.2f})"


def markdown(table: pd.DataFrame) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.astype(str).to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measured(results: Path, measure: str, index: str, columns: str, **only: str) -> pd.DataFrame:
    """One measure as text, estimate and 95% interval; rows by ``index``."""
    scores = pd.read_csv(results / "model_card" / "by_subgroup.csv", keep_default_na=False, na_values=[""])
    scores = scores[scores["measure"] == measure].fillna({"arm": ""})
    for name, value in only.items():
        scores = scores[scores[name] == value]
    text = scores.assign(text=scores.apply(with_interval, axis=1))
    order = list(dict.fromkeys(text[columns])), list(dict.fromkeys(text[index]))
    return text.pivot(index=index, columns=columns, values="text").loc[order[1], order[0]]


def arms(results: Path) -> str:
    true = json.loads((results / "model_card" / "model_card.json").read_text())["true_means"]
    table = pd.DataFrame({"true mean": pd.Series(true).map("{:.2f}".format)})
    for title, measure in (
        ("expected / true", "mean ratio"),
        ("rate ratio / true", "rate ratio / truth"),
        ("R² of log rate", "R2 of log rate, by arm"),
        ("variance / true", "variance / truth"),
        ("share of zeros / true", "share of zeros / truth"),
    ):
        table[title] = measured(results, measure, "arm", "subgroup", subgroup="everyone")["everyone"]
    return markdown(table.rename_axis("arm").reset_index())


def subgroups(results: Path) -> str:
    parts = []
    for title, measure in (("expected / true", "mean ratio"), ("rate ratio / true", "rate ratio / truth")):
        parts.append(f"{title}:\n\n" + markdown(measured(results, measure, "subgroup", "arm").reset_index()))
    names = ("coverage of 90% intervals", "CRPS", "AUC of activity", "R2 of log rate")
    scores = pd.concat([measured(results, name, "subgroup", "measure") for name in names], axis=1)
    return "\n\n".join([*parts, markdown(scores.reset_index())])


def weeks(results: Path) -> str:
    table = pd.read_csv(results / "model_card" / "by_week.csv").round(2).astype({"week": int})
    table["a_visit"] = table["a_visit"].map({True: "yes", False: "no, interpolated"})
    return markdown(table.rename(columns={"a_visit": "a visit"}))


def sampled(results: Path) -> str:
    file = results / "expected_against_sampled.csv"
    if not file.is_file():
        return "Not measured for this checkpoint yet."
    table, card = pd.read_csv(file), json.loads((results / "model_card" / "model_card.json").read_text())
    if not card["checksum"].startswith(str(table["model"][0])):
        raise SystemExit(f"{file}: of another checkpoint than model_card.json; run studies/expected_against_sampled.py again")
    plain, own = (
        table[f"{kind}_over_expected"].map("{:.3f}".format) + " (" + table[f"se_{kind}"].map("{:.3f}".format) + ")"
        for kind in ("sampled", "controlled")
    )
    shown = pd.DataFrame({"arm": table["arm"], "plain mean (SE)": plain, "frailty taken out (SE)": own})
    shown["variance factor"] = table["variance_factor"].map("{:.1f}".format)
    shown["pairs within 3 SE"] = (100 * table["within_3_standard_errors"]).map("{:.0f}%".format)
    return markdown(shown)


def summary(results: Path) -> str:
    facts = json.loads((results / "model_card" / "model_card.json").read_text())
    covered, lesions = 100 * facts["coverage of 90% intervals"], facts["lesions_compared"]
    return (
        f"Checksum `{facts['checksum'][:12]}…`, {facts['parameters']:,} parameters. {facts['patients']} patients never trained "
        f"on (seed {facts['seed']}), week 96. Over all arms' potential outcomes: {covered:.1f}% of counts inside 90% prediction "
        f"intervals (randomised at their ends), CRPS {facts['CRPS']:.2f}, AUC of activity {facts['AUC of activity']:.2f}; in the "
        f"arm given, PIT p = {facts['PIT p-value']:.2f}. Lesion volumes: Kolmogorov-Smirnov {facts['lesion_volume_ks']:.3f} "
        f"({lesions[0]:,} sampled against {lesions[1]:,} true lesions). One mask: {facts['cpu_seconds_a_draw']:.2f} s of a core."
    )


TABLES: dict[str, Callable[[Path], str]] = {
    "summary": summary,
    "arms": arms,
    "subgroups": subgroups,
    "weeks": weeks,
    "sampled": sampled,
}


def filled(card: str, results: Path) -> str:
    """The card with every table between ``<!-- name -->`` and ``<!-- end -->`` made anew."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(card):
            raise SystemExit(f"no marker <!-- {name} --> in the card; put it and <!-- end --> where the table belongs")
        text = make(results)
        card = pattern.sub(lambda match, text=text: f"{match[1]}{text}\n{match[2]}", card)
    return card


@click.command()
@click.option("--results", default=RESULTS, show_default=True, type=click.Path(path_type=Path))
@click.option("--card", default=CARD, show_default=True, type=click.Path(path_type=Path))
def main(results: Path, card: Path) -> None:
    text = filled(card.read_text(), results)
    with whole_file(card) as beside:
        beside.write_text(text)
    print(f"{card}: {len(TABLES)} tables from {results}")


if __name__ == "__main__":
    main()
