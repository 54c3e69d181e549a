"""Agreement of the simulator with randomised arms, those at hand and those that were published."""

from __future__ import annotations

from causalms.agreement.against_published import agree_published, match_baseline
from causalms.agreement.against_randomised import agree
from causalms.agreement.distributions import compare_arms
from causalms.agreement.exam import ExamVerdict, exam_arms, exam_form, judge_exam
from causalms.agreement.held_out import leave_one_trial_out, predictable_contrasts
from causalms.agreement.published import published_contrasts
from causalms.agreement.result import Agreement, correlate

__all__ = [
    "Agreement",
    "ExamVerdict",
    "agree",
    "agree_published",
    "compare_arms",
    "correlate",
    "exam_arms",
    "exam_form",
    "judge_exam",
    "leave_one_trial_out",
    "match_baseline",
    "predictable_contrasts",
    "published_contrasts",
]
