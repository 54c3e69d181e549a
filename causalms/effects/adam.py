"""CDISC ADaM in and out: ADSL and a BDS dataset to one row a patient, and the analysis records back as BDS."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from causalms.errors import DataNote, InputError, UsageError
from causalms.files import whole_file
from causalms.tables import names_of, read_table

#: ADSL variable -> column of the analysis table.
ADSL_COLUMNS = {
    "USUBJID": "participant_id",
    "STUDYID": "trial",
    "SITEID": "site",
    "TRT01P": "arm",
    "AGE": "age",
    "SEX": "sex",
    "EDSSBL": "edss",
    "DISDUR": "disease_duration",
    "RELAPSPY": "relapses_prior_year",
    "GDLESBL": "gd_lesions",
    "T2LESBL": "t2_lesions",
    "T2VOLBL": "t2_volume_ml",
    "EXPYRS": "exposure_years",
}
#: Variable of a BDS dataset -> its label, which Dataset-JSON keeps.
BDS_LABELS = {
    "STUDYID": "Study Identifier",
    "USUBJID": "Unique Subject Identifier",
    "TRTP": "Planned Treatment",
    "PARAMCD": "Parameter Code",
    "PARAM": "Parameter",
    "AVISIT": "Analysis Visit",
    "AVISITN": "Analysis Visit (N)",
    "AVAL": "Analysis Value",
    "ANL01FL": "Analysis Flag 01",
}


def read_adam(
    adsl: str | os.PathLike[str],
    bds: str | os.PathLike[str],
    *,
    parameters: Mapping[str, str],
    visit: str | float | None = None,
    columns: Mapping[str, str] | None = None,
    population: str | None = None,
) -> pd.DataFrame:
    """One row a patient from ADSL, with outcomes from a BDS dataset.

    Parameters
    ----------
    adsl, bds : path-like
        .xpt, .sas7bdat, .csv or .parquet.
    parameters : mapping
        PARAMCD -> outcome column, such as ``{"NET2": "net2_lesions_week48"}``; the value is AVAL.
    visit : str or float, optional
        AVISIT (text) or AVISITN (number) to take; needed when a patient has several records of a parameter.
    columns : mapping, optional
        ADSL variable -> column name, over and above those always read.
    population : str, optional
        ADSL flag that must be "Y", such as ``"FASFL"``, ``"ITTFL"`` or ``"SAFFL"``. Default: ``"RANDFL"`` where ADSL has it.

    Raises
    ------
    InputError
        A variable, flag or parameter is missing, a patient stands twice, or a record belongs to nobody in ADSL.

    Notes
    -----
    Names of variables are read in either case.  BASE of a single parameter becomes the column ``base``.  Records that were
    derived (``DTYPE``, such as LOCF) are used and said in a note.
    """
    subjects, records = _upper(read_table(adsl), str(adsl)), _upper(read_table(bds), str(bds))
    _need(subjects, ("USUBJID",), str(adsl))
    _need(records, ("USUBJID", "PARAMCD", "AVAL"), str(bds))
    strangers = records.loc[~records["USUBJID"].isin(subjects["USUBJID"]), "USUBJID"]
    if len(strangers):
        raise InputError(
            f"{bds}: {strangers.nunique()} subjects are missing from {adsl}, such as {strangers.iloc[0]!r}; "
            "give the ADSL of the same study and cut"
        )
    flag = population.upper() if population is not None else ("RANDFL" if "RANDFL" in subjects else None)
    if flag is not None:
        flags = ", ".join(str(name) for name in subjects if str(name).endswith("FL"))
        if flag not in subjects:
            raise InputError(f"{adsl}: no population flag {flag!r}; flags are {flags or 'none'}")
        subjects = subjects[subjects[flag] == "Y"]
        if subjects.empty:
            raise InputError(f"{adsl}: no subject has {flag} = 'Y'; name another population flag ({flags})")
    if subjects["USUBJID"].duplicated().any():
        twice = subjects.loc[subjects["USUBJID"].duplicated(), "USUBJID"].iloc[0]
        raise InputError(f"{adsl}: subject {twice!r} stands twice; ADSL holds one record a subject")
    names = {**ADSL_COLUMNS, **(columns or {})}
    table = subjects.rename(columns={name: new for name, new in names.items() if name in subjects})
    table = table.replace({"": np.nan}).infer_objects()
    for code, outcome in parameters.items():
        chosen = _records(records, code, visit, str(bds))
        table[outcome] = table["participant_id"].map(chosen["AVAL"])
        if "BASE" in chosen and len(parameters) == 1 and "base" not in table:
            table["base"] = table["participant_id"].map(chosen["BASE"])
    return table.reset_index(drop=True)


def _records(records: pd.DataFrame, code: str, visit: str | float | None, source: str) -> pd.DataFrame:
    """Records by subject of one parameter at one visit; analysis records only where ANL01FL is kept."""
    chosen = records[records["PARAMCD"] == code]
    if chosen.empty:
        known = ", ".join(map(str, records["PARAMCD"].unique()[:12]))
        raise InputError(f"{source}: no record has PARAMCD {code!r}; codes are {known}")
    if "ANL01FL" in chosen and (chosen["ANL01FL"] == "Y").any():
        chosen = chosen[chosen["ANL01FL"] == "Y"]
    if visit is not None:
        variable = "AVISIT" if isinstance(visit, str) else "AVISITN"
        _need(chosen, (variable,), source)
        visits = chosen[variable].unique()
        chosen = chosen[chosen[variable] == visit]
        if chosen.empty:
            raise InputError(f"{source}: no {code} record at {variable} {visit!r}; visits are {', '.join(map(str, visits[:12]))}")
    if "DTYPE" in chosen:
        derived = chosen["DTYPE"].astype(object).where(chosen["DTYPE"].notna(), "").astype(str)
        counts = derived[derived != ""].value_counts()
        if len(counts):
            kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            warnings.warn(DataNote(f"{source}: derived {code} records are used (DTYPE): {kinds}"), stacklevel=3)
    if chosen["USUBJID"].duplicated().any():
        twice = chosen.loc[chosen["USUBJID"].duplicated(), "USUBJID"].iloc[0]
        raise InputError(f"{source}: subject {twice!r} has several {code} records; name the visit")
    return chosen.set_index("USUBJID")


def _upper(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """The table with names of variables in upper case, as CDISC has them."""
    names = [str(name).upper() for name in table.columns]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"{source}: variable {twice[0]} stands twice but for its case; keep one of them")
    return table.set_axis(names, axis=1)


def _need(table: pd.DataFrame, names: tuple[str, ...], source: str) -> None:
    for name in names:
        if name not in table:
            raise InputError(f"{source}: no variable {name!r}; variables are {', '.join(map(str, table.columns[:20]))}")


def bds_table(
    table: pd.DataFrame, outcomes: Mapping[str, tuple[str, str]], *, visit: str = "", visit_number: float = np.nan
) -> pd.DataFrame:
    """Outcomes of one row a patient as BDS records, one a patient and parameter; missing outcomes have no record.

    Parameters
    ----------
    table : DataFrame
        With participant_id, trial and arm.
    outcomes : mapping
        Column -> (PARAMCD of at most 8 characters, PARAM).

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"participant_id": ["p1"], "trial": ["t"], "arm": ["drug"], "lesions": [3]})
    >>> bds_table(table, {"lesions": ("NET2", "New or enlarging T2 lesions")})[["USUBJID", "PARAMCD", "AVAL"]].values.tolist()
    [['p1', 'NET2', 3.0]]
    """
    _need(table, ("participant_id", "trial", "arm", *outcomes), "table")
    parts = []
    for column, (code, name) in outcomes.items():
        if not (code.isascii() and code.isalnum() and 0 < len(code) <= 8):
            raise UsageError(f"PARAMCD {code!r}: expected 1 to 8 letters and digits")
        part = pd.DataFrame(
            {
                "STUDYID": names_of(table["trial"]),
                "USUBJID": names_of(table["participant_id"]),
                "TRTP": names_of(table["arm"]),
                "PARAMCD": code,
                "PARAM": name,
                "AVISIT": visit,
                "AVISITN": visit_number,
                "AVAL": pd.to_numeric(table[column], errors="coerce").astype(float),
                "ANL01FL": "Y",
            }
        )
        parts.append(part[part["AVAL"].notna()])
    records = pd.concat(parts, ignore_index=True)
    records.attrs = {"label": "Analysis records", "labels": BDS_LABELS}
    return records


def write_xpt(table: pd.DataFrame, path: str | os.PathLike[str], name: str) -> Path:
    """Write a SAS transport file (version 5), whole or not at all.

    Parameters
    ----------
    name : str
        Dataset name of at most 8 characters, such as ``ADNET2``.
    """
    import pyreadstat

    file = Path(path)
    if file.suffix != ".xpt":
        raise UsageError(f"{file}: a SAS transport file ends in .xpt")
    long = [column for column in table.columns if len(str(column)) > 8]
    if long:
        raise UsageError(f"{file}: transport version 5 takes names of at most 8 characters; rename {', '.join(map(str, long))}")
    with whole_file(file) as beside:
        pyreadstat.write_xport(table, str(beside), table_name=name[:8].upper(), file_format_version=5)
    return file
