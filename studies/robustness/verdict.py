"""What a run on a damaged input was: refused, said, unchanged, silent, or one of the ends that must never come."""

from __future__ import annotations

import re

from studies.robustness.command import DIGEST, MEMORY_BYTES, Ended
from studies.robustness.damage import Damage
from studies.robustness.verbs import Question

#: Ends of a run; the last four must never come.
ENDS = ("refused", "said", "unchanged", "silent", "unexpected", "hang", "memory", "partial")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")
_A_WORD_ABOUT_IT = re.compile(r"note|left out|missing|warning|\bnot?\b|instead|ignored|read as|without|none", re.IGNORECASE)


def _lines(ended: Ended) -> set[str]:
    text = re.sub(r"\S*damaged\S*", "INPUT", ended.printed + ended.error)
    return {" ".join(_NUMBER.sub("#", line).split()) for line in text.splitlines()}


def _printed(ended: Ended) -> str:
    return " ".join(DIGEST.sub(b"", ended.printed.encode()).decode().split())


def _reported(ended: Ended, undamaged: Ended) -> bool:
    return any(_A_WORD_ABOUT_IT.search(line) for line in _lines(ended) - _lines(undamaged))


def _unexpected(ended: Ended) -> bool:
    if ended.code not in (0, 1, 2) or "Traceback" in ended.error or "error: unexpected" in ended.error:
        return True
    if re.search(r"\.py:\d+: \w*Warning", ended.error) or "free some room or memory" in ended.error:
        return True
    return ended.code > 0 and len(re.findall(r"^error: ", ended.error, re.MULTILINE)) != 1


def _partial(ended: Ended) -> bool:
    if any(part.startswith(".writing-") for path in ended.outputs for part in path.split("/")):
        return True
    kept = ".parts, where the same command goes on" in ended.error  # finished patients, kept for the next run and said
    return ended.code != 0 and any(not (kept and ".parts/" in path) for path in ended.outputs)


def verdict(ended: Ended, undamaged: Ended, damage: Damage, question: Question) -> str:
    """One of :data:`ENDS`."""
    if ended.hung:
        return "hang"
    if ended.peak_bytes > MEMORY_BYTES or "MemoryError" in ended.error or "allocate memory" in ended.error:
        return "memory"
    if _unexpected(ended):
        return "unexpected"
    if _partial(ended):
        return "partial"
    if ended.code:
        return "refused"
    same = _printed(ended) == _printed(undamaged) and (
        not question.judged or ended.outputs.get(question.judged) == undamaged.outputs.get(question.judged)
    )
    if not same and _reported(ended, undamaged):
        return "said"
    return "unchanged" if same else "silent"
