"""From masks to lesions: one counting rule, lesion tables, lesion-wise matching."""

from __future__ import annotations

from causalms.lesions.count import LesionCount, count_lesions
from causalms.lesions.rule import LesionRule

__all__ = ["LesionCount", "LesionRule", "count_lesions"]
