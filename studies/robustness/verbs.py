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


def _asked(text: str, *more: str, judged: str = "") -> Question:
    words = text.split()
    return Question(words[0], (*words[1:], *more), judged)


QUESTIONS: dict[str, tuple[Question, ...]] = {
    "participants": (
        _asked("effects {} --exposure exposure_years --out out/effects.csv", *_BASIC, "--adjust", "age + edss"),
        _asked("subgroups {} --out out/subgroups.csv", *_BASIC, "--by", "age >= 40", "--exposure", "exposure_years"),
        _asked("calibrate bed/draws.csv --observed {} --by arm --repetitions 99 --out out/calibration.csv"),
        _asked("agree bed/draws.csv --observed {} --reference placebo --out out/agreement.csv"),
        _asked("query {} --draws 4 --out out/draws.csv", *_COUNTS, judged="draws.csv"),
        _asked("subgroups {} --benefit out/benefit.csv", *_BASIC, "--adjust", "age + edss"),
        _asked("effects {} --out out/effects.csv --missing ipw --missing-given age", *_BASIC),
        _asked("visits {} --out out/visits.csv --visit exposure_years --estimator andersen-gill", *_BASIC),
    ),
    "draws": (
        _asked("effects {} --reference placebo --out out/effects.csv"),
        _asked("calibrate {} --observed bed/participants.csv --repetitions 99 --out out/calibration.csv"),
        _asked("subgroups {} --participants bed/participants.csv --reference placebo --out out/s.csv", "--by", "age >= 40"),
        _asked("agree {} --observed bed/participants.csv --reference placebo --out out/agreement.csv"),
        _asked("subgroups {} --participants bed/participants.csv --reference placebo --benefit out/benefit.csv"),
    ),
    "shard": (_asked("merge {} bed/other.csv --out out/draws.csv", judged="draws.csv"),),
    "results": (_asked("report out/report.html {}", judged="report.html"),),
    "policy": (_asked("query bed/participants.csv --draws 4 --out out/draws.csv --policy {}", *_COUNTS, judged="draws.csv"),),
    "plan": (_asked("report out/report.html bed/results.csv --credibility {}", judged="report.html"),),
    "design": (_asked("simulate out/trial --patients 2 --seed 1 --design {}"),),
    "mask": (_asked("lesions {} --no-regions --out out/lesions.csv", judged="lesions.csv"),),
    "checkpoint": (
        _asked("forecast bed/trial --participant sub-0001 --draws 1 --arm placebo --out out/forecast --model {}"),
        _asked("query bed/trial --expected --do placebo --out out/draws.csv --model {}", judged="draws.csv"),
    ),
    "shipped": (_asked("demo --patients 40 --workers 1 --week 48 --out out/demo --model {}"),),
    "run": (_asked("train bed/trial --config tiny --out damaged.safetensors"),),
    "trial": (
        _asked("check {}"),
        _asked("forecast {} --draws 0 --arm placebo --out out/forecast --model bed/checkpoint.safetensors"),
        _asked("query {} --expected --do placebo --out out/draws.csv --model bed/checkpoint.safetensors", judged="draws.csv"),
        _asked("train {} --config tiny --out out/model.safetensors"),
        _asked("effects {} --reference placebo --outcome net2_lesions_week48 --out out/effects.csv"),
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
