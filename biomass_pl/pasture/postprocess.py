"""Corrections of predicted grams after the network."""

import pandas as pd


def derive_dead(table: pd.DataFrame) -> pd.DataFrame:
    """Replaces the predicted Dead by max(0, Total - GDM), all in grams.

    Args:
        table: A row per photo with `<target>_pred`.
    """
    derived = (table["Dry_Total_g_pred"] - table["GDM_g_pred"]).clip(lower=0)
    return table.assign(Dry_Dead_g_pred=derived)
