"""Keys that rows of different tables are matched by."""

from __future__ import annotations

import pandas as pd


def participant_key(identifiers: pd.Series) -> pd.Series:
    """Identifiers without the BIDS prefix ``sub-`` and without leading zeros, both of which tables lose on their way.

    Examples
    --------
    >>> import pandas as pd
    >>> participant_key(pd.Series(["sub-007", "7"])).tolist()
    ['7', '7']
    """
    return identifiers.astype(str).str.removeprefix("sub-").str.replace(r"^0+(?=\d+$)", "", regex=True)
