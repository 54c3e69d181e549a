"""What is asked of every kind of input: the command lines, with the damaged input in the place of ``{}``."""

from __future__ import annotations

from dataclasses import dataclass

_BASIC = ("--outcome", "net2_lesions_week48", "--reference", "placebo")
_COUNTS = ("--model", "counts", "--do", "placebo", "--do", "drug")


@dataclass(frozen=True)
class Question:
    """One command line on one kind of input.

    Attributes
    ----------
    verb : str
    arguments : tuple of str
        ``{}`` stands for the damaged input, other inputs lie in ``bed/``, outputs go to ``out/``.
    judged : str
        Output whose bytes must equal those of the undamaged run where the damage is harmless; empty: the print-out alone.
    """

    verb: str
    arguments: tuple[str, ...]
    judged: str = ""


def _question(text: str, *more: str, judged: str = "") -> Question:
    words = text.split()
    return Question(words[0], (*words[1:], *more), judged)


QUESTIONS: dict[str, tuple[Question, ...]] = {
    "participants": (
        _question("effects {} --exposure exposure_years --out out/effects.csv", *_BASIC, "--adjust", "age + edss"),
        _question("subgroups {} --out out/subgroups.csv", *_BASIC, "--by", "age >= 40", "--exposure", "exposure_years"),
        _question("calibrate bed/draws.csv --observed {} --by arm --repetitions 99 --out out/calibration.csv"),
        _question("agree bed/draws.csv --observed {} --reference placebo --out out/agreement.csv"),
        _question("query {} --draws 4 --out out/draws.csv", *_COUNTS, judged="draws.csv"),
        _question("subgroups {} --benefit out/benefit.csv", *_BASIC, "--adjust", "age + edss"),
        _question("effects {} --out out/effects.csv --missing ipw --missing-given age", *_BASIC),
        _question("borrow {} --out out/borrow.csv --exposure exposure_years --historical bed/participants.csv", *_BASIC),
        _question("external-control {} bed/controls.csv --out out/e.csv --outcome net2_lesions_week48", "--adjust", "age"),
        _question("visits {} --out out/visits.csv --visit exposure_years --estimator andersen-gill", *_BASIC),
        _question("controls {} --out out/controls.csv --model counts --reference placebo --scrambles 4"),
    ),
    "draws": (
        _question("effects {} --reference placebo --out out/effects.csv"),
        _question("calibrate {} --observed bed/participants.csv --repetitions 99 --out out/calibration.csv"),
        _question("subgroups {} --participants bed/participants.csv --reference placebo --out out/s.csv", "--by", "age >= 40"),
        _question("agree {} --observed bed/participants.csv --reference placebo --out out/agreement.csv"),
        _question("subgroups {} --participants bed/participants.csv --reference placebo --benefit out/benefit.csv"),
    ),
    "shard": (_question("merge {} bed/other.csv --out out/draws.csv", judged="draws.csv"),),
    "results": (_question("report out/report.html {}", judged="report.html"),),
    "policy": (_question("query bed/participants.csv --draws 4 --out out/draws.csv --policy {}", *_COUNTS, judged="draws.csv"),),
    "plan": (
        _question("validate --quick --out out/validation.html --plan {}"),
        _question("report out/report.html bed/results.csv --credibility {}", judged="report.html"),
    ),
    "design": (_question("simulate out/trial --patients 2 --seed 1 --design {}"),),
    "mask": (_question("lesions {} --no-regions --out out/lesions.csv", judged="lesions.csv"),),
    "checkpoint": (
        _question("forecast bed/trial --participant sub-0001 --draws 1 --arm placebo --out out/forecast --model {}"),
        _question("query bed/trial --expected --do placebo --out out/draws.csv --model {}", judged="draws.csv"),
    ),
    "shipped": (_question("demo --patients 40 --workers 1 --week 48 --out out/demo --model {}"),),
    "run": (_question("train bed/trial --config tiny --out damaged.safetensors"),),
    "trial": (
        _question("check {}"),
        _question("forecast {} --draws 0 --arm placebo --out out/forecast --model bed/checkpoint.safetensors"),
        _question("query {} --expected --do placebo --out out/draws.csv --model bed/checkpoint.safetensors", judged="draws.csv"),
        _question("train {} --config tiny --out out/model.safetensors"),
        _question("inject {} out/injected", judged="injected/lesions.csv"),
        _question("effects {} --reference placebo --outcome net2_lesions_week48 --out out/effects.csv"),
    ),
}
#: How many of 1,000 inputs are of each kind.
SHARES = {
    "participants": 330,
    "draws": 120,
    "shard": 20,
    "results": 80,
    "policy": 70,
    "plan": 50,
    "design": 60,
    "mask": 70,
    "checkpoint": 85,
    "shipped": 15,
    "run": 20,
    "trial": 80,
}
