"""The report on pasture predictions says what the functions behind it say."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biomass_pl.pasture.report import PastureReport, score_table
from biomass_pl.pasture.targets import TARGETS


def predictions() -> pd.DataFrame:
    truth = np.random.default_rng(2).gamma(2.0, 10.0, (8, len(TARGETS)))
    table = pd.DataFrame(truth, columns=list(TARGETS))
    for target in TARGETS:
        table[f"{target}_pred"] = table[target] + 1.23456789
    return table.assign(image_id=[f"ID{number}" for number in range(8)], fold=np.arange(8) % 2)


def test_scores_and_their_table():
    scores = PastureReport().score(predictions())
    assert scores == score_table(predictions())
    grid = PastureReport().render(scores, title="Scores")
    assert grid.title == "Scores" and f"{scores['pooled']['weighted_r2']:.3f}" in grid.caption


def test_the_picture_has_a_panel_per_target(tmp_path):
    PastureReport().draw(predictions(), tmp_path / "scatter.png")
    width, height = Image.open(tmp_path / "scatter.png").size
    assert width > 4 * height


def test_the_submission_has_a_row_per_photo_and_target(tmp_path):
    submission = PastureReport().submission(predictions(), tmp_path / "sample_submission.csv")
    assert list(submission) == ["sample_id", "target"] and len(submission) == 8 * len(TARGETS)


def test_grams_are_rounded_to_the_microgram():
    rounded = PastureReport().rounded(predictions().assign(GDM_g_pred=1.23456789))
    assert rounded["GDM_g_pred"].tolist() == [1.234568] * 8
    assert rounded["Dry_Dead_g_pred"].to_numpy() == pytest.approx(predictions()["Dry_Dead_g_pred"].to_numpy(), abs=5e-7)
    assert rounded["image_id"].tolist() == predictions()["image_id"].tolist()
