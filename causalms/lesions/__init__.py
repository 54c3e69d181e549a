"""From masks to lesions: one counting rule, lesion tables, lesion-wise matching."""

from __future__ import annotations

from causalms.lesions.count import LesionCount, count_lesions
from causalms.lesions.matching import MatchRule, match_lesions
from causalms.lesions.planting import fates, injection_table, lesion_volumes, plant_lesions, size_class
from causalms.lesions.rule import LesionRule
from causalms.lesions.table import lesion_table, mask_summary

__all__ = [
    "LesionCount",
    "LesionRule",
    "MatchRule",
    "count_lesions",
    "fates",
    "injection_table",
    "lesion_table",
    "lesion_volumes",
    "mask_summary",
    "match_lesions",
    "plant_lesions",
    "size_class",
]
