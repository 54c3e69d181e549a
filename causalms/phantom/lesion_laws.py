"""The part of a design that says how many lesions there are, how large, and where: at baseline, and new or enlarging."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from causalms.phantom.parts import BelowOne, LogSpread, Number, Part, Volume, Weight, only

#: Smooth coordinates of a place in the brain (:func:`causalms.phantom.place_law.coordinates`).
COORDINATES = ("at_ventricle", "near_ventricle", "at_cortex", "near_cortex", "side", "front", "up")


def _known_terms(law: dict[str, float]) -> dict[str, float]:
    for term in law:
        only(term.split("*"), COORDINATES, f"term {term!r}")
    return law


#: A log-linear law: coefficients of products of coordinates, such as ``near_ventricle*front*front``.
PlaceLaw = Annotated[
    dict[str, Annotated[float, Field(ge=-100, le=100), Number]],
    Field(max_length=200),
    AfterValidator(_known_terms),
]


class Placement(Part):
    """Shares of the location law: each a density over voxels that sums to 1; shares are divided by their sum."""

    periventricular: Weight = 0.20
    juxtacortical: Weight = 0.14
    white_matter: Weight = 0.10
    near_t2_lesions: Weight = 0.26
    near_gd_lesions: Weight = 0.10
    enlarging: Weight = 0.20
    anatomical: Weight = 0.0

    @model_validator(mode="after")
    def _somewhere(self) -> Placement:
        if self.periventricular + self.juxtacortical + self.white_matter + self.anatomical <= 0:
            raise ValueError(
                "lesions must have somewhere to go: make periventricular, juxtacortical, white_matter or anatomical positive"
            )
        return self


class SizeLaw(Part):
    """Log-normal volumes of lesions; median and spread may depend on the place of the first voxel."""

    median_volume_mm3: Volume
    log_sd: LogSpread
    largest_volume_mm3: Volume
    log_median_by_place: PlaceLaw = Field(default={})
    log_sd_by_place: PlaceLaw = Field(default={})


class Lesions(SizeLaw):
    """Size and place of a new or enlarging lesion."""

    median_volume_mm3: Volume = 48.0
    log_sd: LogSpread = 1.2
    largest_volume_mm3: Volume = 4000.0
    placement: Placement = Placement()
    place: PlaceLaw = Field(default={})
    rim_growth: BelowOne = 0.0

    @model_validator(mode="after")
    def _placed(self) -> Lesions:
        if self.place and not self.placement.anatomical:
            raise ValueError("lesions.place is the law of the share placement.anatomical, which is 0; make it positive")
        return self


class BaselineLesions(SizeLaw):
    """Size and place of the T2 lesions that are there before the trial; an empty ``place`` is the law of three exponentials."""

    median_volume_mm3: Volume = 45.0
    log_sd: LogSpread = 1.3
    largest_volume_mm3: Volume = 20_000.0
    patient_log_sd: LogSpread = 0.35
    log_volume_per_load: LogSpread = 0.2
    place: PlaceLaw = Field(default={})
    growth_along: PlaceLaw = Field(default={})
