"""Class numbers of states, months and species groups, which the auxiliary heads guess."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

STATES = ("NSW", "Tas", "Vic", "WA")
MONTHS = (1, 2, 4, 5, 6, 7, 8, 9, 10, 11)
"""The months in which the competition's photos were taken; March and December are not among them."""

SPECIES_GROUP = {
    "Clover": 0,
    "WhiteClover": 0,
    "SubcloverLosa": 0,
    "SubcloverDalkeith": 0,
    "Ryegrass": 1,
    "Ryegrass_Clover": 2,
    "Phalaris": 3,
    "Phalaris_Clover": 4,
    "Phalaris_Ryegrass_Clover": 4,
    "Phalaris_Clover_Ryegrass_Barleygrass_Bromegrass": 4,
    "Phalaris_BarleyGrass_SilverGrass_SpearGrass_Clover_Capeweed": 4,
    "Fescue": 5,
    "Fescue_CrumbWeed": 5,
    "Lucerne": 6,
    "Mixed": 7,
}
UNKNOWN = -1
"""Class number of a state, month or species group that is none of those above."""


def class_codes(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Class numbers of the auxiliary heads for each row of a label table.

    Returns:
        `state` (0 to 3), `month` (0 to 9) and `species` group (0 to 7) as int64; -1 where unknown.
    """
    unknown = pd.Series(UNKNOWN, index=table.index)
    states = table["State"].map(_numbered(STATES)) if "State" in table else unknown
    species = table["Species"].map(SPECIES_GROUP) if "Species" in table else unknown
    months = unknown
    if "Sampling_Date" in table:
        months = pd.to_datetime(table["Sampling_Date"]).dt.month.map(_numbered(MONTHS))
    codes = {"state": states, "month": months, "species": species}
    return {name: column.fillna(UNKNOWN).to_numpy(dtype=np.int64) for name, column in codes.items()}


def _numbered(classes: Sequence[str | int]) -> dict[str | int, int]:
    return {name: number for number, name in enumerate(classes)}
