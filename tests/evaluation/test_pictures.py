"""Pictures hold what the tables say."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biomass_pl.evaluation.pictures import draw_importance, draw_learning_curves, learning_curves

SCORE = "val/weighted_r2"
RATES = {"rate/backbone": 0.0, "rate/head": 0.1}


def epochs(count: int = 5, **changes) -> pd.DataFrame:
    number = np.arange(count)
    losses = {name: number + 1.0 for name in ("train/loss", "val/loss", SCORE)}
    return pd.DataFrame({"epoch": number, **losses, **RATES}).assign(**changes)


def lines(panel) -> dict[str, list[tuple[float, float]]]:
    """Points of each line of a panel by its label."""
    return {line.get_label(): list(zip(*map(list, line.get_data()), strict=True)) for line in panel.lines}


def test_learning_curves_have_a_line_per_fold_and_epochs_counted_from_1():
    other = epochs(2, **{"train/loss": [9.0, 8.0], "val/loss": [7.0, 6.0], SCORE: [0.1, 0.2]})
    train, validation, score, _ = learning_curves({0: epochs(3), 3: other}, score=SCORE).axes
    first = [(1, 1), (2, 2), (3, 3)]
    assert lines(train) == {"fold 0": first, "fold 3": [(1, 9), (2, 8)]}
    assert lines(validation) == {"fold 0": first, "fold 3": [(1, 7), (2, 6)]}
    assert lines(score) == {"fold 0": first, "fold 3": [(1, 0.1), (2, 0.2)]}
    assert [panel.get_title() for panel in (train, validation, score)] == ["training loss", "validation loss", SCORE]
    assert [text.get_text() for text in train.get_legend().get_texts()] == ["fold 0", "fold 3"]


def test_learning_curves_are_written_as_a_picture(tmp_path):
    drawn = []
    for name, rows in {"one": epochs(), "other": epochs(**{SCORE: 0.5})}.items():
        draw_learning_curves({0: rows}, tmp_path / f"{name}.png", score=SCORE)
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.format == "PNG"
            drawn.append(np.asarray(picture.convert("RGB")))
    assert drawn[0].shape == drawn[1].shape and not np.array_equal(*drawn)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_single_epoch_is_visible(tmp_path):
    """Without a loss, a score or a rate nothing is coloured; with them every panel shows a point."""
    nothing = epochs(1, **dict.fromkeys(["train/loss", "val/loss", SCORE, *RATES], np.nan))
    coloured = []
    for name, rows in {"one": epochs(1), "none": nothing}.items():
        draw_learning_curves({0: rows}, tmp_path / f"{name}.png", score=SCORE)
        picture = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
        half_height, half_width = picture.shape[0] // 2, picture.shape[1] // 2
        quarters = [
            picture[rows, columns]
            for rows in (slice(half_height), slice(half_height, None))
            for columns in (slice(half_width), slice(half_width, None))
        ]
        coloured.append([int((np.ptp(quarter, axis=2) > 60).sum()) for quarter in quarters])
    assert all(one > none for one, none in zip(*coloured, strict=True))
    assert coloured[1][1:3] == [0, 0]  # the others have legends


@pytest.mark.parametrize("count", [1, 2, 30])
def test_all_panels_have_the_epochs_of_the_longest_fold_as_whole_numbers(count):
    for panel in learning_curves({0: epochs(1), 1: epochs(count)}, score=SCORE).axes:
        assert panel.get_xlim() == (0.5, count + 0.5)
        ticks = [tick for tick in panel.get_xticks() if 0.5 <= tick <= count + 0.5]
        assert ticks and all(tick == round(tick) for tick in ticks)


def test_epochs_without_a_validation_are_skipped_so_that_lines_connect():
    rows = epochs(4, **{"val/loss": [np.nan, 2, np.nan, 4], SCORE: [np.nan, 0.2, np.inf, 0.4]})
    _, validation, score, _ = learning_curves({0: rows}, score=SCORE).axes
    assert lines(validation)["fold 0"] == [(2, 2), (4, 4)]
    assert lines(score)["fold 0"] == [(2, 0.2), (4, 0.4)]
    assert validation.get_yscale() == "log"


def test_a_column_that_a_fold_lacks_is_left_out_of_its_panel():
    figure = learning_curves({0: epochs(2).drop(columns="val/loss"), 1: epochs(2)}, score=SCORE)
    assert lines(figure.axes[1]) == {"fold 0": [], "fold 1": [(1, 1), (2, 2)]}
    assert figure.axes[1].get_title() == "validation loss"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("column", ["train/loss", "val/loss", SCORE])
def test_a_column_that_no_fold_has_is_told(column, tmp_path):
    rows = epochs(2).drop(columns=column)
    titles = [panel.get_title() for panel in learning_curves({0: rows}, score=SCORE).axes]
    names = dict(zip(["train/loss", "val/loss", SCORE], ["training loss", "validation loss", SCORE], strict=True))
    assert titles[:3] == [f"{name}: not logged" if column == key else name for key, name in names.items()]
    draw_learning_curves({0: rows}, tmp_path / "curves.png", score=SCORE)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("loss", "scale"), [(0.5, "log"), (-1.0, "linear"), (0.0, "linear")])
def test_losses_share_a_logarithmic_scale_where_it_can_show_them(loss, scale, tmp_path):
    rows = epochs(**{"train/loss": loss})
    train, validation, score, _ = learning_curves({0: rows}, score=SCORE).axes
    assert (train.get_yscale(), validation.get_yscale(), score.get_yscale()) == (scale, scale, "linear")
    draw_learning_curves({0: rows}, tmp_path / "curves.png", score=SCORE)


def test_all_rates_are_drawn_and_frozen_epochs_left_out():
    rows = epochs(3, **{"rate/backbone": [0, 0.1, 0.2], "rate/projection": 0.3})
    rates = learning_curves({0: rows}, score=SCORE).axes[3]
    drawn = lines(rates)
    assert list(drawn) == ["rate/backbone", "rate/head", "rate/projection"]
    assert np.isnan(drawn["rate/backbone"][0][1]) and drawn["rate/backbone"][1:] == [(2, 0.1), (3, 0.2)]
    assert drawn["rate/projection"] == [(1, 0.3), (2, 0.3), (3, 0.3)]
    assert [text.get_text() for text in rates.get_legend().get_texts()] == list(drawn)


@pytest.mark.filterwarnings("error")
def test_a_run_without_rates_or_losses_is_drawn(tmp_path):
    rows = epochs(2)[["epoch", SCORE]]
    figure = learning_curves({0: rows}, score=SCORE)
    assert figure.axes[3].get_title() == "rates at the end of each epoch: not logged" and not figure.axes[3].lines
    draw_learning_curves({0: rows}, tmp_path / "curves.png", score=SCORE)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


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


def test_a_score_that_is_a_loss_has_one_panel():
    panels = learning_curves({0: epochs(3)}, score="val/loss").axes
    assert [panel.get_title() for panel in panels] == [
        "training loss",
        "validation loss",
        "rates at the end of each epoch",
    ]
