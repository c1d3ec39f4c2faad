"""The reports on linear probes: exact small tables, what is written and read back, pictures."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from sklearn.metrics import f1_score

from biomass_pl.evaluation.probe import mean_r2
from biomass_pl.evaluation.probe_report import ClassProbeReport, ValueProbeReport, probability_column, probe_column

CLASSES = ["007", "None", "spot disease"]


def class_table(truth: list[int], predicted: list[int], folds: list[int]) -> pd.DataFrame:
    """Photos whose probabilities are .6 for the predicted class and .2 for the others."""
    probabilities = np.where(np.eye(3)[predicted] == 1, 0.6, 0.2)
    columns = {probability_column(name): probabilities[:, number] for number, name in enumerate(CLASSES)}
    names = [CLASSES[number] for number in truth]
    table = pd.DataFrame({"image_id": np.arange(len(truth)).astype(str), "fold": folds, "label": names, **columns})
    return ClassProbeReport(column="label").finished(table)


def value_table(rows: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(rows, 2)) + np.array([5, -3])
    columns = {"fold": np.arange(rows) % 4, "grams": truth[:, 0], "height": truth[:, 1]}
    predicted = truth + 0.5 * rng.normal(size=(rows, 2))
    return pd.DataFrame({**columns, "probe_grams": predicted[:, 0], "probe_height": predicted[:, 1]})


def rendered(report, scores) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(report.render(scores, title="probe"))
    return capture.get()


def test_columns_are_named_after_what_they_predict():
    assert (probe_column("grams"), probability_column("healthy")) == ("probe_grams", "prob_healthy")


# Classes


def test_the_most_probable_class_is_the_predicted_one():
    table = class_table([0, 1, 2], [2, 1, 0], [0, 0, 1])
    assert table["probe_label"].tolist() == ["spot disease", "None", "007"]
    even = table.assign(**{probability_column(name): 1 / 3 for name in CLASSES})
    assert ClassProbeReport(column="label").finished(even)["probe_label"].tolist() == ["007"] * 3


def test_what_is_finished_is_finished_once_more_after_averaging():
    """Predictions of several networks are averaged as probabilities, never as names."""
    report = ClassProbeReport(column="label")
    first, second = class_table([0], [0], [0]), class_table([0], [1], [0])
    second[[probability_column(name) for name in CLASSES]] = [[0.0, 0.9, 0.1]]
    assert first["probe_label"].tolist() == ["007"]
    names = [probability_column(name) for name in CLASSES]
    mean = first.assign(**{name: (first[name] + second[name]) / 2 for name in names})
    assert report.finished(mean)["probe_label"].tolist() == ["None"]


def test_unlabelled_photos_are_finished_too():
    table = class_table([0, 1], [1, 2], [0, 0]).drop(columns=["label", "probe_label"])
    assert ClassProbeReport(column="label").finished(table)["probe_label"].tolist() == ["None", "spot disease"]


def test_scores_of_classes_by_hand():
    """Fold 0: 2 of 3 right; fold 1: 1 of 3."""
    table = class_table([0, 0, 1, 0, 1, 2], [0, 0, 2, 1, 1, 1], [0, 0, 0, 1, 1, 1])
    scores = ClassProbeReport(column="label").score(table)
    assert scores["pooled"]["accuracy"] == 0.5 and scores["pooled"]["photos"] == 6
    assert [fold["accuracy"] for fold in scores["folds"].values()] == pytest.approx([2 / 3, 1 / 3])
    expected = f1_score([0, 0, 1, 0, 1, 2], [0, 0, 2, 1, 1, 1], average="macro", labels=[0, 1, 2], zero_division=0)
    assert scores["pooled"]["f1_macro"] == pytest.approx(expected)
    # All classes of the data count, also those that a fold lacks: F1 of 1, 0, 0.
    assert scores["folds"]["0"]["f1_macro"] == pytest.approx(1 / 3)
    low, high = scores["pooled"]["accuracy_interval"]
    assert 0 < low < 0.5 < high < 1 and scores["pooled"]["interval_over"] == "photos"
    json.dumps(scores, allow_nan=False)


def test_the_constant_is_the_commonest_class_of_the_other_folds():
    table = class_table([0, 0, 1, 2, 2, 2], [0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1])
    constant = ClassProbeReport(column="label").score(table)["constant"]
    assert constant["folds"]["0"]["accuracy"] == 0 and constant["folds"]["1"]["accuracy"] == 0
    swapped = ClassProbeReport(column="label").score(table.assign(fold=[0, 1, 0, 0, 1, 1]))["constant"]
    # Fold 0 sees 0, 2, 2 elsewhere and holds out 0, 1, 2; fold 1 sees 0, 1, 2, of which the first counts.
    assert [swapped["folds"][fold]["accuracy"] for fold in "01"] == pytest.approx([1 / 3, 1 / 3])


def test_a_single_fold_has_no_constant():
    report = ClassProbeReport(column="label")
    scores = report.score(class_table([0, 1], [0, 0], [3, 3]))
    assert scores["constant"]["pooled"]["accuracy"] is None
    assert "-" in rendered(report, scores)


def test_a_prediction_that_is_missing_has_no_score():
    report = ClassProbeReport(column="label")
    table = class_table([0, 1, 2], [0, 1, 2], [0, 0, 1])
    table.loc[1, probability_column("None")] = np.nan
    scores = report.score(report.finished(table))
    assert scores["pooled"]["accuracy"] is None and scores["pooled"]["accuracy_interval"] is None
    assert scores["folds"]["0"]["accuracy"] is None and scores["folds"]["1"]["accuracy"] == 1


@pytest.mark.parametrize("name", ["None", "NA", "nan", "1e3"])
def test_names_that_look_like_numbers_or_nothing_survive_the_file(name, tmp_path):
    report = ClassProbeReport(column="label")
    table = class_table([0, 1, 2, 1], [0, 1, 2, 0], [0, 0, 1, 1])
    table = table.replace("None", name).rename(columns={"prob_None": f"prob_{name}"})
    table.to_csv(tmp_path / "oof.csv", index=False)
    texts = dict.fromkeys(report.text_columns, str)
    again = pd.read_csv(tmp_path / "oof.csv", dtype=texts, keep_default_na=False, na_values=[""])
    assert report.score(again) == report.score(table)
    assert report.score(again)["pooled"]["accuracy"] == 0.75


def test_classes_that_are_numbers_in_the_table_are_compared_as_texts():
    report = ClassProbeReport(column="target")
    table = report.finished(
        pd.DataFrame({"fold": [0, 1], "target": [0, 1], "prob_0": [0.9, 0.8], "prob_1": [0.1, 0.2]})
    )
    assert table["probe_target"].tolist() == ["0", "0"] and report.score(table)["pooled"]["accuracy"] == 0.5


# Values


def test_scores_of_values_are_the_mean_r2_of_the_columns():
    table, report = value_table(), ValueProbeReport(columns=("grams", "height"))
    scores = report.score(report.finished(table))
    pairs = table[["grams", "height"]].to_numpy(), table[["probe_grams", "probe_height"]].to_numpy()
    pooled = scores["pooled"]
    assert (
        pooled["r2"] == pytest.approx(mean_r2(*pairs)) == pytest.approx((pooled["r2_grams"] + pooled["r2_height"]) / 2)
    )
    low, high = pooled["r2_interval"]
    assert 0 < low < pooled["r2"] < high < 1
    assert list(scores["folds"]) == ["0", "1", "2", "3"] and scores["folds"]["2"]["photos"] == 10
    json.dumps(scores, allow_nan=False)


def test_the_constant_is_the_mean_of_the_other_folds():
    table = value_table()
    constant = ValueProbeReport(columns=("grams", "height")).score(table)["constant"]
    assert -0.5 < constant["pooled"]["r2"] < 0
    held_out = table["fold"] == 1
    mean = table.loc[~held_out, "grams"].mean()
    grams = table.loc[held_out, "grams"]
    expected = 1 - ((grams - mean) ** 2).sum() / ((grams - grams.mean()) ** 2).sum()
    assert constant["folds"]["1"]["r2_grams"] == pytest.approx(expected)


def test_one_fold_or_equal_values_have_no_constant_and_no_score():
    report = ValueProbeReport(columns=("grams", "height"))
    alone = report.score(value_table().assign(fold=0))
    assert alone["constant"]["pooled"]["r2"] is None and alone["pooled"]["r2"] > 0
    equal = report.score(value_table().assign(grams=1.0, height=2.0))
    assert equal["pooled"]["r2"] is None and equal["pooled"]["r2_interval"] is None


# Both


@pytest.mark.parametrize(
    ("report", "table", "shown"),
    [
        (ClassProbeReport(column="label"), class_table([0, 1, 2, 1], [0, 1, 0, 1], [0, 0, 1, 1]), "0.750"),
        (ValueProbeReport(columns=("grams", "height")), value_table(), "r2_height"),
        (ValueProbeReport(columns=("grams",)), value_table(), "r2_grams"),
    ],
    ids=["classes", "values", "one value"],
)
def test_scores_are_shown_and_drawn(report, table, shown, tmp_path):
    text = rendered(report, report.score(table))
    assert shown in text and "constant" in text and "fold 1" in text and "photos" in text
    report.draw(table, tmp_path / "probe.png")
    with Image.open(tmp_path / "probe.png") as picture:
        assert min(picture.size) > 200 and len(np.unique(np.asarray(picture))) > 10


def test_a_diverged_network_is_drawn_too(tmp_path):
    report, table = ClassProbeReport(column="label"), class_table([0, 1], [0, 1], [0, 1])
    table[[probability_column(name) for name in CLASSES]] = np.nan
    report.draw(report.finished(table), tmp_path / "classes.png")
    values = value_table().assign(probe_grams=np.nan)
    ValueProbeReport(columns=("grams",)).draw(values, tmp_path / "values.png")
    assert (tmp_path / "classes.png").is_file() and (tmp_path / "values.png").is_file()
