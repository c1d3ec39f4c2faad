"""Pictures of predicted classes: confusion, reliability, the worst mistakes, features, attention. No torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from biomass_pl.evaluation.calibration import ReliabilityBins
from biomass_pl.evaluation.photo_sheets import sheet_figure, thumbnail, without_formulas
from biomass_pl.evaluation.pictures import save_figure

_MOST_CELLS_WITH_NUMBERS = 40
_CELL = 0.55
"""Inches of a cell of the confusion matrix, in which two lines of numbers are readable."""

_MATRIX = (5.0, 20.0)
"""Smallest and largest side of the confusion matrix in inches."""

_MOST_MISTAKES = 20
_TITLE = 64
"""Characters of a line above two thumbnails."""

_MOST_POINTS = 2000
"""t-SNE of more photos takes minutes."""

_FEWEST_FOR_TSNE = 10
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A photo that was predicted as another class than its own.

    Args:
        name: What the photo is called.
        truth: Its class.
        predicted: The predicted class.
        probability: Probability of the predicted class.
    """

    name: str
    truth: str
    predicted: str
    probability: float


def shortened(name: str, most: int) -> str:
    """A name of so many characters at most, cut in the middle: both the start and the end tell names apart."""
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[len(name) - end :]}"


def matrix_size(classes: int) -> float:
    """Side of a readable confusion matrix in inches."""
    return float(np.clip(_CELL * classes, *_MATRIX))


def draw_confusion(panel: Axes, counts: np.ndarray, classes: Sequence[str]) -> None:
    """Draws a confusion matrix: photos in the cells, coloured by their share of the true class.

    Args:
        panel: Where to.
        counts: Photos by true class (rows) and predicted class (columns) (K, K).
        classes: Names of the classes in order.
    """
    of_class = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, of_class, out=np.zeros(counts.shape), where=of_class > 0)
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [without_formulas(shortened(name, 28)) for name in classes]
    size = min(9.0, 72 * 0.8 * matrix_size(len(classes)) / len(classes))
    panel.set_xticks(range(len(classes)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
    panel.set_yticks(range(len(classes)), names, fontsize=size)
    panel.set(title="photos, and their share of the true class", xlabel="predicted", ylabel="true")
    if len(classes) > _MOST_CELLS_WITH_NUMBERS:
        return
    for row, column in zip(*np.nonzero(counts), strict=True):
        share = shares[row, column]
        panel.text(
            column,
            row,
            f"{counts[row, column]}\n{100 * share:.0f} %",
            ha="center",
            va="center",
            fontsize=min(8.0, size),
            color="white" if share > 0.5 else "black",
        )


def draw_reliability(panel: Axes, curves: Mapping[str, ReliabilityBins]) -> None:
    """Draws the accuracy of photos over their confidence; on the diagonal, a probability means what it says.

    Args:
        panel: Where to.
        curves: Bins of each kind of probabilities, such as before and after scaling, by name.
    """
    panel.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    for name, bins in curves.items():
        filled = bins.photos > 0
        label = f"{name}: ECE {bins.calibration_error:.3f}"
        (line,) = panel.plot(bins.confidence[filled], bins.accuracy[filled], linewidth=1, label=label)
        # The area of a dot is its share of the photos.
        areas = 10 + 400 * bins.photos[filled] / bins.photos.sum()
        panel.scatter(bins.confidence[filled], bins.accuracy[filled], s=areas, alpha=0.5, color=line.get_color())
    panel.set(
        title="reliability; a dot is as large as its share of the photos",
        xlabel="confidence: probability of the predicted class",
        ylabel="accuracy",
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
        aspect="equal",
    )
    if curves:
        panel.legend(loc="best")


def worst_mistakes(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Rows that are predicted wrongly, that with the least probable truth first, of equals the first.

    Args:
        truth: Class numbers (photos,).
        probabilities: A row per photo (photos, K).
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != truth)
    return wrong[np.argsort(probabilities[wrong, truth[wrong]], kind="stable")]


def mistakes_sheet(mistakes: Sequence[Mistake], photo: Callable[[str], np.ndarray], path: Path, *, photos: int) -> None:
    """Draws the first twenty mistakes as thumbnails with the true class, the predicted one and its probability.

    Args:
        mistakes: All of them, the worst first.
        photo: Reads a photo by its name: RGB bytes (height, width, 3).
        path: The PNG file.
        photos: How many photos were predicted.
    """
    shown = mistakes[:_MOST_MISTAKES]
    captions = [
        f"{shortened(mistake.truth, 34)}\n→ {shortened(mistake.predicted, 26)} ({mistake.probability:.2f})\n"
        f"{shortened(mistake.name, 40)}"
        for mistake in shown
    ]
    title = f"{len(mistakes)} of {photos} photos predicted wrongly"
    if len(shown) < len(mistakes):
        title += f", the worst {len(shown)}"
    if shown:
        title += "\ntrue class → predicted class (its probability)"
    figure, panels = sheet_figure(len(shown), title=title)
    for panel, mistake, caption in zip(panels, shown, captions, strict=True):
        panel.imshow(thumbnail(photo(mistake.name)))
        panel.set_title(without_formulas(caption), fontsize=7)
    save_figure(figure, path)


def attention_sheet(
    photos: Sequence[np.ndarray], maps: Sequence[np.ndarray], titles: Sequence[str], path: Path
) -> None:
    """Draws photos, each beside itself under its heat map: where the network looked.

    Args:
        photos: RGB bytes (height, width, 3) of each.
        maps: Numbers of each, of any size: the more, the more it counted. Each is coloured from its least to its most.
        titles: What stands above each.
        path: The PNG file.
    """
    figure, panels = sheet_figure(2 * len(photos), columns=4)
    pairs = zip(panels[::2], panels[1::2], strict=True)
    for (plain, covered), picture, heat, title in zip(pairs, photos, maps, titles, strict=True):
        small = thumbnail(picture)
        height, width = small.shape[:2]
        for panel in (plain, covered):
            panel.imshow(small)
        covered.imshow(
            heat, cmap="turbo", alpha=0.5, interpolation="bilinear", extent=(-0.5, width - 0.5, height - 0.5, -0.5)
        )
        lines = [shortened(line, _TITLE) for line in title.splitlines()]
        plain.set_title(without_formulas("\n".join(lines)), fontsize=8, loc="left")
    save_figure(figure, path)


def two_dimensions(vectors: np.ndarray) -> np.ndarray:
    """Places for vectors in a plane that keep neighbours together: PCA to 50 dimensions, then t-SNE.

    Args:
        vectors: Of one network: another's mean something else (photos, features).

    Returns:
        (photos, 2), the same for the same vectors. With less than ten photos or two features,
        the principal components.
    """
    if len(vectors) < 2 or np.ptp(vectors, axis=0).max() == 0:
        return np.zeros((len(vectors), 2))
    reduced = PCA(n_components=min(50, *vectors.shape), random_state=_SEED).fit_transform(vectors.astype(np.float64))
    if len(vectors) < _FEWEST_FOR_TSNE or reduced.shape[1] < 2:
        return np.pad(reduced, ((0, 0), (0, 1)))[:, :2]
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=_SEED).fit_transform(reduced))


def embedding_map(vectors: np.ndarray, labels: Sequence[str]) -> Figure:
    """A figure of vectors in two dimensions (see `two_dimensions`), coloured by class.

    Args:
        vectors: Of one network, such as the features of a fold's held-out photos (photos, features). Rows that are
            not finite are left out; of more than 2000, a random choice is drawn.
        labels: Class of each.
    """
    finite = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    rows = finite
    if len(finite) > _MOST_POINTS:
        rows = np.sort(np.random.default_rng(_SEED).choice(finite, _MOST_POINTS, replace=False))
    places = two_dimensions(vectors[rows])
    named = np.asarray(labels, dtype=object)[rows]
    classes = sorted(set(labels))
    figure = Figure(figsize=(10, 7), layout="constrained")
    panel = figure.subplots()
    for name, colour in zip(classes, distinct_colours(len(classes)), strict=True):
        own = places[named == name]
        panel.scatter(own[:, 0], own[:, 1], s=16, alpha=0.8, color=colour)
    shown = f"{len(rows)} photos" if len(rows) == len(labels) else f"{len(rows)} of {len(labels)} photos"
    panel.set(title=f"features of {shown} in two dimensions", xticks=[], yticks=[])
    legend = figure.legend(
        panel.collections, [str(number) for number in range(len(classes))], loc="outside right upper", fontsize=8
    )
    # Names are set afterwards: a legend leaves out those that start with an underscore.
    for text, name in zip(legend.get_texts(), classes, strict=True):
        text.set_text(without_formulas(shortened(name, 28)))
    return figure


def distinct_colours(count: int) -> np.ndarray:
    """As many colours as can be told apart."""
    if count <= 10:
        return np.asarray(matplotlib.colormaps["tab10"](range(count)))
    if count <= 20:
        return np.asarray(matplotlib.colormaps["tab20"](range(count)))
    return np.asarray(matplotlib.colormaps["turbo"](np.linspace(0, 1, count)))
