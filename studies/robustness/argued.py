"""Acceptances without a word that are right, each with its reason; one without a reason is an open defect."""

from __future__ import annotations

#: (kind, format, damage, verb), "" for any: why the numbers may change without a word.
ARGUED: dict[tuple[str, str, str, str], str] = {
    (
        "shard",
        "",
        "rows shuffled",
        "merge",
    ): "the rows stand in the order of the parts; the numbers of every patient are the same",
    ("shard", "", "columns reordered", "merge"): "the columns stand in the order of the first part; the numbers are the same",
    (
        "participants",
        "",
        "rows shuffled",
        "query",
    ): "the draws stand in the order of the table; the numbers of every patient are the same",
    ("participants", "", "arm unknown", "query"): "legal: the patient is one of a third arm, fitted as such and known to --do",
    ("participants", "dta", "bits flipped", ""): "the format has no checksum: the flipped bit is another legal value",
    ("participants", "sav", "bits flipped", ""): "the format has no checksum: the flipped bit is another legal value",
    ("participants", "xpt", "bits flipped", ""): "the format has no checksum: the flipped bit is another legal value",
    (
        "results",
        "parquet",
        "zeros inside",
        "",
    ): "pages have no checksum as pandas writes them: the zeros are other legal values or unused bytes",
    (
        "results",
        "parquet",
        "bits flipped",
        "",
    ): "pages have no checksum as pandas writes them: the flipped bit is another legal value",
    (
        "draws",
        "parquet",
        "bits flipped",
        "",
    ): "pages have no checksum as pandas writes them: the flipped bit is another legal value",
    (
        "draws",
        "parquet",
        "zeros inside",
        "",
    ): "pages have no checksum as pandas writes them: the zeros are other legal values or unused bytes",
    ("", "csv", "bits flipped", ""): "text has no checksum: the flipped bit is another legal character",
    ("", "tsv", "bits flipped", ""): "text has no checksum: the flipped bit is another legal character",
    ("", "csv", "cut", ""): "text cut at the end of a line is a shorter table, whose number of patients is printed",
    ("", "yaml", "bits flipped", ""): "text has no checksum: the flipped bit is another legal character",
    ("", "csv", "utf16", ""): "its mark names the encoding, so that the numbers are read right",
    ("", "yaml", "utf16", ""): "its mark names the encoding, so that the text is read right",
    (
        "participants",
        "",
        "outcome constant",
        "calibrate",
    ): "what calibrate judges: forecasts against counts that are all zero, found not to fit",
    (
        "draws",
        "",
        "one arm",
        "calibrate",
    ): "legal: forecasts of one arm are judged on the patients of that arm, whose number is printed",
    (
        "trial",
        "",
        "baseline images missing",
        "",
    ): "legal: not every scan is taken; the model is trained with missing ones, and check names the patient",
    (
        "trial",
        "",
        "description broken",
        "",
    ): "only the name of the trial is read there; the name of the folder stands in, and check names the fault",
    (
        "trial",
        "",
        "participant without images",
        "effects",
    ): "effects reads the table alone, in which the patient is complete; check names the images",
}


def why_right(kind: str, form: str, damage: str, verb: str) -> str:
    """The reason why a silent acceptance is right; empty where there is none."""
    return next(
        (why for key, why in ARGUED.items() if all(k in ("", v) for k, v in zip(key, (kind, form, damage, verb), strict=True))),
        "",
    )
