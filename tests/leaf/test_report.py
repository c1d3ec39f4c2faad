"""The report on leaf disease: scores and intervals, calibration by fold, what is printed, drawn and written."""

import io
import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from sklearn.metrics import accuracy_score, f1_score, log_loss

from biomass_pl.errors import DataError
from biomass_pl.evaluation.calibration import expected_calibration_error, fit_temperature
from biomass_pl.evaluation.report import ShowsPhotos
from biomass_pl.harness.out_of_fold import read_predictions
from biomass_pl.leaf.report import LeafReport

CLASSES = ("Curl Virus", "Healthy Leaf", "Rust, common/late")
SCORES = ("accuracy", "f1_macro", "balanced_accuracy", "log_loss", "ece", "ece_scaled", "log_loss_scaled")


def make_table(
    *, photos: int = 150, folds: int = 5, classes: tuple[str, ...] = CLASSES, sharpness: float = 3.0
) -> pd.DataFrame:
    """Photos of all classes in turn whose network is too sure of itself."""
    generator = np.random.default_rng(1)
    truth = np.arange(photos) % len(classes)
    logits = sharpness * (generator.normal(size=(photos, len(classes))) + 1.2 * np.eye(len(classes))[truth])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame(
        {
            "image_id": [f"Original Dataset/{classes[number]}/{photo}.jpg" for photo, number in enumerate(truth)],
            "fold": np.arange(photos) // len(classes) % folds,
            "label": [classes[number] for number in truth],
            **{f"prob_{name}": shares[:, number] for number, name in enumerate(classes)},
        }
    )
    return LeafReport().finished(table)


def probabilities(table: pd.DataFrame) -> np.ndarray:
    return table[[name for name in table if name.startswith("prob_")]].to_numpy()


def truth(table: pd.DataFrame, classes: tuple[str, ...] = CLASSES) -> np.ndarray:
    return np.array([classes.index(name) for name in table["label"]])


def test_scores_pooled_and_per_fold_are_those_of_the_columns():
    table = make_table()
    scores = LeafReport().score(table)
    assert list(scores["folds"]) == ["0", "1", "2", "3", "4"]
    parts = {"pooled": table, **{fold: table[table["fold"] == int(fold)] for fold in scores["folds"]}}
    for part, rows in parts.items():
        values = scores["pooled"] if part == "pooled" else scores["folds"][part]
        assert values["photos"] == len(rows)
        assert values["accuracy"] == accuracy_score(rows["label"], rows["label_pred"])
        assert values["f1_macro"] == pytest.approx(f1_score(rows["label"], rows["label_pred"], average="macro"))
        assert values["log_loss"] == pytest.approx(log_loss(truth(rows), probabilities(rows), labels=range(3)))
        assert values["ece"] == expected_calibration_error(truth(rows), probabilities(rows))
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_all_scores_are_there_by_name():
    scores = LeafReport().score(make_table())
    both = {
        "photos",
        *SCORES,
        "f1_weighted",
        "precision_macro",
        "precision_weighted",
        "recall_macro",
        "recall_weighted",
    }
    both.add("per_class")
    assert set(scores["pooled"]) == {*both, "accuracy_interval", "f1_macro_interval", "interval_over"}
    assert all(set(fold) == {*both, "temperature"} for fold in scores["folds"].values())
    assert scores["pooled"]["interval_over"] == "source photos"


def test_scores_of_each_class():
    table = make_table()
    per_class = LeafReport().score(table)["pooled"]["per_class"]
    assert list(per_class) == list(CLASSES)
    for name, values in per_class.items():
        named, predicted = table["label"] == name, table["label_pred"] == name
        assert values["photos"] == named.sum()
        assert values["precision"] == pytest.approx((named & predicted).sum() / predicted.sum())
        assert values["recall"] == pytest.approx((named & predicted).sum() / named.sum())
        assert values["f1"] == pytest.approx(2 * (named & predicted).sum() / (named.sum() + predicted.sum()))


def test_a_constant_prediction_is_the_most_frequent_class():
    table = make_table(photos=60, folds=2).iloc[3:]
    table = pd.concat([table, table[table["label"] == "Healthy Leaf"].head(3)], ignore_index=True)
    constant = LeafReport().score(table)["constant"]
    share = (table["label"] == "Healthy Leaf").mean()
    assert constant["pooled"] == pytest.approx({"accuracy": share, "f1_macro": 2 * share / (1 + share) / 3})
    for fold, values in constant["folds"].items():
        assert values["accuracy"] == (table["label"][table["fold"] == int(fold)] == "Healthy Leaf").mean()


def test_probabilities_are_scaled_by_the_temperature_that_fits_the_other_folds():
    table = make_table()
    scores = LeafReport().score(table)
    shares = probabilities(table)
    scaled = np.empty(shares.shape)
    for fold in range(5):
        own = (table["fold"] == fold).to_numpy()
        temperature = fit_temperature(np.log(shares[~own]), truth(table)[~own])
        assert scores["folds"][str(fold)]["temperature"] == pytest.approx(temperature, rel=1e-6) and temperature > 1.5
        powers = shares[own] ** (1 / temperature)
        scaled[own] = powers / powers.sum(axis=1, keepdims=True)
    pooled = scores["pooled"]
    assert pooled["log_loss_scaled"] == pytest.approx(log_loss(truth(table), scaled, labels=range(3)), rel=1e-6)
    assert pooled["ece_scaled"] == pytest.approx(expected_calibration_error(truth(table), scaled), abs=1e-6)
    assert pooled["log_loss_scaled"] < pooled["log_loss"] and pooled["ece_scaled"] < pooled["ece"]


def test_the_labels_of_a_fold_have_no_say_in_its_temperature():
    table = make_table()
    changed = table.copy()
    own = changed["fold"] == 2
    changed.loc[own, "label"] = changed.loc[own, "label"].map(dict(zip(CLASSES, reversed(CLASSES), strict=True)))
    before, after = (LeafReport().score(rows)["folds"] for rows in (table, changed))
    assert after["2"]["temperature"] == before["2"]["temperature"]
    assert after["1"]["temperature"] != before["1"]["temperature"]


def test_a_fold_alone_is_scored_without_a_temperature():
    scores = LeafReport().score(make_table(folds=1))
    for values in (scores["pooled"], scores["folds"]["0"]):
        assert values["ece_scaled"] is None and values["log_loss_scaled"] is None and values["ece"] > 0
    assert scores["folds"]["0"]["temperature"] is None
    assert rows_of(printed(scores))["ece scaled"] == ["-", "-"]


def test_the_intervals_contain_the_scores():
    pooled = LeafReport().score(make_table())["pooled"]
    for name in ("accuracy", "f1_macro"):
        low, high = pooled[f"{name}_interval"]
        assert 0 < low < pooled[name] < high < 1
    # A normal distribution has 95 % within 1.96 standard deviations.
    spread = math.sqrt(pooled["accuracy"] * (1 - pooled["accuracy"]) / 150)
    low, high = pooled["accuracy_interval"]
    assert high - low == pytest.approx(3.92 * spread, rel=0.1)


def test_photos_of_one_source_are_drawn_together():
    # Four copies of every photo say no more than one.
    once, fourfold = make_table(), pd.concat([make_table()] * 4, ignore_index=True)
    expected = LeafReport().score(once)["pooled"]["accuracy_interval"]
    own = fourfold.assign(image_id=fourfold.index.astype(str))
    together = LeafReport().score(own.assign(source=fourfold["image_id"]))["pooled"]["accuracy_interval"]
    assert together == pytest.approx(expected)
    low, high = LeafReport().score(own)["pooled"]["accuracy_interval"]
    assert high - low < 0.6 * (expected[1] - expected[0])


@pytest.mark.parametrize("unknown", ["", None])
def test_a_photo_without_a_source_is_its_own(unknown):
    table = make_table()
    expected = LeafReport().score(table)
    assert LeafReport().score(table.assign(source=unknown)) == expected


def test_a_single_source_has_scores_and_no_interval():
    pooled = LeafReport().score(make_table().assign(source="one"))["pooled"]
    assert pooled["accuracy"] > 0.4
    assert pooled["accuracy_interval"] is None and pooled["f1_macro_interval"] is None


def test_a_table_of_one_class_is_refused():
    with pytest.raises(DataError, match=r"all 150 photo\(s\) are 'Curl Virus', and scores need two classes"):
        LeafReport().score(make_table().assign(label="Curl Virus"))


def test_an_empty_table_is_refused():
    with pytest.raises(DataError, match="there is no photo"):
        LeafReport().score(make_table().iloc[:0])


def test_a_label_without_a_column_is_named():
    table = make_table()
    table.loc[[0, 5], "label"] = "Leaf Hopper"
    for use in (LeafReport().score, lambda rows: LeafReport().draw(rows, None)):
        with pytest.raises(DataError, match=r"'Leaf Hopper': 2 photo\(s\), no column 'prob_Leaf Hopper'"):
            use(table)


def test_a_table_without_probabilities_is_refused():
    table = make_table()[["image_id", "fold", "label"]]
    for use in (LeafReport().score, LeafReport().finished):
        with pytest.raises(DataError, match=r"no column 'prob_<class>' but image_id, fold, label\. Predict again"):
            use(table)


def diverged(folds: list[int]) -> pd.DataFrame:
    table = make_table()
    table.loc[table["fold"].isin(folds), "prob_Healthy Leaf"] = math.nan
    return LeafReport().finished(table)


def test_a_diverged_fold_has_no_scores_and_the_others_keep_theirs():
    scores, expected = LeafReport().score(diverged([1])), LeafReport().score(make_table())
    assert all(scores["pooled"][name] is None and scores["folds"]["1"][name] is None for name in SCORES)
    assert scores["pooled"]["accuracy_interval"] is None
    assert scores["pooled"]["per_class"]["Curl Virus"] == {"precision": None, "recall": None, "f1": None, "photos": 50}
    assert scores["folds"]["0"]["log_loss"] == expected["folds"]["0"]["log_loss"]
    assert scores["folds"]["0"]["temperature"] is None and scores["folds"]["0"]["ece_scaled"] is None
    assert scores["constant"] == expected["constant"]
    json.dumps(scores, allow_nan=False)
    assert "nan" not in printed(scores) and "None" not in printed(scores)


def test_a_class_that_a_fold_lacks_counts_as_zero_there():
    table = make_table()
    lacks = (table["fold"] == 3) & ((table["label"] == "Curl Virus") | (table["label_pred"] == "Curl Virus"))
    fold = LeafReport().score(table[~lacks])["folds"]["3"]
    assert fold["per_class"]["Curl Virus"] == {"precision": 0, "recall": 0, "f1": 0, "photos": 0}
    assert fold["f1_macro"] == pytest.approx(np.mean([values["f1"] for values in fold["per_class"].values()]))


def printed(scores: dict) -> str:
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(LeafReport().render(scores, title="Out-of-fold scores"))
    return console.export_text()


def rows_of(text: str) -> dict[str, list[str]]:
    """The words behind a name, of the first line that starts with it."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.split()
        split = next((place for place, word in enumerate(words) if word[0].isdigit() or word == "-"), len(words))
        found.setdefault(" ".join(words[:split]), words[split:])
    return found


def test_the_printed_table_contains_the_scores():
    scores = LeafReport().score(make_table())
    columns = [scores["pooled"], *scores["folds"].values()]
    text = printed(scores)
    rows = rows_of(text)
    for name in ("accuracy", "f1_macro", "log_loss", "ece", "ece_scaled"):
        assert rows[name.replace("_scaled", " scaled")] == [f"{column[name]:.3f}" for column in columns]
    assert rows["photos"] == ["150", *["30"] * 5]
    for name, values in scores["pooled"]["per_class"].items():
        assert rows[f"f1 {name}"] == [f"{values['f1']:.3f}"]
    lines = [line.split() for line in text.splitlines() if line.split()]
    for name in ("accuracy", "f1_macro"):
        low, high = scores["pooled"][f"{name}_interval"]
        told = f"{name} of all folds pooled: {scores['pooled'][name]:.3f}, 95 % {low:.3f} to {high:.3f}"
        assert told in " ".join(text.split())
        constants = [scores["constant"]["pooled"], *scores["constant"]["folds"].values()]
        below = lines[lines.index([name, *rows[name]]) + 1]
        assert below == ["constant", *(f"{values[name]:.3f}" for values in constants)]
    assert "constant: every photo the most frequent class" in text and "last epoch" not in text


def test_the_score_of_the_last_epochs_weights_is_printed_where_known():
    table = make_table()
    scores = LeafReport().score(table)
    sure = table.assign(**{f"prob_{name}": (table["label"] == name).astype(float) for name in CLASSES})
    scores["pooled_last"] = LeafReport().score(sure)["pooled"]
    assert "by the last epoch's weights 1.000" in " ".join(printed(scores).split())


LONG_NAMES = tuple(f"[{number}] {'Bacterial Spot and Blight of the Leaf ' * 3}{number}" for number in range(18))


def test_five_folds_with_any_names_fit_80_columns():
    names = (*LONG_NAMES, "病" * 40, "$x$")
    scores = LeafReport().score(make_table(photos=200, classes=names))
    for column in (scores["pooled"], *scores["folds"].values()):
        column.update(photos=54_306, log_loss=12.3456)
    text = printed(scores)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.count("54306") == 6 and text.count("12.346") == 6 and "fold 4" in text
    for number in range(18):
        assert f"f1 [{number}] Bacterial" in text
    assert "f1 病" in text and "f1 $x$" in text


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [("007", "NA"), CLASSES, LONG_NAMES])
def test_the_picture_is_wide_and_changes_with_the_predictions(names, tmp_path):
    table = make_table(photos=90, classes=names)
    turned = table.assign(**{f"prob_{name}": table[f"prob_{names[-1 - n]}"] for n, name in enumerate(names)})
    drawn = []
    for rows in (table, turned):
        LeafReport().draw(rows, tmp_path / "classes.png")
        drawn.append(pixels(tmp_path / "classes.png"))
    assert drawn[0].shape[1] > 1.3 * drawn[0].shape[0]
    assert drawn[0].shape != drawn[1].shape or (drawn[0] != drawn[1]).any()


def test_the_picture_shows_scaled_probabilities_where_there_are_any(tmp_path):
    orange = []
    for table in (make_table(), make_table(folds=1)):
        LeafReport().draw(table, tmp_path / "classes.png")
        red, _, blue = pixels(tmp_path / "classes.png").transpose(2, 0, 1)
        orange.append(int((red - blue > 200).sum()))
    assert orange[0] > 100 and orange[1] == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("folds", [[1], [0, 1, 2, 3], range(5)])
def test_what_has_no_score_is_drawn_all_the_same(folds, tmp_path):
    table = diverged(list(folds))
    LeafReport().draw(table, tmp_path / "classes.png")
    LeafReport().draw_photos(table, lambda _: np.zeros((9, 9, 3), np.uint8), tmp_path / "mistakes.png")
    assert pixels(tmp_path / "classes.png").shape[2] == pixels(tmp_path / "mistakes.png").shape[2] == 3


def test_the_worst_mistakes_are_read_first(tmp_path):
    table = make_table()
    read = []

    def photo(name: str) -> np.ndarray:
        read.append(name)
        return np.full((30, 40, 3), 100, dtype=np.uint8)

    LeafReport().draw_photos(table, photo, tmp_path / "mistakes.png")
    wrong = table[table["label"] != table["label_pred"]]
    of_truth = pd.Series([row[f"prob_{row['label']}"] for _, row in wrong.iterrows()], wrong.index)
    assert read == wrong.loc[of_truth.sort_values(kind="stable").index, "image_id"].tolist()[:20]
    assert isinstance(LeafReport(), ShowsPhotos)


def test_the_mistakes_of_a_diverged_fold_are_left_out(tmp_path):
    table = diverged([0, 2, 3, 4])
    read = []
    LeafReport().draw_photos(
        table, lambda name: read.append(name) or np.zeros((9, 9, 3), np.uint8), tmp_path / "mistakes.png"
    )
    assert read and set(table.set_index("image_id").loc[read, "fold"]) == {1}


def test_the_predicted_class_is_the_most_probable_one():
    table = pd.DataFrame(
        {
            "image_id": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"],
            "prob_NA": [0.2, 0.4, 1 / 3, math.nan],
            "prob_007": [0.5, 0.4, 1 / 3, 0.9],
            "prob_a, b/c d": [0.3, 0.2, 1 / 3, 0.1],
        }
    )
    finished = LeafReport().finished(table)
    assert list(finished) == ["image_id", "label_pred", "prob_NA", "prob_007", "prob_a, b/c d"]
    # Of equals the first; nothing where a probability is missing.
    assert finished["label_pred"].tolist() == ["007", "NA", "NA", ""]
    pd.testing.assert_frame_equal(finished.drop(columns="label_pred"), table, check_exact=True)
    assert "label_pred" not in table


def test_finishing_again_follows_the_probabilities():
    table = make_table()
    assert list(table)[:4] == ["image_id", "fold", "label", "label_pred"]
    pd.testing.assert_frame_equal(LeafReport().finished(table), table)
    turned = table.rename(columns={f"prob_{a}": f"prob_{b}" for a, b in zip(CLASSES, CLASSES[::-1], strict=True)})
    again = LeafReport().finished(turned)
    assert list(again)[:4] == ["image_id", "fold", "label", "label_pred"]
    places = table["label_pred"].map(dict(zip(CLASSES, CLASSES[::-1], strict=True)))
    assert again["label_pred"].tolist() == places.tolist()


@pytest.mark.parametrize(
    "names", [("007", "7.0", "1e3"), ("True", "NA", "null"), ("a,b", 'say "x"', " spaced "), ("日本", "x\ty", "é")]
)
def test_a_table_read_back_has_the_same_scores(names, tmp_path):
    table = make_table(classes=names).assign(source=lambda rows: rows["label"])
    table.to_csv(tmp_path / "oof.csv", index=False)
    back = read_predictions(tmp_path / "oof.csv", ("image_id", *LeafReport.text_columns))
    scores = LeafReport().score(back)
    assert scores == LeafReport().score(table)
    assert tuple(scores["pooled"]["per_class"]) == names
    assert back["label_pred"].tolist() == table["label_pred"].tolist()


def test_there_is_nothing_to_stack():
    assert LeafReport.stacking is None and not LeafReport.uses_arrays


def test_the_report_pulls_in_no_torch():
    check = "import sys; import biomass_pl.leaf.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
