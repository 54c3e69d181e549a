"""A report opens offline, says where every number comes from, and is judged by the plan written before it."""

from __future__ import annotations

import base64
import datetime
import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from causalms.errors import InputError, UsageError
from causalms.report import Report, figures, read_credibility
from causalms.report.credibility import judge
from causalms.report.methods import assumptions, methods_paragraphs
from causalms.report.rows import result_rows
from causalms.tables import results_table, write_table
from tests.conftest import Run

ROW = {
    "analysis": "primary",
    "population": "all randomised",
    "arm": "ocrelizumab",
    "reference": "placebo",
    "measure": "rate ratio",
    "estimand": "Ratio of the rates of new lesions over 48 weeks.",
    "estimator": "standardised Poisson model",
    "variance": "influence function",
    "estimate": 0.5,
    "se": 0.1,
    "lower": 0.41,
    "upper": 0.61,
    "level": 0.95,
    "p_value": 0.0001,
    "n": 100,
    "n_reference": 90,
    "se_patient": 0.083,
    "se_generator": 0.047,
    "se_monte_carlo": 0.029,
    "randomised": True,
    "rung": 2,
}
TRANSPORTED = {**ROW, "reference": "interferon-beta-1a-sc", "estimate": 0.72, "lower": 0.5, "upper": 1.04, "randomised": False}
COUNTERFACTUAL = {**TRANSPORTED, "measure": "probability of benefit", "rung": 3}
GRADE = {"grade": "low", "why": "research only"}
PLAN: dict[str, Any] = {
    "question_of_interest": "Does the simulated effect agree with the trial?",
    "context_of_use": "Planning of a trial.",
    "model_influence": GRADE,
    "decision_consequence": GRADE,
    "written": datetime.date(2026, 1, 31),
    "acceptance_criteria": [
        {"name": "agrees", "measure": "rate ratio", "randomised": True, "at_least": 0.4, "at_most": 0.6},
        {"name": "not null", "measure": "rate ratio", "statistic": "upper", "at_most": 1},
        {"name": "covers", "measure": "coverage", "at_least": 0.9},
    ],
}


class _Page(HTMLParser):
    """What a browser would fetch, and the alternative texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.alternatives: list[str | None] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "img":
            self.alternatives.append(given.get("alt"))
        self.fetched += [given.get(name) or "" for name in ("src", "srcset", "data", "poster", "action") if name in given]
        if tag == "link":
            self.fetched.append(given.get("href") or "")


def _plan_file(folder: Path, **changes: Any) -> Path:
    file = folder / "plan.yaml"
    file.write_text(yaml.safe_dump({**PLAN, **changes}))
    return file


def _written(folder: Path, report: Report) -> str:
    return report.write(folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    report = Report("Effects", commands=["causalms effects trial.csv"], credibility=read_credibility(_plan_file(folder)))
    table = results_table([ROW, TRANSPORTED, COUNTERFACTUAL])
    report.add_section("Effects", "All patients.")
    report.add_figure(figures.effect_forest(table[:2]), "Rate ratios")
    report.add_results(table, "Results")
    return _written(folder, report)


def test_page_fetches_nothing(page: str) -> None:
    parsed = _Page(page)
    assert "http://" not in page
    assert "https://" not in page
    assert parsed.fetched
    assert all(address.startswith("data:") for address in parsed.fetched)
    assert not re.search(r"@import|url\((?!['\"]?data:)|\bfetch\(|XMLHttpRequest", page)


def test_vector_figure_points_only_into_itself(page: str) -> None:
    kind, data = _Page(page).fetched[0].split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    addresses = re.findall(r'href="([^"]*)"', base64.b64decode(data).decode())
    assert addresses
    assert all(address.startswith("#") for address in addresses)


def test_every_figure_has_its_alternative_text(page: str) -> None:
    alternatives = _Page(page).alternatives
    assert len(alternatives) == 1
    assert alternatives[0] is not None
    assert "ocrelizumab against placebo 0.500 (0.410 to 0.610, randomised)" in alternatives[0]


def test_figure_without_alternative_text_is_refused() -> None:
    from causalms.report.style import new_figure

    report = Report("Effects")
    report.add_section("Effects")
    with pytest.raises(UsageError, match="'Bare': no alternative text; say in alt="):
        report.add_figure(new_figure(2), "Bare")


@pytest.mark.parametrize(
    "words",
    [
        "ocrelizumab against placebo",
        "0.410 to 0.610",
        "Ratio of the rates of new lesions over 48 weeks.",
        "standardised Poisson model",
        "influence function",
        "standard error 0.083",
        "standard error 0.047",
        "standard error 0.029",
        "100 in ocrelizumab, 90 in placebo",
        "all randomised",
        "causalms effects trial.csv",
    ],
)
def test_every_number_says_where_it_comes_from(page: str, words: str) -> None:
    assert words in html.unescape(page)


def test_badges_tell_randomised_transported_and_rung_three(page: str) -> None:
    badges = re.findall(r"<span class=\"badge[^>]*>\s*([^<]+?)\s*</span>", page)
    assert {"randomised", "transported", "rung 2", "rung 3"} <= set(badges)
    # one randomised and two transported contrasts, one of them on rung 3
    assert (badges.count("randomised"), badges.count("transported"), badges.count("rung 3")) == (1, 2, 1)


SIMULATED_TOGETHER = {
    **ROW,
    "analysis": "simulated net2_lesions, week 96",
    "estimator": "g-computation over patients; randomised together in A",
    "randomised": False,
}
CARRIED = "g-computation over patients; randomised together in no trial: transported"
SIMULATED_CARRIED = {**SIMULATED_TOGETHER, "estimator": CARRIED}


@pytest.mark.parametrize(
    ("row", "origin"),
    [
        (ROW, "randomised"),
        (TRANSPORTED, "transported"),
        (SIMULATED_TOGETHER, "simulated"),
        (SIMULATED_CARRIED, "simulated across trials"),
        ({**SIMULATED_TOGETHER, "analysis": "shipped model"}, "simulated"),
    ],
)
def test_origin_of_a_contrast_is_the_first_badge_and_stands_in_the_alternative_text(row: dict[str, Any], origin: str) -> None:
    table = results_table([row])
    assert result_rows(table)[0].badges[0].label == origin
    assert f", {origin}" in figures.effect_forest(table).get_label()


def test_methods_count_randomised_transported_and_simulated_contrasts() -> None:
    words = " ".join(methods_paragraphs(results_table([ROW, TRANSPORTED, SIMULATED_TOGETHER, SIMULATED_CARRIED])))
    assert "Contrasts of arms: 1 of arms that were randomised against each other" in words
    assert "1 transported across trials, 2 of outcomes simulated for the same patients" in words


@pytest.mark.parametrize(("row", "needed"), [(SIMULATED_TOGETHER, False), (SIMULATED_CARRIED, True), (ROW, False)])
def test_transport_is_assumed_only_where_no_trial_randomised_both_arms(row: dict[str, Any], needed: bool) -> None:
    assert any(sentence.startswith("Transport:") for sentence in assumptions(results_table([row]))) == needed


def test_text_from_tables_is_escaped(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    report = Report(attack, attack)
    report.add_section(attack, attack)
    report.add_results(results_table([{**ROW, "subgroup": attack, "estimand": attack}]), attack)
    report.add_table(pd.DataFrame({attack: [attack]}), attack)
    report.add_figure(figures.effect_forest(results_table([ROW])), attack, alt=f'"{attack}')
    written = _written(tmp_path, report)
    assert "<script>alert" not in written
    assert "&lt;script&gt;alert(1)" in written
    assert f'"{attack}' in _Page(written).alternatives


def test_plan_is_judged_line_by_line() -> None:
    from causalms.report.credibility import Plan

    plan = Plan.model_validate(PLAN)
    verdicts = judge(plan, results_table([ROW, TRANSPORTED]))
    assert [(verdict.criterion, verdict.found, verdict.verdict) for verdict in verdicts] == [
        ("agrees", "0.500", "met"),
        ("not null", "0.610", "met"),
        ("not null", "1.04", "not met"),
        ("covers", "no such row in the results", "not judged"),
    ]


def test_bound_itself_is_met_and_missing_number_is_not_judged() -> None:
    from causalms.report.credibility import Plan

    plan = Plan.model_validate(PLAN)
    at_bound, missing = ({**ROW, "estimate": value} for value in (0.6, None))
    assert judge(plan, results_table([at_bound]))[0].verdict == "met"
    assert judge(plan, results_table([missing]))[0].verdict == "not judged"


def test_page_shows_the_verdicts_and_the_checksum_of_the_plan(page: str, tmp_path: Path) -> None:
    shown = html.unescape(page)
    assert read_credibility(_plan_file(tmp_path)).sha256 in shown
    for words in ("not met", "not judged", "no such row in the results", "Planning of a trial."):
        assert words in shown


def test_the_demonstrations_plan_names_measures_that_the_judging_rooms_write() -> None:
    from causalms.report import DEMONSTRATION

    rows = [
        {"analysis": "agreement", "measure": "ratio of rate ratios", "estimate": 1.1},
        {"analysis": "subgroups", "measure": "ratio of rate ratios", "estimate": 3.4},
        {"analysis": "agreement", "measure": "equivalence of rate ratios within 1.25", "p_value": 0.4},
        {"analysis": "calibration", "measure": "observed / predicted mean count", "estimate": 0.9},
        {
            "analysis": "calibration",
            "measure": "largest deviation of the PIT histogram from 1",
            "subgroup": "all",
            "p_value": 0.3,
        },
    ]
    verdicts = judge(read_credibility(DEMONSTRATION).plan, results_table([{**row, "randomised": False} for row in rows]))
    # The last line's measure is not among the results, and is said to be missing rather than met.
    assert [verdict.verdict for verdict in verdicts] == ["met", "not met", "met", "met", "not judged"]
    assert verdicts[-1].found == "no such row in the results"


def test_off_screen_figures_wait_and_paper_shows_them_all(page: str) -> None:
    assert re.search(r"<img[^>]* loading=\"lazy\"", page)
    assert re.search(r"\.tablebox \{[^}]*content-visibility: auto", page)
    printed = page[page.index("@media print") :]
    assert "figure, .tablebox { content-visibility: visible; }" in printed


def _criterion(**changes: Any) -> dict[str, Any]:
    return {"acceptance_criteria": [{**PLAN["acceptance_criteria"][0], **changes}]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"context_of_use": ""}, "context_of_use: found ''"),
        ({"contxt": "x"}, "contxt: not an entry of this file"),
        ({"model_influence": {"grade": "huge", "why": "x"}}, "model_influence.grade: found 'huge'"),
        ({"decision_consequence": {"grade": "low"}}, "decision_consequence.why: missing; add it"),
        ({"written": "before"}, "written: found 'before'"),
        ({"written": datetime.date(2999, 1, 1)}, "written is 2999-01-01, a day to come"),
        ({"acceptance_criteria": []}, "acceptance_criteria: found"),
        (_criterion(at_least=None, at_most=None), "acceptance_criteria.1: needs at_least or at_most"),
        (_criterion(at_least=2), "at_least (2) lies above at_most (0.6)"),
        (_criterion(at_mots=2), "acceptance_criteria.1.at_mots: not an entry"),
        (_criterion(statistic="median"), "acceptance_criteria.1.statistic: found 'median'"),
        ({"acceptance_criteria": PLAN["acceptance_criteria"][:1] * 2}, "two acceptance criteria are called 'agrees'"),
    ],
)
def test_bad_plan_is_refused_in_one_line_naming_the_entry(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    file = _plan_file(tmp_path, **changes)
    with pytest.raises(InputError) as refused:
        read_credibility(file)
    message = str(refused.value)
    assert message.startswith(str(file))
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(("content", "words"), [("a: [1", "line "), ("- just a list", "found list"), ("", "found NoneType")])
def test_plan_that_is_no_plan_is_refused(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=words):
        read_credibility(file)


def test_report_command_writes_the_page(tmp_path: Path, run: Run) -> None:
    table, out = write_table(results_table([ROW, TRANSPORTED]), tmp_path / "effects.csv"), tmp_path / "report.html"
    plan = _plan_file(tmp_path)
    code, printed, errors = run("report", str(out), str(table), "--title", "A & B", "--credibility", str(plan))
    assert (code, errors) == (0, "")
    assert "2 results of 1 tables" in printed
    written = out.read_text(encoding="utf-8")
    assert "A &amp; B" in written
    assert "Not for clinical use." in written
    assert "http" not in "".join(_Page(written).fetched)
    assert all(_Page(written).alternatives)


@pytest.mark.parametrize(
    ("out", "content", "code", "words"),
    [
        ("report.html", "arm,estimate\nplacebo,1\n", 1, "no columns 'analysis', 'population', 'subgroup'"),
        ("report.html", "", 1, "the file is empty"),
        ("report.pdf", "arm,estimate\nplacebo,1\n", 2, "a report is written as .html"),
    ],
)
def test_report_command_refuses_what_is_not_a_results_table(
    tmp_path: Path, run: Run, out: str, content: str, code: int, words: str
) -> None:
    table = tmp_path / "participants.csv"
    table.write_text(content)
    ended, printed, errors = run("report", str(tmp_path / out), str(table))
    assert ended == code
    assert printed == ""
    assert words in errors
    assert errors.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["participants.csv"]


def test_pictures_and_other_tables_of_an_analysis_stand_in_the_page(tmp_path: Path, run: Run) -> None:
    results = write_table(results_table([ROW]), tmp_path / "effects.csv")
    places = write_table(pd.DataFrame({"measure": ["gain over uniform"], "estimate": [1.1]}), tmp_path / "places.csv")
    drawn = tmp_path / "map.png"
    figures.effect_forest(results_table([ROW])).savefig(drawn)
    out = tmp_path / "report.html"
    code, _, errors = run("report", str(out), str(results), "--table", str(places), "--picture", f"{drawn}=Expected & observed")
    assert (code, errors) == (0, "")
    written = out.read_text(encoding="utf-8")
    assert "gain over uniform" in written
    assert "Expected & observed" in _Page(written).alternatives
    assert base64.b64encode(drawn.read_bytes()).decode() in written
    assert {"effects.csv", "places.csv", "map.png"} <= set(re.findall(r"<td>([^<]+)</td>", written))


@pytest.mark.parametrize(
    ("picture", "code", "words"),
    [
        ("map.png", 2, "--picture map.png: say what it shows"),
        ("map.png=A map", 1, "map.png: no such file"),
        ("plan.yaml=A plan", 1, "plan.yaml: not a .png or .svg picture"),
    ],
)
def test_a_picture_that_is_none_is_refused(
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    picture: str,
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    results = write_table(results_table([ROW]), tmp_path / "effects.csv")
    _plan_file(tmp_path)
    ended, _, errors = run("report", "report.html", str(results), "--picture", picture)
    assert ended == code
    assert words in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "report.html").exists()
