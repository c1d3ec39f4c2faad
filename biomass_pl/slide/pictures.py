"""Pictures of predicted specimens: how early counterparts are found, classes, vectors of both towers. No torch."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import auc, roc_curve

from biomass_pl.evaluation.class_pictures import distinct_colours, shortened, two_dimensions
from biomass_pl.evaluation.photo_sheets import without_formulas
from biomass_pl.evaluation.prompt_classes import ClassPredictions, positive_class
from biomass_pl.evaluation.retrieval import RetrievalRanks, unit_vectors

_MOST_PAIRS = 1000
"""t-SNE of more takes minutes."""

_MOST_CLASSES = 10
"""Colours of the first classes can be told apart."""

_LONGEST_NAME = 28


def draw_recall(panel: Axes, ranks: RetrievalRanks, galleries: np.ndarray) -> None:
    """Draws the share of specimens whose counterpart is among the first K, over K, and how many have which rank.

    Args:
        panel: Where to.
        ranks: Ranks of all specimens.
        galleries: Number of candidates of each specimen (items,), for what chance finds.
    """
    most = int(galleries.max())
    places = np.arange(1, most + 1)
    directions = {"report by image": ranks.image_to_text, "image by report": ranks.text_to_image}
    for number, (name, found) in enumerate(directions.items()):
        finite = found[np.isfinite(found)]
        recall = (finite[:, None] <= places).mean(axis=0) if len(finite) else np.full(most, np.nan)
        label = f"{name}: R@1 {recall[0]:.2f}, R@10 {recall[min(10, most) - 1]:.2f}"
        (line,) = panel.step(places, recall, where="post", label=label)
        shares = np.bincount(np.ceil(finite).astype(int), minlength=most + 1)[1:] / max(1, len(finite))
        panel.bar(places + 0.3 * (number - 0.5), shares, width=0.3, alpha=0.4, color=line.get_color())
    chance = np.minimum(1, places / galleries[:, None]).mean(axis=0)
    panel.plot(places, chance, color="grey", linestyle=":", linewidth=1, label="chance")
    panel.set(
        title="found among the first K (line), and at rank K (bar)",
        xlabel=f"K, of {most} in a fold" if len(np.unique(galleries)) == 1 else f"K, of up to {most} in a fold",
        ylabel="share of the specimens",
        ylim=(-0.02, 1.02),
    )
    panel.legend(loc="center right")


def draw_roc(panel: Axes, questions: Mapping[str, ClassPredictions]) -> None:
    """Draws ROC curves: of two classes that of the one looked for, of more one for each against all others.

    Args:
        panel: Where to.
        questions: What the specimens were taken for, by the name of the question.
    """
    panel.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    for name, found in questions.items():
        looked_for = [positive_class(found.classes)] if len(found.classes) == 2 else found.classes[:_MOST_CLASSES]
        for label in looked_for:
            number = found.classes.index(label)
            own = found.truth == number
            if own.all() or not own.any() or not np.isfinite(found.probabilities).all():
                continue
            false, true, _ = roc_curve(own, found.probabilities[:, number])
            text = f"{name} {shortened(label, _LONGEST_NAME)}: {auc(false, true):.2f}"
            panel.plot(false, true, linewidth=1, label=without_formulas(text))
    panel.set(
        title="zero-shot classes by prompts, area under the curve",
        xlabel="false positive rate",
        ylabel="true positive rate",
        aspect="equal",
    )
    if panel.get_legend_handles_labels()[0]:
        panel.legend(loc="lower right", fontsize=7)


def draw_text_scores(panel: Axes, scores: np.ndarray, *, name: str) -> None:
    """Draws how many texts have which score.

    Args:
        panel: Where to.
        scores: One per text.
        name: What the score is called.
    """
    panel.hist(scores, bins=20, range=(0, 1))
    panel.set(title=f"{name} of the generated reports", xlabel=name, ylabel="specimens")


def tower_map(image: np.ndarray, text: np.ndarray, labels: Sequence[str]) -> Figure:
    """A figure of the vectors of both towers in two dimensions, a line from each image to its report.

    Args:
        image: Of one network (items, D); pairs that are not finite are left out, of many a random choice is drawn.
        text: Of the reports (items, D).
        labels: Class of each, for its colour.
    """
    rows = np.flatnonzero(np.isfinite(image).all(axis=1) & np.isfinite(text).all(axis=1))
    if len(rows) > _MOST_PAIRS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST_PAIRS, replace=False))
    # Each tower has a region of its own; less its mean, it shows which pairs lie together.
    towers = [unit_vectors(vectors[rows]) for vectors in (image, text)]
    centred = [vectors - vectors.mean(axis=0) for vectors in towers if len(rows)]
    places = two_dimensions(np.concatenate(centred)) if centred else np.empty((0, 2))
    images, texts = places[: len(rows)], places[len(rows) :]
    figure = Figure(figsize=(10, 7), layout="constrained")
    panel = figure.subplots()
    panel.plot(*np.stack([images, texts], axis=1).T, color="grey", linewidth=0.4, alpha=0.5)
    named = np.asarray(labels, dtype=object)[rows]
    names = sorted(set(labels))
    for name, colour in zip(names, distinct_colours(len(names)), strict=True):
        own = named == name
        panel.scatter(images[own, 0], images[own, 1], s=16, color=colour)
        panel.scatter(texts[own, 0], texts[own, 1], s=22, color=colour, marker="x")
    panel.set(
        title=f"{len(rows)} images (dots) and their reports (crosses), less each tower's mean", xticks=[], yticks=[]
    )
    legend = figure.legend(panel.collections[::2], [str(n) for n in range(len(names))], loc="outside right upper")
    # Names are set afterwards: a legend leaves out those that start with an underscore.
    for entry, name in zip(legend.get_texts(), names, strict=True):
        entry.set_text(without_formulas(shortened(name, _LONGEST_NAME)))
    return figure
