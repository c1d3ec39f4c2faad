"""The report on slides: scores worked by hand, each fold with candidates of its own, and what it shows of them."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from sklearn.metrics import roc_auc_score

from biomass_pl.errors import DataError
from biomass_pl.evaluation.bootstrap import Bootstrap
from biomass_pl.evaluation.report import WritesPages
from biomass_pl.slide.report import SlideReport

TRUTH = ["a b c d e", "f g h i j", "k l m n o", "p q r s t", "u v w x y", "z a c e g"]


def made(*, embeddings=True, questions=1, draws=1) -> SlideReport:
    return SlideReport(embeddings=embeddings, questions=questions, bootstrap=Bootstrap(draws=draws, confidence=0.9))


def table_of(**columns) -> pd.DataFrame:
    """Six specimens of four patients in two folds."""
    table = pd.DataFrame(
        {
            "specimen_id": [f"s{number}" for number in range(6)],
            "patient_id": ["p0", "p0", "p1", "p2", "p3", "p3"],
            "fold": [0, 0, 0, 1, 1, 1],
            "report": TRUTH,
        }
    )
    return table.assign(**columns)


def directions(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.arange(1, len(degrees) + 1)[:, None]


IMAGES, TEXTS = directions(0, 90, 180, 0, 90, 180), directions(80, 89, 181, 1, 91, 200)
"""In the first fold the first image is nearest to its text, but that text is nearest to the second image."""

ARRAYS = {"image_embedding": IMAGES, "text_embedding": TEXTS}

CLASSES = {
    "task_0_class": ["no", "yes", "", "yes", "no", "yes"],
    "task_0_prob_no": [0.9, 0.6, 0.5, 0.2, 0.7, 0.1],
    "task_0_prob_yes": [0.1, 0.4, 0.5, 0.8, 0.3, 0.9],
}


@pytest.fixture(scope="module")
def whole() -> pd.DataFrame:
    captions = [TRUTH[0], TRUTH[1], "", *TRUTH[3:]]
    return made().with_array_columns(table_of(**CLASSES, caption=captions), ARRAYS)


def test_ranks_are_among_the_specimens_of_the_fold(whole):
    # To the image at 0 degrees texts lie at 80, 89 and 181; to the text at 80 degrees images lie at 0, 90 and 180.
    assert whole["image_to_text_rank"].tolist() == [1, 1, 1, 1, 1, 1]
    assert whole["text_to_image_rank"].tolist() == [2, 1, 1, 1, 1, 1]
    alone = made().with_array_columns(table_of(fold=0), ARRAYS)
    assert max(alone["image_to_text_rank"]) > 1  # where the other fold's specimens are candidates too
    turned = table_of().iloc[::-1]
    again = made().with_array_columns(turned, {name: array[::-1] for name, array in ARRAYS.items()})
    assert again.sort_index()["text_to_image_rank"].tolist() == whole["text_to_image_rank"].tolist()


def test_scores_by_hand_under_the_published_names(whole):
    scores = made().score(whole)
    pooled, folds = scores["pooled"], scores["folds"]
    assert pooled["specimens"] == 6 and pooled["interval_over"] == "patients" and list(folds) == ["0", "1"]
    assert pooled["image_to_text_R@1"] == 1 and pooled["image_to_text_mean_rank"] == 1
    assert pooled["text_to_image_R@1"] == pytest.approx(5 / 6)
    assert pooled["text_to_image_mean_rank"] == pytest.approx(7 / 6)
    assert pooled["text_to_image_median_rank"] == pooled["text_to_image_R@5"] == 1
    assert folds["0"]["text_to_image_R@1"] == pytest.approx(2 / 3) and folds["1"]["text_to_image_R@1"] == 1
    # Of the three that are `yes` two are taken for it; `s2` has no class and does not count.
    assert pooled["task_0_precision"] == 1 and pooled["task_0_recall"] == pytest.approx(2 / 3)
    truth, probability = [0, 1, 1, 0, 1], [0.1, 0.4, 0.8, 0.3, 0.9]
    assert pooled["task_0_auc_roc"] == pytest.approx(roc_auc_score(truth, probability))
    # Five of six texts are right to the word, and one is empty: the brevity penalty is all there is.
    assert pooled["bleu4"] == pytest.approx(math.exp(1 - 30 / 25), abs=1e-6)
    assert pooled["rouge"] == pytest.approx(5 / 6) and folds["1"]["bleu4"] == pytest.approx(1, abs=1e-6)
    assert {"bleu1", "bleu2", "bleu3", "cider"} <= pooled.keys() and not any("_ci_" in name for name in pooled)


def test_chance_is_what_random_order_shares_and_other_reports_give(whole):
    constant = made().score(whole)["constant"]
    pooled = constant["pooled"]
    assert pooled["image_to_text_mean_rank"] == pooled["text_to_image_median_rank"] == 2
    assert pooled["image_to_text_R@1"] == pytest.approx(1 / 3) and pooled["text_to_image_R@5"] == 1
    assert pooled["task_0_auc_roc"] == 0.5 and pooled["task_0_recall"] == 1  # all `yes`, the larger share
    assert pooled["bleu4"] < 0.01 and set(constant["folds"]) == {"0", "1"}
    assert pooled.keys() == made().score(whole)["folds"]["0"].keys() - {"specimens"}


def test_intervals_are_over_patients_and_of_all_folds_pooled(whole):
    report = made(draws=300)
    scores = report.score(whole)
    pooled = scores["pooled"]
    for name in ("text_to_image_R@1", "task_0_auc_roc", "bleu4"):
        assert pooled[f"{name}_ci_lower"] <= pooled[name] <= pooled[f"{name}_ci_upper"]
    assert pooled["text_to_image_R@1_ci_lower"] < 1 == pooled["text_to_image_R@1_ci_upper"]
    assert not any("_ci_" in name for name in scores["folds"]["0"]) and report.score(whole) == scores
    # Whose the specimens are changes the intervals and nothing else.
    others = report.score(whole.assign(patient_id=["p0", "p1", "p2", "p3", "p0", "p2"]))["pooled"]
    assert others["text_to_image_R@1"] == pooled["text_to_image_R@1"] and others != pooled


def test_what_a_network_does_not_give_is_not_scored():
    bare = table_of()
    assert made(embeddings=False, questions=0).with_array_columns(bare, {}) is bare
    assert made(questions=0).score(bare)["pooled"] == {"specimens": 6, "interval_over": "patients"}
    captions = made(embeddings=False, questions=0).score(table_of(caption=TRUTH))["pooled"]
    assert captions["bleu4"] == pytest.approx(1, abs=1e-6) and "image_to_text_R@1" not in captions
    assert made().uses_arrays and not made(embeddings=False).uses_arrays


def test_vectors_that_are_not_finite_leave_no_score_but_a_report(whole, tmp_path):
    broken = {name: np.full_like(array, np.nan) for name, array in ARRAYS.items()}
    table = table_of(**{**CLASSES, "task_0_prob_no": np.nan, "task_0_prob_yes": np.nan})
    table = made().with_array_columns(table, broken)
    scores = made(draws=20).score(table)
    assert scores["pooled"]["image_to_text_R@1"] is scores["pooled"]["task_0_auc_roc"] is None
    json.dumps(scores, allow_nan=False)
    assert "-" in text_of(made().render(scores, title="x"))
    made().draw(table, tmp_path / "drawn.png")


def test_questions_with_examples_have_names_of_their_own_and_leave_the_examples_out():
    columns = {
        "fewshot_1_class": ["", "yes", "no", "yes", "no", "no"],
        **{f"fewshot_1_prob_{label}": [0.5] * 6 for label in ("no", "yes")},
        **{f"fewshot_1_probe_prob_{label}": values for label, values in (("no", [0, 0, 1, 0, 1, 1]), ("yes", [1, 1, 0, 1, 0, 0]))},
    }  # fmt: skip
    report = made(embeddings=False, questions=2)
    pooled = report.score(table_of(**columns))["pooled"]
    assert pooled["fewshot_1_auc_roc"] == 0.5 and pooled["fewshot_1_probe_auc_roc"] == 1
    assert {"fewshot_0_class", "fewshot_1_class", "task_0_class", "task_1_class", "report", "caption"} == set(
        report.text_columns
    )


def test_a_class_without_probabilities_and_a_table_without_rows_are_refused():
    strange = table_of(**{**CLASSES, "task_0_class": ["maybe", *CLASSES["task_0_class"][1:]]})
    with pytest.raises(DataError, match=r"task_0_class has the class 'maybe', .* task_0_prob_<class>\. Predict again"):
        made().score(strange)
    with pytest.raises(DataError, match="no predicted specimen"):
        made().score(table_of().iloc[:0])


def text_of(grid) -> str:
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(grid)
    return captured.get()


def test_the_terminal_shows_scores_chance_and_intervals(whole):
    report = made(draws=50)
    scores = report.score(whole)
    scores["pooled_last"] = scores["pooled"] | {"bleu4": 0.123}
    shown = text_of(report.render(scores, title="runs/[1]"))
    assert "runs/[1]" in shown and max(map(len, shown.splitlines())) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.split()}
    assert rows["text_to_image_R@1"][:3] == ["0.833", "0.667", "1.000"]
    assert ["0.333", "0.333", "0.333"] in [line.split()[1:] for line in shown.splitlines() if "  constant" in line]
    assert rows["specimens"] == ["6", "3", "3"] and "last epoch 0.123" in shown
    low, high = (f"{scores['pooled'][f'image_to_text_R@1_ci_{end}']:.3f}" for end in ("lower", "upper"))
    assert f"image_to_text_R@1 1.000, 90 % {low} to {high}" in shown


@pytest.mark.parametrize("columns", [["all"], ["caption"], ["classes"], []], ids=str)
def test_the_picture_shows_what_there_is(columns, whole, tmp_path):
    kept = {"all": list(whole), "caption": ["caption"], "classes": list(CLASSES)}
    names = [name for kind in columns for name in kept[kind]]
    table = whole[[*dict.fromkeys([*table_of(), *names])]]
    made().draw(table, tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as drawn:
        panels = {"all": 3, "caption": 1, "classes": 1}.get("".join(columns), 1)
        assert drawn.width == pytest.approx(panels * drawn.height, rel=0.02)


def test_captions_stand_beside_the_truth_in_a_page_and_in_json(whole, tmp_path):
    report = made(draws=20)
    assert isinstance(report, WritesPages)
    scores = report.score(whole)
    files = report.write_pages(whole, scores, lambda what, suffix: tmp_path / f"{what}{suffix}", title="A & B")
    assert [file.name for file in files] == ["captions.json", "captions.html"]
    content = json.loads(files[0].read_text())
    assert list(content["predictions"]) == whole["specimen_id"].tolist()
    first, empty = content["predictions"]["s0"], content["predictions"]["s2"]
    assert first["ground_truth"] == first["generated"] == TRUTH[0] and first["scores"]["bleu4"] == pytest.approx(1)
    assert empty["generated"] == "" and empty["scores"]["rouge"] == 0
    assert content["metrics"]["bleu4"] == scores["pooled"]["bleu4"]
    assert content["metrics"]["bleu4_ci_upper"] == scores["pooled"]["bleu4_ci_upper"]
    assert "image_to_text_R@1" not in content["metrics"]
    page = files[1].read_text()
    assert "<h1>A &amp; B</h1>" in page and all(text in page for text in TRUTH)
    assert report.write_pages(whole.drop(columns="caption"), scores, lambda *_: tmp_path / "x", title="") == []


def test_a_specimen_that_several_folds_describe_is_named_with_its_fold(whole, tmp_path):
    twice = pd.concat([whole, whole.assign(fold=whole["fold"] + 2)], ignore_index=True)
    report = made()
    files = report.write_pages(twice, report.score(twice), lambda what, suffix: tmp_path / f"{what}{suffix}", title="")
    names = list(json.loads(files[0].read_text())["predictions"])
    assert len(names) == 12 and "s0 (fold 0)" in names and "s0 (fold 2)" in names
