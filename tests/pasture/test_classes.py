"""Class numbers of states, months and species groups."""

import numpy as np
import pandas as pd

from biomass_pl.pasture.classes import class_codes


def codes_of(*rows):
    return class_codes(pd.DataFrame(rows, columns=["State", "Sampling_Date", "Species"]))


def test_class_numbers_are_those_of_the_specification():
    cases = [
        ("NSW", "2015-01-01", "SubcloverLosa", (0, 0, 0)),
        ("Tas", "2015-02-01", "Ryegrass", (1, 1, 1)),
        ("Vic", "2015-04-01", "Ryegrass_Clover", (2, 2, 2)),
        ("WA", "2015-11-01", "Phalaris", (3, 9, 3)),
        ("WA", "2015-10-01", "Phalaris_Clover_Ryegrass_Barleygrass_Bromegrass", (3, 8, 4)),
        ("WA", "2015-05-01", "Fescue_CrumbWeed", (3, 3, 5)),
        ("WA", "2015-06-01", "Lucerne", (3, 4, 6)),
        ("WA", "2015-07-01", "Mixed", (3, 5, 7)),
    ]
    codes = codes_of(*(case[:3] for case in cases))
    assert list(codes) == ["state", "month", "species"]
    assert list(zip(*(column.tolist() for column in codes.values()), strict=True)) == [case[3] for case in cases]
    assert all(column.dtype == np.int64 for column in codes.values())


def test_what_is_unknown_empty_or_not_in_the_table_is_class_minus_one():
    codes = codes_of(("Qld", "2015-03-01", "Moss"), (None, None, None), ("Tas", "2014-09-20", "WhiteClover"))
    assert {name: column.tolist() for name, column in codes.items()} == {
        "state": [-1, -1, 1],
        "month": [-1, -1, 7],
        "species": [-1, -1, 0],
    }
    without = class_codes(pd.DataFrame({"image_id": ["a", "b"]}))
    assert {name: column.tolist() for name, column in without.items()} == {name: [-1, -1] for name in codes}
    assert all(column.dtype == np.int64 for column in (*codes.values(), *without.values()))
