"""Dead from the difference, worked by hand."""

import pandas as pd

from biomass_pl.pasture.postprocess import derive_dead
from biomass_pl.pasture.targets import TARGETS


def test_dead_becomes_total_minus_gdm_and_never_negative():
    table = pd.DataFrame(
        {
            "image_id": ["a", "b", "c"],
            "Dry_Dead_g": [1.0, 2.0, 3.0],
            "Dry_Dead_g_pred": [9.0, 9.0, 9.0],
            "GDM_g_pred": [10.0, 30.0, 5.0],
            "Dry_Total_g_pred": [12.5, 20.0, 5.0],
        }
    )
    before = table.copy()
    derived = derive_dead(table)
    assert derived["Dry_Dead_g_pred"].tolist() == [2.5, 0.0, 0.0]
    others = [column for column in table if column != "Dry_Dead_g_pred"]
    pd.testing.assert_frame_equal(derived[others], before[others])
    pd.testing.assert_frame_equal(table, before)  # the table given is left as it was


def test_consistent_predictions_stay_as_they_are():
    table = pd.DataFrame([[2.0, 3.0, 1.0, 3.0, 6.0]], columns=[f"{target}_pred" for target in TARGETS])
    pd.testing.assert_frame_equal(derive_dead(table), table)
