"""Pictures hold what the tables say."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biomass_pl.evaluation.pictures import draw_importance, draw_learning_curves
from biomass_pl.pasture.report import draw_scatter
from biomass_pl.pasture.targets import TARGETS


def epochs(slope: float = 1.0) -> pd.DataFrame:
    number = np.arange(5)
    columns = ("train/loss", "val/loss", "val/weighted_r2", "rate/head")
    return pd.DataFrame({"epoch": number, **{name: slope * (number + 1) for name in columns}, "rate/backbone": 0.0})


def predictions(**changes) -> pd.DataFrame:
    grams = {target: np.arange(6.0) for target in TARGETS}
    table = pd.DataFrame({**grams, **{f"{target}_pred": values + 1 for target, values in grams.items()}})
    return table.assign(**({"State": ["Tas", "Vic", "WA"] * 2} | changes))


def pixels(path) -> np.ndarray:
    picture = Image.open(path)
    assert picture.format == "PNG"
    return np.asarray(picture.convert("RGB"))


def orange(picture: np.ndarray) -> int:
    """Pixels of the second colour, which the dots let shine through on white."""
    red, green, blue = picture.astype(int).transpose(2, 0, 1)
    return int(((red > 240) & (red - green > 60) & (green - blue > 40)).sum())


def test_learning_curves_change_with_the_epochs_and_the_folds(tmp_path):
    drawn = {}
    for name, folds in {
        "one": {0: epochs()},
        "two": {0: epochs(), 1: epochs(2)},
        "other": {0: epochs(), 1: epochs(3)},
    }.items():
        draw_learning_curves(folds, tmp_path / f"{name}.png", score="val/weighted_r2")
        drawn[name] = pixels(tmp_path / f"{name}.png")
    assert not np.array_equal(drawn["one"], drawn["two"])
    assert not np.array_equal(drawn["two"], drawn["other"])


def test_the_scatter_shows_states_in_colours_of_their_own(tmp_path):
    draw_scatter(predictions(), tmp_path / "states.png")
    draw_scatter(predictions(State="Tas"), tmp_path / "one.png")
    draw_scatter(predictions(State=None), tmp_path / "unknown.png")
    draw_scatter(predictions().drop(columns="State"), tmp_path / "without.png")
    assert orange(pixels(tmp_path / "states.png")) > 50 > orange(pixels(tmp_path / "one.png"))
    assert np.array_equal(pixels(tmp_path / "unknown.png"), pixels(tmp_path / "without.png"))


@pytest.mark.parametrize("loss", [-1.0, np.nan])
def test_losses_that_no_logarithm_can_show_are_drawn_all_the_same(loss, tmp_path):
    draw_learning_curves({0: epochs().assign(**{"train/loss": loss})}, tmp_path / "curves.png", score="val/weighted_r2")
    assert pixels(tmp_path / "curves.png").shape[2] == 3


def test_the_picture_shows_the_first_thirty_features(tmp_path):
    importance = pd.DataFrame({"feature": [f"feature {number}" for number in range(31)], "gain": 1 / 31})
    unseen, seen = importance.copy(), importance.copy()
    unseen.loc[30, "gain"] = 0.9
    seen.loc[29, "gain"] = 0.9
    pictures = []
    for name, table in {"plain": importance, "unseen": unseen, "seen": seen}.items():
        draw_importance(table, tmp_path / f"{name}.png")
        pictures.append(np.asarray(Image.open(tmp_path / f"{name}.png")))
    assert np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[0], pictures[2])
    assert len(list(tmp_path.iterdir())) == 3
