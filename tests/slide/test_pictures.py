"""Pictures of predicted specimens: what is drawn where."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from biomass_pl.evaluation.pictures import save_figure
from biomass_pl.evaluation.prompt_classes import ClassPredictions
from biomass_pl.evaluation.retrieval import RetrievalRanks
from biomass_pl.slide.pictures import draw_recall, draw_roc, draw_text_scores, tower_map


@pytest.fixture
def panel():
    return Figure().subplots()


def named(panel) -> dict[str, np.ndarray]:
    return {line.get_label(): np.asarray(line.get_ydata()) for line in panel.lines}


def test_recall_rises_with_the_rank_beside_that_of_chance(panel):
    ranks = RetrievalRanks(image_to_text=np.array([1, 1, 3, 2.5]), text_to_image=np.array([1, 2, 3, 4.0]))
    draw_recall(panel, ranks, np.full(4, 4))
    lines = named(panel)
    assert lines["report by image: R@1 0.50, R@10 1.00"].tolist() == [0.5, 0.5, 1, 1]
    assert lines["image by report: R@1 0.25, R@10 1.00"].tolist() == lines["chance"].tolist() == [0.25, 0.5, 0.75, 1]
    heights = [bar.get_height() for bar in panel.patches]
    assert heights == [0.5, 0, 0.5, 0, *[0.25] * 4]  # a rank of 2.5 counts as 3


def test_chance_is_the_mean_of_unequal_folds(panel):
    ranks = RetrievalRanks(image_to_text=np.ones(3), text_to_image=np.full(3, np.nan))
    draw_recall(panel, ranks, np.array([1, 2, 2]))
    assert named(panel)["chance"].tolist() == [pytest.approx(2 / 3), 1]
    assert "up to 2" in panel.get_xlabel()


def predictions(classes: tuple[str, ...], truth: list[int], probabilities) -> ClassPredictions:
    ids = tuple(f"s{number}" for number in range(len(truth)))
    return ClassPredictions(
        ids=ids, classes=classes, truth=np.array(truth), probabilities=np.array(probabilities, dtype=float)
    )


def test_roc_curves_are_of_the_class_looked_for_or_of_each_of_several(panel):
    two = predictions(("0", "1"), [0, 1, 1], [[0.8, 0.2], [0.9, 0.1], [0.3, 0.7]])
    three = predictions(("a", "b", "$c$"), [0, 1, 0], [[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    draw_roc(panel, {"task_0": two, "task_1": three})
    labels = [text.get_text() for text in panel.get_legend().get_texts()]
    assert labels == ["task_0 1: 0.50", "task_1 a: 1.00", "task_1 b: 1.00"]  # of the third there is no specimen


def test_nothing_is_drawn_of_classes_that_are_not_known(panel):
    broken = predictions(("0", "1"), [0, 1], [[np.nan, np.nan], [0.5, 0.5]])
    draw_roc(panel, {"task_0": broken, "task_1": predictions(("0", "1"), [], np.empty((0, 2)))})
    assert panel.get_legend() is None and len(panel.lines) == 1


def test_scores_of_texts_are_counted(panel):
    draw_text_scores(panel, np.array([0, 0.02, 1]), name="BLEU-4")
    heights = [bar.get_height() for bar in panel.patches]
    assert len(heights) == 20 and (heights[0], heights[-1], sum(heights)) == (2, 1, 3)


@pytest.mark.parametrize("count", [0, 1, 2, 12])
def test_both_towers_have_a_mark_for_each_specimen(count, tmp_path):
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(2, count + 1, 5))
    text[-1, 0] = np.nan
    labels = [("_a$", "")[number % 2] for number in range(count + 1)]
    figure = tower_map(image, text, labels)
    save_figure(figure, tmp_path / "map.png")
    marks = [len(points.get_offsets()) for points in figure.axes[0].collections]
    assert sum(marks) == 2 * count and marks[::2] == marks[1::2] and len(marks) == 2 * len(set(labels))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        label.replace("$", r"\$") for label in sorted(set(labels))
    ]


def test_of_many_pairs_some_are_drawn():
    vectors = np.zeros((1500, 2))
    figure = tower_map(vectors, vectors, ["x"] * 1500)
    assert len(figure.axes[0].collections[0].get_offsets()) == 1000
