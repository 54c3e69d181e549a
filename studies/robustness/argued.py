"""Acceptances without a word that are right, each with its reason; one without a reason is an open defect."""

from __future__ import annotations

#: (kind, format, damage, verb), "" for any: why the numbers may change without a word.
ARGUED: dict[tuple[str, str, str, str], str] = {}


def why_right(kind: str, form: str, damage: str, verb: str) -> str:
    """The reason why a silent acceptance is right; empty where there is none."""
    return next(
        (why for key, why in ARGUED.items() if all(k in ("", v) for k, v in zip(key, (kind, form, damage, verb), strict=True))),
        "",
    )
