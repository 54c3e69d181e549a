"""CDISC ADaM in and out: ADSL and a BDS dataset to one row a patient, and the analysis records back as BDS."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from causalms.errors import InputError, UsageError
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


def read_adam(
    adsl: str | os.PathLike[str],
    bds: str | os.PathLike[str],
    *,
    parameters: Mapping[str, str],
    visit: str | float | None = None,
    columns: Mapping[str, str] | None = None,
    population: str | None = "RANDFL",
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
        ADSL flag that must be "Y", if the variable is there.

    Raises
    ------
    InputError
        A variable or parameter is missing, a patient stands twice, or a record belongs to nobody in ADSL.
    """
    subjects, records = read_table(adsl), read_table(bds)
    _need(subjects, ("USUBJID",), str(adsl))
    _need(records, ("USUBJID", "PARAMCD", "AVAL"), str(bds))
    if population is not None and population in subjects:
        subjects = subjects[subjects[population] == "Y"]
        if subjects.empty:
            raise InputError(f"{adsl}: no subject has {population} = 'Y'; name another population flag")
    if subjects["USUBJID"].duplicated().any():
        twice = subjects.loc[subjects["USUBJID"].duplicated(), "USUBJID"].iloc[0]
        raise InputError(f"{adsl}: subject {twice!r} stands twice; ADSL holds one record a subject")
    names = {**ADSL_COLUMNS, **(columns or {})}
    table = subjects.rename(columns={name: new for name, new in names.items() if name in subjects})
    table = table.replace({"": np.nan}).infer_objects()
    for code, outcome in parameters.items():
        chosen = _records(records, code, visit, str(bds))
        table[outcome] = table["participant_id"].map(chosen)
    return table.reset_index(drop=True)


def _records(records: pd.DataFrame, code: str, visit: str | float | None, source: str) -> pd.Series:
    """AVAL by subject of one parameter at one visit; analysis records only where ANL01FL is kept."""
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
    if chosen["USUBJID"].duplicated().any():
        twice = chosen.loc[chosen["USUBJID"].duplicated(), "USUBJID"].iloc[0]
        raise InputError(f"{source}: subject {twice!r} has several {code} records; name the visit")
    return chosen.set_index("USUBJID")["AVAL"]


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
    return pd.concat(parts, ignore_index=True)


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
