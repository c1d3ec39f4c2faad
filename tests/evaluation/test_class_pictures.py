"""Pictures of predicted classes hold what the numbers say."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from biomass_pl.evaluation.calibration import reliability_bins
from biomass_pl.evaluation.class_pictures import (
    Mistake,
    attention_sheet,
    draw_confusion,
    draw_reliability,
    embedding_map,
    matrix_size,
    mistakes_sheet,
    shortened,
    two_dimensions,
    worst_mistakes,
)
from biomass_pl.evaluation.pictures import save_figure

ODD_NAMES = ["_hidden", r"half $\frac$ a", "NA", "[red]x", "rust, leaf/stem " * 4]


def panel_of(draw, *arguments):
    """A panel on which something was drawn."""
    panel = Figure(figsize=(6, 6)).subplots()
    draw(panel, *arguments)
    return panel


def picture(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def coloured(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels of a colour."""
    return int((np.abs(pixels - np.array(colour)).max(axis=2) < 12).sum())


@pytest.mark.parametrize(
    ("name", "most", "expected"),
    [("rust", 4, "rust"), ("abcdefgh", 5, "ab…gh"), ("abcdefgh", 6, "abc…gh"), ("abcdefgh", 8, "abcdefgh")],
)
def test_long_names_are_cut_in_the_middle(name, most, expected):
    assert shortened(name, most) == expected


def test_the_matrix_shows_photos_and_their_share_of_the_true_class():
    panel = panel_of(draw_confusion, np.array([[3, 1], [0, 0]]), ["a", "b"])
    texts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in panel.texts}
    assert texts == {(0, 0): "3\n75 %", (0, 1): "1\n25 %"}
    assert panel.images[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("predicted", "true")


@pytest.mark.parametrize("classes", [2, 5, 20, 40, 41, 120])
def test_class_names_are_readable_and_do_not_touch(classes):
    names = [f"class {number}" for number in range(classes)]
    panel = panel_of(draw_confusion, np.eye(classes, dtype=int), names)
    labels = panel.get_yticklabels()
    assert [label.get_text() for label in labels] == names
    points = 72 * matrix_size(classes) / classes
    assert labels[0].get_fontsize() < points and (classes > 50 or labels[0].get_fontsize() >= 8)
    assert len(panel.texts) == (classes if classes <= 40 else 0)


def test_the_matrix_grows_with_the_classes_up_to_a_bound():
    assert matrix_size(2) == 5 and matrix_size(20) == pytest.approx(11) and matrix_size(1000) == 20


@pytest.mark.filterwarnings("error")
def test_any_names_are_drawn_as_they_are(tmp_path):
    figure = Figure(layout="constrained")
    panel = figure.subplots()
    draw_confusion(panel, np.eye(5, dtype=int), ODD_NAMES)
    save_figure(figure, tmp_path / "matrix.png")
    shown = [label.get_text().replace(r"\$", "$") for label in panel.get_xticklabels()]
    assert shown[:4] == ODD_NAMES[:4] and len(shown[4]) == 28
    save_figure(embedding_map(np.random.default_rng(0).random((5, 3)), ODD_NAMES), tmp_path / "map.png")


def test_the_reliability_of_each_kind_is_a_line_with_its_error():
    truth = np.array([0, 0, 1, 1])
    before = reliability_bins(truth, np.array([[0.95, 0.05]] * 4))
    after = reliability_bins(truth, np.array([[0.45, 0.55]] * 2 + [[0.55, 0.45]] * 2))
    panel = panel_of(draw_reliability, {"before": before, "after": after})
    lines = {line.get_label(): line.get_xydata().tolist() for line in panel.lines[1:]}
    assert list(lines) == ["before: ECE 0.450", "after: ECE 0.550"]
    assert np.concatenate(list(lines.values())) == pytest.approx(np.array([[0.95, 0.5], [0.55, 0]]))
    assert panel.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]


def test_dots_are_as_large_as_their_share():
    bins = reliability_bins(np.zeros(4, dtype=int), np.array([[0.9, 0.1]] * 3 + [[0.6, 0.4]]))
    few, many = panel_of(draw_reliability, {"one": bins}).collections[0].get_sizes()
    assert (few, many) == (pytest.approx(110), pytest.approx(310))


@pytest.mark.filterwarnings("error")
def test_nothing_to_be_sure_of_is_drawn_all_the_same():
    assert len(panel_of(draw_reliability, {}).lines) == 1


def test_the_worst_mistakes_give_the_truth_the_least_probability():
    truth = np.array([0, 0, 1, 1, 2, 0])
    probabilities = np.array(
        [[0.2, 0.8, 0], [0.9, 0, 0.1], [0.95, 0.05, 0], [0.3, 0.2, 0.5], [0, 0.6, 0.4], [0.05, 0.5, 0.45]]
    )
    assert worst_mistakes(truth, probabilities).tolist() == [2, 5, 0, 3, 4]


def mistakes(count: int) -> list[Mistake]:
    return [
        Mistake(name=f"{number}.jpg", truth="a $", predicted="_b$", probability=0.9 - 0.01 * number)
        for number in range(count)
    ]


RED, BLUE, WHITE = (250, 10, 10), (10, 10, 250), (255, 255, 255)


def flat(colour: tuple[int, int, int], height: int = 300, width: int = 400) -> np.ndarray:
    return np.full((height, width, 3), colour, dtype=np.uint8)


@pytest.mark.filterwarnings("error")
def test_the_sheet_shows_the_first_twenty_mistakes(tmp_path):
    read = []

    def photo(name: str) -> np.ndarray:
        read.append(name)
        return flat(RED if name == "19.jpg" else BLUE)

    mistakes_sheet(mistakes(25), photo, tmp_path / "sheet.png", photos=100)
    assert read == [f"{number}.jpg" for number in range(20)]
    pixels = picture(tmp_path / "sheet.png")
    assert coloured(pixels, BLUE) == pytest.approx(19 * coloured(pixels, RED), rel=0.05)


def test_thumbnails_keep_their_shape(tmp_path):
    sizes = {"0.jpg": (1000, 2000), "1.jpg": (900, 300)}
    colours = {"0.jpg": RED, "1.jpg": BLUE}
    mistakes_sheet(mistakes(2), lambda name: flat(colours[name], *sizes[name]), tmp_path / "sheet.png", photos=2)
    pixels = picture(tmp_path / "sheet.png")
    for name, (height, width) in sizes.items():
        rows, columns = np.nonzero(np.abs(pixels - np.array(colours[name])).max(axis=2) < 12)
        assert np.ptp(rows) / np.ptp(columns) == pytest.approx(height / width, rel=0.05)


def test_captions_and_names_of_the_mistakes_change_the_sheet(tmp_path):
    drawn = []
    for mistake in (
        Mistake(name="x.jpg", truth="a", predicted="b", probability=0.9),
        Mistake(name="x.jpg", truth="c", predicted="b", probability=0.9),
        Mistake(name="x.jpg", truth="a", predicted="c", probability=0.9),
        Mistake(name="x.jpg", truth="a", predicted="b", probability=0.8),
        Mistake(name="y.jpg", truth="a", predicted="b", probability=0.9),
    ):
        mistakes_sheet([mistake], lambda _: flat(BLUE), tmp_path / "sheet.png", photos=9)
        drawn.append((tmp_path / "sheet.png").read_bytes())
    assert len(set(drawn)) == 5


@pytest.mark.filterwarnings("error")
def test_a_sheet_without_a_mistake_has_no_photo(tmp_path):
    mistakes_sheet([], lambda _: flat(RED), tmp_path / "sheet.png", photos=9)
    pixels = picture(tmp_path / "sheet.png")
    assert coloured(pixels, RED) == 0 and coloured(pixels, WHITE) < pixels[..., 0].size  # the title alone


@pytest.mark.filterwarnings("error")
def test_photos_stand_beside_what_the_network_looked_at(tmp_path):
    heat = np.zeros((4, 4))
    heat[0, 0] = 1
    attention_sheet([flat(WHITE, 400, 600)], [heat], ["a $ title"], tmp_path / "one.png")
    pixels = picture(tmp_path / "one.png")
    # White under half of the coldest colour; the warm corner is the upper left one.
    cold = np.argwhere(np.abs(pixels - np.array([151, 136, 157])).max(axis=2) < 12)
    warm = np.argwhere(pixels[..., 0] - pixels[..., 2] > 40)
    assert len(warm) and len(cold) > 5 * len(warm)
    assert np.quantile(cold[:, 1], 0.01) > pixels.shape[1] // 4 - 10  # the photo itself is beside it
    assert (warm.max(axis=0) < cold.mean(axis=0)).all()


def test_the_covered_photo_lies_as_the_photo_does(tmp_path):
    photo = np.broadcast_to(np.linspace(0, 255, 200).astype(np.uint8)[:, None, None], (200, 200, 3))
    attention_sheet([photo], [np.zeros((4, 4))], [""], tmp_path / "one.png")
    grey = picture(tmp_path / "one.png")[60:200, :, 1]
    plain, covered = grey[:, grey.shape[1] // 8], grey[:, 3 * grey.shape[1] // 8]
    assert np.corrcoef(plain, covered)[0, 1] > 0.99 and np.ptp(covered) < 0.6 * np.ptp(plain)


@pytest.mark.filterwarnings("error")
def test_a_sheet_takes_photos_and_maps_of_any_size(tmp_path):
    photos = [flat(BLUE, 30, 20), flat(RED, 800, 500), flat(BLUE, 64, 64)]
    maps = [np.ones((2, 3)), np.arange(64.0).reshape(8, 8), np.zeros((1, 1))]
    attention_sheet(photos, maps, ["one", "x" * 200, "three\nlines " * 2], tmp_path / "sheet.png")
    assert coloured(picture(tmp_path / "sheet.png"), RED) > 1000


def groups(count: int = 30, classes: int = 3) -> tuple[np.ndarray, list[str]]:
    """Features of well separated classes, one after the other."""
    generator = np.random.default_rng(0)
    middles = 20 * generator.normal(size=(classes, 80))
    labels = np.arange(count) % classes
    return middles[labels] + generator.normal(size=(count, 80)), [f"class {number}" for number in labels]


def nearest_is_alike(places: np.ndarray, labels: list[str]) -> float:
    """Share of places whose nearest other one is of their class."""
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag(np.full(len(places), np.inf))
    return float(np.mean([labels[row] == labels[other] for row, other in enumerate(distances.argmin(axis=1))]))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [6, 9, 10, 13, 60])
def test_neighbours_stay_neighbours_in_two_dimensions(count):
    vectors, labels = groups(count)
    places = two_dimensions(vectors.astype(np.float32))
    assert places.shape == (count, 2) and np.isfinite(places).all()
    assert nearest_is_alike(places, labels) > 0.9


def test_places_are_the_same_for_the_same_vectors():
    vectors, _ = groups()
    assert np.array_equal(two_dimensions(vectors), two_dimensions(vectors.copy()))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (2, 4), (3, 1), (12, 1)])
def test_few_vectors_and_single_features_have_places(shape):
    places = two_dimensions(np.random.default_rng(0).random(shape))
    assert places.shape == (shape[0], 2) and np.isfinite(places).all()


@pytest.mark.filterwarnings("error")
def test_equal_vectors_lie_in_one_place():
    assert np.array_equal(two_dimensions(np.full((20, 5), 0.3)), np.zeros((20, 2)))


def test_every_class_has_its_colour_its_places_and_its_name(tmp_path):
    vectors, labels = groups(30)
    figure = embedding_map(vectors, labels)
    places, panel = two_dimensions(vectors), figure.axes[0]
    for number, own in enumerate(panel.collections):
        rows = [row for row, label in enumerate(labels) if label == f"class {number}"]
        assert np.array_equal(own.get_offsets(), places[rows])
    colours = {tuple(own.get_facecolor()[0]) for own in panel.collections}
    assert len(colours) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["class 0", "class 1", "class 2"]
    assert panel.get_title() == "features of 30 photos in two dimensions"


@pytest.mark.parametrize("classes", [2, 10, 20, 38])
def test_colours_tell_classes_apart(classes):
    figure = embedding_map(np.random.default_rng(0).random((classes, 3)), [f"{number:02}" for number in range(classes)])
    assert len({tuple(own.get_facecolor()[0]) for own in figure.axes[0].collections}) == classes


def test_what_is_not_finite_is_left_out_and_told():
    vectors, labels = groups(9)
    vectors[4, 7] = np.nan
    panel = embedding_map(vectors, labels).axes[0]
    assert sum(len(own.get_offsets()) for own in panel.collections) == 8
    assert panel.get_title() == "features of 8 of 9 photos in two dimensions"


def test_of_many_photos_some_are_drawn():
    vectors = np.zeros((2500, 2))
    panel = embedding_map(vectors, ["a", "b"] * 1250).axes[0]
    shown = [len(own.get_offsets()) for own in panel.collections]
    assert sum(shown) == 2000 and min(shown) > 900
    assert panel.get_title() == "features of 2000 of 2500 photos in two dimensions"
