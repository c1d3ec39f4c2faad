"""The report on measured numbers: scores, interval, table in the terminal, pictures."""

import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from biomass_pl.trait.report import RegressionReport

NAN = math.nan
TABLE = pd.DataFrame(
    {
        "image_id": list("abcdef"),
        "fold": [0, 0, 0, 1, 1, 1],
        "group": ["1", "1", "2", "3", "3", "4"],
        "mass": [1.0, 2.0, 3.0, NAN, 4.0, 8.0],
        "share": [0.1, 0.1, 0.1, 0.3, 0.5, NAN],
        "mass_pred": [1.0, 2.0, 4.0, 5.0, 4.0, 6.0],
        "share_pred": [0.1, 0.2, 0.1, 0.3, 0.5, 0.9],
    }
)
REPORT = RegressionReport(targets=("mass", "share"), units=("g", ""), weights=[1.0, 3.0])


def shown(scores) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(REPORT.render(scores, title="plots"))
    return console.file.getvalue()


def test_scores_worked_by_hand_skip_what_was_not_measured():
    scores = REPORT.score(TABLE)
    first, second = scores["folds"]["0"], scores["folds"]["1"]
    assert first["targets"]["mass"] == {
        "r2": pytest.approx(0.5),
        "rmse": pytest.approx(math.sqrt(1 / 3)),
        "mae": pytest.approx(1 / 3),
        "photos": 3,
    }
    assert first["targets"]["share"]["r2"] is None and first["targets"]["share"]["mae"] == pytest.approx(0.1 / 3)
    assert first["mean_r2"] == pytest.approx(0.5)  # of the one that has a score
    assert second["targets"]["mass"]["r2"] == pytest.approx(1 - 4 / 8) and second["targets"]["mass"]["photos"] == 2
    assert second["mean_r2"] == pytest.approx((0.5 + 3 * 1) / 4)
    # mass: squared errors 5, spread about 3.6 is 29.2; share: .01 of .128
    pooled = scores["pooled"]
    assert pooled["photos"] == 6 and pooled["interval_over"] == "groups"
    assert pooled["mean_r2"] == pytest.approx((1 - 5 / 29.2 + 3 * (1 - 0.01 / 0.128)) / 4)
    low, high = pooled["mean_r2_interval"]
    assert low < pooled["mean_r2"] <= high <= 1
    json.dumps(scores, allow_nan=False)


def test_the_constant_prediction_knows_the_other_folds_alone():
    scores = REPORT.score(TABLE)["constant"]
    # mass of fold 0: 6 for 1, 2, 3; of fold 1: 2 for 4 and 8
    assert scores["folds"]["0"]["mean_r2"] == pytest.approx(1 - (25 + 16 + 9) / 2)
    changed = TABLE.assign(mass=[1.0, 2.0, 3.0, NAN, 5.0, 9.0])
    assert REPORT.score(changed)["constant"]["folds"]["0"]["mean_r2"] == pytest.approx(1 - (36 + 25 + 16) / 2)
    alone = REPORT.score(TABLE[TABLE["fold"] == 0])
    assert alone["constant"]["pooled"]["mean_r2"] is None and alone["pooled"]["mean_r2"] is not None


def test_the_interval_draws_whole_groups_and_photos_where_there_are_none():
    rng = np.random.default_rng(0)
    mass = rng.normal(size=10).repeat(8)
    table = pd.DataFrame(
        {
            "image_id": np.arange(80).astype(str),
            "fold": 0,
            "mass": mass,
            "mass_pred": mass + rng.normal(scale=0.7, size=10).repeat(8),
        }
    )
    report = RegressionReport(targets=("mass",))
    photos = report.score(table)["pooled"]
    groups = report.score(table.assign(group=np.arange(10).repeat(8).astype(str)))["pooled"]
    assert photos["interval_over"] == "photos" and photos["mean_r2"] == groups["mean_r2"]
    assert np.diff(groups["mean_r2_interval"]) > 1.5 * np.diff(photos["mean_r2_interval"])
    single = report.score(table.assign(group="1"))["pooled"]
    assert single["mean_r2_interval"] is None


def test_the_terminal_shows_every_target_with_its_unit_and_the_mean():
    text = shown(REPORT.score(TABLE) | {"pooled_last": {"mean_r2": 0.25}})
    caption = " ".join(text.split())
    for part in ("mass, g", "share", "mean_r2", "constant", "photos", "fold 1", "by the last epoch's weights 0.250"):
        assert part in caption
    mass = next(line for line in text.splitlines() if "mass, g" in line)
    assert mass.split()[2:] == ["5", "0.829", "1", "0.6", "0.500", "0.500"]


def test_there_is_a_panel_for_every_target(tmp_path):
    few, many = tmp_path / "few.png", tmp_path / "many.png"
    REPORT.draw(TABLE, few)
    names = [f"t{number}" for number in range(6)]
    wide = TABLE.assign(
        **{name: TABLE["mass"] for name in names}, **{f"{name}_pred": TABLE["mass_pred"] for name in names}
    )
    RegressionReport(targets=names).draw(wide, many)
    with Image.open(few) as one, Image.open(many) as other:
        assert other.width > one.width and other.height > one.height


def test_stacking_learns_the_targets_from_their_predictions_and_tables_stay_as_they_are():
    assert REPORT.stacking.truth == ("mass", "share") and REPORT.stacking.predicted == ("mass_pred", "share_pred")
    assert (
        REPORT.stacking.kind == "regression" and REPORT.finished(TABLE) is TABLE and REPORT.text_columns == ("group",)
    )
