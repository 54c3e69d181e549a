"""What a phantom trial is made of: a design, read from YAML and checked key by key."""

from __future__ import annotations

import os
from importlib import resources
from math import log
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from causalms.errors import InputError, UsageError, near_name
from causalms.phantom.acquisition import Annotation, Scanner
from causalms.phantom.lesion_laws import BaselineLesions, Lesions
from causalms.phantom.parts import (
    BelowOne,
    Hazard,
    LogRate,
    Number,
    Part,
    Patients,
    RateRatio,
    Shape,
    Share,
    Slope,
    Week,
    Years,
    known_keys,
    only,
)
from causalms.tables import name_of
from causalms.yaml_files import parse_yaml, read_yaml

#: What a rate, an effect or an assignment may depend on, each centred so that 0 is a typical trial patient.
COLUMN_TERMS = (
    "log_gd",
    "gd_positive",
    "age",
    "log_t2",
    "log_t2_volume",
    "relapses",
    "edss",
    "disease_duration",
    "female",
)
#: What only the images show: standard normal in every trial, independent of every column.
IMAGE_MARKERS = ("dirty_white_matter", "black_holes")


class CovariateLaws(Part):
    """Baseline of a trial's population."""

    age_mean_years: Years = 37.0
    age_sd_years: Years = 9.2
    female_share: Share = 0.66
    edss_mean: Annotated[float, Field(ge=0, le=6), Number] = 2.7
    disease_duration_median_years: Years = 5.0
    relapses_prior_year_mean: Annotated[float, Field(ge=1, le=50), Number] = 1.35
    gd_positive_share: BelowOne = 0.40
    gd_lesions_mean_if_positive: Annotated[float, Field(ge=1, le=200), Number] = 3.2
    t2_lesions_median: Annotated[float, Field(gt=0, le=1000), Number] = 42.0
    t2_lesions_log_sd: Annotated[float, Field(gt=0, le=3), Number] = 0.9


class TrialDesign(Part):
    """One trial: who was enrolled, into which arms, and how active they are on the reference arm."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    arms: Annotated[dict[str, Patients], Field(min_length=1)]
    log_rate_week96: LogRate
    sites: Annotated[int, Field(ge=1, le=100_000), Number] = 20
    baseline: CovariateLaws = CovariateLaws()
    rate_ratio: dict[str, RateRatio] = Field(default={})

    @property
    def size(self) -> float:
        """Weight of the trial among all: the sum of its arms."""
        return sum(self.arms.values())


class Rate(Part):
    """How the expected count of new or enlarging lesions depends on the patient."""

    columns: dict[str, Slope] = Field(default={"log_gd": 0.45, "age": -0.35, "log_t2": 0.28, "relapses": 0.15})
    image_markers: dict[str, Slope] = Field(default={"dirty_white_matter": 0.34, "black_holes": 0.34})
    site_log_sd: Annotated[float, Field(ge=0, le=2), Number] = 0.0

    @model_validator(mode="after")
    def _known(self) -> Rate:
        only(self.columns, COLUMN_TERMS, "rate.columns")
        only(self.image_markers, IMAGE_MARKERS, "rate.image_markers")
        return self


class Modification(Part):
    """An arm's log rate ratio changes by ``log_rate_ratio`` per unit of a centred term."""

    arm: str
    term: str
    log_rate_ratio: Slope

    @model_validator(mode="after")
    def _known(self) -> Modification:
        only([self.term], (*COLUMN_TERMS, *IMAGE_MARKERS), "modification.term")
        return self


class Counts(Part):
    """Over-dispersion given everything that can be observed: gamma frailty of mean 1 and shape ``size``."""

    size: Shape = 0.5
    size_by_arm: dict[str, Shape] = Field(default={})
    zero_inflation: BelowOne = 0.0


class FollowUp(Part):
    """Dropout after the first follow-up scan: exponential, per year, with arm-specific rates where given.

    With ``shortest_planned_weeks`` planned times are unequal (one closing date for all, enrolment over time): half of the
    patients are planned to the last week, the others uniformly between ``shortest_planned_weeks`` and it.
    """

    dropout_per_year: Hazard = 0.08
    dropout_per_year_by_arm: dict[str, Hazard] = Field(default={})
    shortest_planned_weeks: Annotated[float, Field(gt=0, le=2080), Number] | None = None


class Missing(Part):
    """Probability that a baseline image was not acquired."""

    T1w: BelowOne = 0.0
    T2w: BelowOne = 0.0
    FLAIR: BelowOne = 0.0
    ceT1w: BelowOne = 0.0  # noqa: N815 (the BIDS name of the modality)


class Assignment(Part):
    """How patients come to their arms: by lot, or (registry) by a multinomial logit on measured columns."""

    kind: Literal["randomised", "registry"] = "randomised"
    logits: dict[str, dict[str, Slope]] = Field(default={})

    @model_validator(mode="after")
    def _consistent(self) -> Assignment:
        if self.kind == "randomised" and self.logits:
            raise ValueError("logits are for kind: registry; remove them or change the kind")
        if self.kind == "registry" and not self.logits:
            raise ValueError("kind: registry needs logits, a mapping arm -> {term: log odds}")
        for terms in self.logits.values():
            only(terms, COLUMN_TERMS, "assignment.logits")
        return self


class Design(Part):
    """A phantom trial, or several pooled.

    The expected cumulative count of new or enlarging lesions of patient i under arm a at week w is

    lambda_i(a, w) = (w / 96) exp(b_trial + x_i'beta + m_i'gamma + s_site + log RR_a + modification_ia)

    with x the centred columns (``COLUMN_TERMS``), m the image markers (``IMAGE_MARKERS``) and RR_a the rate ratio of
    the arm against the reference arm, which is the one whose ratio is 1.

    Examples
    --------
    >>> design = load_design("pooled")
    >>> [trial.name for trial in design.trials]
    ['BRAVO', 'DEFINE', 'OPERA-I', 'OPERA-II']
    >>> design.arms
    ('placebo', 'laquinimod', 'interferon-beta-1a-im', 'interferon-beta-1a-sc', 'dimethyl-fumarate', 'ocrelizumab')
    """

    name: str
    weeks: Annotated[tuple[Week, ...], Field(min_length=1, max_length=100)] = (24, 48, 96)
    trials: Annotated[tuple[TrialDesign, ...], Field(min_length=1, max_length=1000)]
    rate_ratio: Annotated[dict[str, RateRatio], Field(min_length=1)]
    modification: tuple[Modification, ...] = ()
    rate: Rate = Rate()
    counts: Counts = Counts()
    baseline_lesions: BaselineLesions = BaselineLesions()
    lesions: Lesions = Lesions()
    follow_up: FollowUp = FollowUp()
    missing_modality: Missing = Missing()
    assignment: Assignment = Assignment()
    scanners: Annotated[tuple[Scanner, ...], Field(max_length=1000)] = ()
    held_out_scanner: str | None = None
    annotation: Annotation = Annotation()

    @model_validator(mode="after")
    def _arms_agree(self) -> Design:
        known = tuple(self.rate_ratio)
        for trial in self.trials:
            only(trial.arms, known, f"trials.{trial.name}.arms")
            only(trial.rate_ratio, known, f"trials.{trial.name}.rate_ratio")
        only([entry.arm for entry in self.modification], known, "modification.arm")
        only(self.counts.size_by_arm, known, "counts.size_by_arm")
        only(self.follow_up.dropout_per_year_by_arm, known, "follow_up.dropout_per_year_by_arm")
        only(self.assignment.logits, known, "assignment.logits")
        if 1.0 not in self.rate_ratio.values():
            raise ValueError("rate_ratio must hold a reference arm with ratio 1; set the arm of comparison to 1.0")
        if len({trial.name for trial in self.trials}) < len(self.trials):
            raise ValueError("two trials share a name; give each its own")
        if list(self.weeks) != sorted(set(self.weeks)):
            raise ValueError("weeks must rise and not repeat; sort them")
        self._scanners_agree()
        shortest = self.follow_up.shortest_planned_weeks
        if shortest is not None and not self.weeks[0] <= shortest <= self.weeks[-1]:
            raise ValueError(
                f"follow_up.shortest_planned_weeks is {name_of(shortest)}; "
                f"choose from {self.weeks[0]} to {self.weeks[-1]}, the visits"
            )
        return self

    def _scanners_agree(self) -> None:
        names = tuple(scanner.name for scanner in self.scanners)
        if len(set(names)) < len(names):
            raise ValueError("two scanners share a name; give each its own")
        if self.held_out_scanner is not None:
            only([self.held_out_scanner], names, "held_out_scanner")
            if len(names) < 2:
                raise ValueError("held_out_scanner leaves no scanner to the sites; add another")

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm a patient has a potential outcome under."""
        return tuple(self.rate_ratio)

    @property
    def size(self) -> int:
        """Number of patients with the arms at their full sizes."""
        return round(sum(trial.size for trial in self.trials))

    def log_rate_ratio(self, arm: str, trial: TrialDesign) -> float:
        """Log rate ratio of an arm against the reference, a trial's own deviation included."""
        return log(trial.rate_ratio.get(arm, self.rate_ratio[arm]))


def load_design(design: str | os.PathLike[str] | Design) -> Design:
    """Read a design that ships with the package by its name, or one of your own from a YAML file.

    Parameters
    ----------
    design : str or path-like or Design
        ``"pooled"``, ``"lifelike"``, ``"pooled-2131"``, ``"pooled-trial-effect"``, ``"harmful"``, ``"registry"``, ``"scanners"``,
        or the path of a ``.yaml`` file.

    Raises
    ------
    InputError
        If the file cannot be read or a key is wrong: one line that names the key, what was found and the mend.
    UsageError
        If no design has that name.

    Examples
    --------
    >>> load_design("pooled-2131").size
    2131
    """
    if isinstance(design, Design):
        return design
    path = Path(design)
    if path.suffix in (".yaml", ".yml"):
        return parse_design(read_yaml(path, f"give a YAML design or one of {', '.join(_shipped())}"), str(path))
    if str(design) in _shipped():
        text = (resources.files("causalms.phantom") / "designs" / f"{design}.yaml").read_text(encoding="utf-8")
    else:
        raise UsageError(f"no design is called {str(design)!r}; choose one of {', '.join(_shipped())} or give a .yaml file")
    return parse_design(parse_yaml(text, str(design), "correct that line"), str(design))


def parse_design(content: Any, source: str = "design") -> Design:
    """Check the content of a design file; ``source`` names it in messages."""
    if not isinstance(content, dict):
        raise InputError(f"{source}: a design is a mapping of keys to values; start with name:, trials: and rate_ratio:")
    try:
        return Design.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        given = first["input"] if first["type"] not in ("missing", "value_error") else None
        raise InputError(f"{source}: {_sentence(key, first['type'], first['msg'], given)}") from None


def _sentence(key: str, kind: str, message: str, value: Any) -> str:
    place = f"key {key!r}: " if key else ""
    if kind == "missing":
        return f"{place}is missing; add it"
    if kind == "extra_forbidden":
        near = near_name(key.rpartition(".")[2], known_keys())
        return f"{place}is not known here; {near or 'remove it or correct its name (docs/phantom.md lists the keys)'}"
    reason = message.removeprefix("Value error, ")
    if value is None:
        return f"{place}{reason}"
    return f"{place}found {value!r}, {reason[0].lower()}{reason[1:]}; correct the value"


def _shipped() -> list[str]:
    folder = resources.files("causalms.phantom") / "designs"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))
