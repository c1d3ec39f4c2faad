"""Generated texts beside true ones: a JSON file for programs and a page for readers. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from biomass_pl.evaluation.report import defined, formatted
from biomass_pl.evaluation.text_scores import METEOR_NOTE
from biomass_pl.files import write_json, write_text

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
article { border-top: 1px solid #bbb; padding: .5rem 0; }
h2 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
.texts { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 0 2rem; }
.texts p { white-space: pre-wrap; overflow-wrap: anywhere; margin: .2rem 0; }
.label, .scores { color: #666; font-size: .85rem; }
"""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A generated text and the true one.

    Args:
        name: Name of the item.
        truth: The true text.
        generated: The generated text.
        scores: Scores of the generated text by name.
    """

    name: str
    truth: str
    generated: str
    scores: Mapping[str, float]


def write_caption_json(captions: Sequence[Caption], metrics: Mapping[str, float], path: Path) -> None:
    """Writes `predictions` (by name: `ground_truth`, `generated`, `scores`) and `metrics`, whole or not at all.

    Args:
        captions: The texts.
        metrics: Scores of all of them; null in the file where not defined.
        path: The JSON file.
    """
    predictions = {
        caption.name: {
            "ground_truth": caption.truth,
            "generated": caption.generated,
            "scores": _defined(caption.scores),
        }
        for caption in captions
    }
    write_json({"predictions": predictions, "metrics": _defined(metrics)}, path)


def write_caption_page(captions: Sequence[Caption], metrics: Mapping[str, float], path: Path, *, title: str) -> None:
    """Writes a page with the scores and, one below another, each generated text beside the true one.

    The page needs no other file; nothing in a text is taken for markup.

    Args:
        captions: The texts, in the order of the page.
        metrics: Scores of all of them, with intervals as `scores_with_intervals` names them.
        path: The HTML file; whole or not written at all.
        title: Heading of the page.
    """
    heading = escape(title)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{heading}</h1>",
        _score_table(metrics),
        *([f"<p>{escape(METEOR_NOTE)}</p>"] if "meteor" in metrics else []),
        *(_article(caption) for caption in captions),
        "</body>\n</html>\n",
    ]
    write_text("\n".join(parts), path)


def _score_table(metrics: Mapping[str, float]) -> str:
    """A row per score: its value and, where there is one, its interval."""
    parts = ("_mean", "_ci_lower", "_ci_upper")
    of_intervals = {f"{name}{part}" for name in metrics for part in parts}
    names = [name for name in metrics if name not in of_intervals]
    rows = []
    for name in names:
        ends = [formatted(defined(metrics[name + part])) for part in parts[1:] if name + part in metrics]
        interval = " to ".join(ends)
        value = formatted(defined(metrics[name]))
        rows.append(f"<tr><td>{escape(name)}</td><td>{value}</td><td>{interval}</td></tr>")
    return "<table>\n<tr><th>score</th><th>value</th><th>interval</th></tr>\n" + "\n".join(rows) + "\n</table>"


def _article(caption: Caption) -> str:
    scores = ", ".join(f"{name} {formatted(defined(value))}" for name, value in caption.scores.items())
    return (
        f'<article>\n<h2>{escape(caption.name)}</h2>\n<div class="texts">\n'
        f'<div><span class="label">truth</span><p>{escape(caption.truth)}</p></div>\n'
        f'<div><span class="label">generated</span><p>{escape(caption.generated)}</p></div>\n'
        f'</div>\n<div class="scores">{escape(scores)}</div>\n</article>'
    )


def _defined(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: defined(float(value)) for name, value in scores.items()}
