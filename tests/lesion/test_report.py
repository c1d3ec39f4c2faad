"""The report on lesions: scores and their interval, what is printed and drawn, the submission."""

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

from biomass_pl.errors import DataError
from biomass_pl.evaluation.report import StackColumns
from biomass_pl.lesion.partial_auc import area_under_roc, partial_auc
from biomass_pl.lesion.report import LesionReport


def make_table(*, patients: int = 60, lesions: int = 10, folds: int = 5, signal: float = 2.0) -> pd.DataFrame:
    """Patients with equally many lesions; every third patient has one malignant lesion."""
    patient = np.repeat(np.arange(patients), lesions)
    target = ((np.arange(len(patient)) % lesions == 0) & (patient % 3 == 0)).astype(int)
    logit = np.random.default_rng(1).normal(-3, 1, len(patient)) + signal * target
    return pd.DataFrame(
        {
            "isic_id": [f"ISIC_{number:07}" for number in range(len(patient))],
            "patient_id": [f"IP_{number:07}" for number in patient],
            "fold": patient % folds,
            "target": target,
            "target_pred": 1 / (1 + np.exp(-logit)),
        }
    )


def assert_scored(scores: dict, table: pd.DataFrame) -> None:
    truth, prediction = table["target"].to_numpy(), table["target_pred"].to_numpy()
    assert scores["photos"] == len(table)
    assert scores["positives"] == (table["target"] == 1).sum()
    assert scores["patients"] == len(set(table["patient_id"]))
    assert scores["pauc"] == partial_auc(truth, prediction)
    assert scores["auc"] == area_under_roc(truth, prediction)


def test_scores_pooled_and_per_fold():
    table = make_table()
    scores = LesionReport().score(table)
    assert_scored(scores["pooled"], table)
    assert list(scores["folds"]) == ["0", "1", "2", "3", "4"]
    for fold, values in scores["folds"].items():
        assert_scored(values, table[table["fold"] == int(fold)])
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_what_a_stack_learns():
    assert LesionReport.stacking == StackColumns(kind="classification", truth=("target",), predicted=("target_pred",))


def test_a_constant_score_is_worth_what_chance_is():
    # The ROC curve is the diagonal: half of the square, and 0.2 * 0.2 / 2 above a true positive rate of 0.8.
    table = make_table(folds=2)
    table.loc[table["fold"] == 1, "target"] = 0
    constant = LesionReport().score(table)["constant"]
    chance = pytest.approx({"pauc": 0.02, "auc": 0.5})
    assert constant == {"pooled": chance, "folds": {"0": chance, "1": {"pauc": None, "auc": None}}}


def test_a_diverged_prediction_leaves_the_constant_as_it_is():
    table = make_table()
    assert (
        LesionReport().score(table.assign(target_pred=math.nan))["constant"] == LesionReport().score(table)["constant"]
    )


def test_the_interval_contains_the_score_and_fits_its_standard_error():
    pooled = LesionReport().score(make_table())["pooled"]
    low, high = pooled["pauc_interval"]
    assert 0 < low < pooled["pauc"] < high < 0.2 and pooled["interval_over"] == "patients"
    # A normal distribution has 95 % within 1.96 standard deviations.
    assert high - low == pytest.approx(3.92 * pooled["pauc_standard_error"], rel=0.1)


def test_lesions_of_one_patient_are_drawn_together():
    # Four copies of every lesion say no more about the patients than one.
    once, fourfold = make_table(), pd.concat([make_table()] * 4, ignore_index=True)
    expected = LesionReport().score(once)["pooled"]
    pooled = LesionReport().score(fourfold)["pooled"]
    assert pooled["pauc_interval"] == pytest.approx(expected["pauc_interval"], abs=1e-12)
    each = LesionReport().score(fourfold.assign(patient_id=fourfold.index.astype(str)))["pooled"]
    assert each["pauc_standard_error"] < 0.75 * expected["pauc_standard_error"]


def test_a_single_patient_has_a_score_and_no_interval():
    pooled = LesionReport().score(make_table().assign(patient_id="IP_1"))["pooled"]
    assert pooled["pauc"] > 0.02 and pooled["patients"] == 1
    assert pooled["pauc_interval"] is None and pooled["pauc_standard_error"] is None


def test_a_fold_of_one_class_has_no_score():
    table = make_table()
    table.loc[table["fold"] == 2, "target"] = 0
    scores = LesionReport().score(table)
    assert scores["folds"]["2"]["pauc"] is None and scores["folds"]["2"]["auc"] is None
    assert scores["folds"]["2"]["positives"] == 0 and scores["folds"]["1"]["pauc"] is not None
    assert scores["pooled"]["pauc"] is not None
    assert "None" not in printed(scores) and "nan" not in printed(scores)
    assert rows_of(printed(scores))["pauc"][3] == "-"


@pytest.mark.parametrize("target", [0, 1])
def test_a_table_of_one_class_is_refused(target):
    with pytest.raises(DataError, match=f"all 600 lesion\\(s\\) have target {target}, and pAUC needs both classes"):
        LesionReport().score(make_table().assign(target=target))


def test_an_empty_table_is_refused():
    with pytest.raises(DataError, match="there is no lesion"):
        LesionReport().score(make_table().iloc[:0])


def test_a_diverged_prediction_gives_none_and_stays_json():
    table = make_table()
    table.loc[0, "target_pred"] = math.nan
    scores = LesionReport().score(table)
    assert scores["pooled"]["pauc"] is None and scores["pooled"]["pauc_interval"] is None
    assert scores["folds"]["0"]["auc"] is None and scores["folds"]["1"]["auc"] is not None
    json.dumps(scores, allow_nan=False)
    assert "95 %" not in printed(scores)


def printed(scores: dict) -> str:
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(LesionReport().render(scores, title="Out-of-fold scores"))
    return console.export_text()


def rows_of(text: str) -> dict[str, list[str]]:
    """The words of the first line that starts with each word: the caption repeats the name of the score."""
    return {words[0]: words[1:] for line in reversed(text.splitlines()) if (words := line.split())}


def test_the_printed_table_contains_the_scores():
    scores = LesionReport().score(make_table())
    columns = [scores["pooled"], *scores["folds"].values()]
    rows = rows_of(printed(scores))
    for name in ("pauc", "auc"):
        assert rows[name] == [f"{column[name]:.4f}" for column in columns]
    for name in ("photos", "positives", "patients"):
        assert rows[name] == [str(column[name]) for column in columns]
    assert rows["photos"] == ["600", *["120"] * 5] and rows["positives"] == ["20", *["4"] * 5]
    pooled = scores["pooled"]
    low, high = pooled["pauc_interval"]
    text = printed(scores)
    assert f"pauc of all folds pooled: {pooled['pauc']:.4f}, 95 % {low:.4f} to {high:.4f}" in text
    assert "Out-of-fold scores" in text and "fold 4" in text
    lines = [line.split() for line in text.splitlines() if line.split()]
    start = lines.index(["pauc", *rows["pauc"]])
    assert lines[start + 1] == ["constant", *["0.0200"] * 6]
    assert lines[start + 2][0] == "auc" and lines[start + 3] == ["constant", *["0.5000"] * 6]
    assert "constant: the same score for every lesion" in text and "last epoch" not in text


def test_the_score_of_the_last_epochs_weights_is_printed_where_known():
    table = make_table()
    scores = LesionReport().score(table)
    scores["pooled_last"] = LesionReport().score(table.assign(target_pred=table["target"]))["pooled"]
    assert "; by the last epoch's weights 0.2000 constant:" in " ".join(printed(scores).split())


def test_five_folds_of_the_whole_data_fit_80_columns():
    scores = LesionReport().score(make_table())
    for column in (scores["pooled"], *scores["folds"].values()):
        column.update(photos=401_059, positives=393, patients=1042)
    text = printed(scores)
    assert "…" not in text and text.count("401059") == 6 and "fold 4" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def pixels(table: pd.DataFrame, path) -> np.ndarray:
    LesionReport().draw(table, path)
    picture = Image.open(path)
    assert picture.format == "PNG"
    return np.asarray(picture.convert("RGB")).astype(int)


def yellow(picture: np.ndarray) -> int:
    """Pixels of the shaded area, which is gold on white."""
    red, green, blue = picture.transpose(2, 0, 1)
    return int(((red > 240) & (green > 230) & (blue < 200)).sum())


def test_the_shaded_area_is_the_partial_auc(tmp_path):
    table = make_table(signal=1).assign(fold=0)
    perfect = table.assign(target_pred=table["target"].astype(float))
    shaded, most = (yellow(pixels(drawn, tmp_path / "roc.png")) for drawn in (table, perfect))
    area = partial_auc(table["target"].to_numpy(), table["target_pred"].to_numpy())
    assert area < 0.15
    # The lines take a few pixels from both areas.
    assert shaded / most == pytest.approx(area / 0.2, abs=0.03)


def test_the_picture_changes_with_the_folds_and_the_classes(tmp_path):
    table = make_table()
    drawn = [
        pixels(changed, tmp_path / "roc.png")
        for changed in (table, table.assign(fold=0), table.assign(target=1 - table["target"]))
    ]
    assert not np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("folds", "column", "value"),
    [([1], "target", 0), ([1], "target_pred", math.nan), (range(5), "target_pred", math.nan)],
)
def test_what_has_no_score_is_drawn_all_the_same(folds, column, value, tmp_path):
    table = make_table()
    table.loc[table["fold"].isin(folds), column] = value
    assert pixels(table, tmp_path / "roc.png").shape[2] == 3


def test_equal_scores_are_drawn(tmp_path):
    drawn = pixels(make_table().assign(target_pred=0.5), tmp_path / "roc.png")
    assert 0 < yellow(drawn) < yellow(pixels(make_table(signal=4), tmp_path / "roc.png")) / 3


def predictions() -> pd.DataFrame:
    return pd.DataFrame({"isic_id": ["ISIC_7", "ISIC_3", "ISIC_5"], "target_pred": [0.7, 0.3, 1e-12], "fold": 0})


def sample_file(folder, names: list[str]):
    path = folder / "sample_submission.csv"
    pd.DataFrame({"isic_id": names, "target": 0.3}).to_csv(path, index=False)
    return path


def test_the_submission_is_id_and_score(tmp_path):
    submission = LesionReport().submission(predictions(), tmp_path / "sample_submission.csv")
    assert list(submission) == ["isic_id", "target"]
    assert submission.to_numpy().tolist() == [["ISIC_7", 0.7], ["ISIC_3", 0.3], ["ISIC_5", 1e-12]]


def test_the_submission_takes_over_the_samples_order(tmp_path):
    submission = LesionReport().submission(predictions(), sample_file(tmp_path, ["ISIC_3", "ISIC_5", "ISIC_7"]))
    assert list(submission) == ["isic_id", "target"]
    assert submission.to_numpy().tolist() == [["ISIC_3", 0.3], ["ISIC_5", 1e-12], ["ISIC_7", 0.7]]


def test_a_sample_of_other_lesions_is_refused(tmp_path):
    sample = sample_file(tmp_path, ["ISIC_3", "ISIC_5", "ISIC_9"])
    with pytest.raises(DataError, match=r"test-metadata\.csv name different rows") as caught:
        LesionReport().submission(predictions(), sample)
    assert "ISIC_9: not predicted" in str(caught.value) and "ISIC_7: not expected" in str(caught.value)
    assert str(sample) in str(caught.value)


def test_a_sample_without_the_ids_is_refused(tmp_path):
    path = tmp_path / "sample_submission.csv"
    path.write_text("sample_id,target\nISIC_3,0.3\n")
    with pytest.raises(DataError, match="has no column isic_id"):
        LesionReport().submission(predictions(), path)


def test_predictions_stay_as_they_are():
    table = make_table(signal=0).assign(target_pred=np.linspace(0, 1e-15, 600))
    pd.testing.assert_frame_equal(LesionReport().finished(table), table, check_exact=True)


def test_reports_pull_in_no_torch():
    check = "import sys; import biomass_pl.lesion.report, biomass_pl.pasture.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
