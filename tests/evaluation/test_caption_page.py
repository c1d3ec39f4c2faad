"""Captions as a file for programs and a page for readers."""

import json
import math
from html.parser import HTMLParser

import pytest

from biomass_pl.evaluation.caption_page import Caption, write_caption_json, write_caption_page
from biomass_pl.evaluation.text_scores import METEOR_NOTE

CAPTIONS = [
    Caption(
        name="s1",
        truth="A nevus.\nIt is <b>benign</b> & free.",
        generated="<script>alert('x')</script>",
        scores={"bleu4": 0.25, "rouge": math.nan},
    ),
    Caption(name='s"2<i>', truth="Größe ≥ 1 mm", generated="", scores={"bleu4": 1.0, "rouge": 0.5}),
]
METRICS = {
    "bleu4": 0.5,
    "bleu4_mean": 0.52,
    "bleu4_ci_lower": 0.4,
    "bleu4_ci_upper": 0.625,
    "image_to_text_mean_rank": 3.0,
    "cider": math.nan,
    "cider_mean": math.nan,
    "cider_ci_lower": math.nan,
    "cider_ci_upper": math.nan,
}


class Page(HTMLParser):
    """Tags and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not {"src", "href", "onclick"} & {name for name, _ in attrs}

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def page(tmp_path) -> Page:
    path = tmp_path / "made" / "captions.html"
    write_caption_page(CAPTIONS, METRICS, path, title="Run <7> & more")
    assert [file.name for file in path.parent.iterdir()] == ["captions.html"]
    return Page(path.read_text(encoding="utf-8"))


def test_the_file_has_the_published_form(tmp_path):
    path = tmp_path / "captions.json"
    write_caption_json(CAPTIONS, METRICS, path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert list(content) == ["predictions", "metrics"]
    assert content["predictions"]["s1"] == {
        "ground_truth": CAPTIONS[0].truth,
        "generated": CAPTIONS[0].generated,
        "scores": {"bleu4": 0.25, "rouge": None},
    }
    assert content["metrics"] == {name: None if math.isnan(value) else value for name, value in METRICS.items()}


def test_the_page_shows_each_text_as_it_is(page):
    for caption in CAPTIONS:
        assert {caption.name, caption.truth} <= set(page.texts)
    assert CAPTIONS[0].generated in page.texts
    assert "bleu4 0.250, rouge -" in page.texts
    assert page.texts.count("Run <7> & more") == 2  # the title and the heading


def test_no_text_is_taken_for_markup(page):
    assert {"script", "b", "i"}.isdisjoint(page.tags)
    assert page.tags.count("article") == 2


def test_a_score_has_its_interval_in_one_row(page):
    rows = [text for text in page.texts if text.strip()]
    start = rows.index("bleu4")
    assert rows[start : start + 7] == [
        "bleu4",
        "0.500",
        "0.400 to 0.625",
        "image_to_text_mean_rank",
        "3.000",
        "cider",
        "-",
    ]
    assert not {"bleu4_mean", "bleu4_ci_lower"} & set(rows)


def test_meteor_is_told_with_what_it_is(page, tmp_path):
    assert METEOR_NOTE not in page.texts
    path = tmp_path / "other.html"
    write_caption_page(CAPTIONS, {"meteor": 0.3}, path, title="t")
    assert METEOR_NOTE in Page(path.read_text(encoding="utf-8")).texts
