"""The drawn lesions: the layout of the tables and files, the folds they allow, and that pictures and tables show them."""

from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from biomass_pl.errors import ConfigError, DataError
from biomass_pl.lesion.sample.patients import invent_lesions
from biomass_pl.lesion.sample.record import record
from biomass_pl.lesion.sample.render import render_lesions
from biomass_pl.lesion.sample.scene import LesionLook, draw_lesion

PHOTOS, TEST_PHOTOS = 120, 12
FILES = {"train-metadata.csv", "test-metadata.csv", "sample_submission.csv", "train-image.hdf5", "test-image.hdf5"}
LEAKS = {
    "lesion_id",
    "iddx_full",
    *(f"iddx_{level}" for level in range(1, 6)),
    "mel_mitotic_index",
    "mel_thick_mm",
    "tbp_lv_dnn_lesion_confidence",
}
LOOK = {
    "skin": (65.0, 12.0, 20.0),
    "contrast": (-16.0, 4.0, 2.0),
    "diameter_mm": 4.0,
    "roundness": 0.9,
    "irregularity": 0.05,
    "asymmetry": 0.1,
    "variegation": 0.1,
    "view_mm": 9.0,
    "side": 120,
    "hairs": 0.0,
    "freckles": 0.0,
    "white_light": False,
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pictures(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: cv2.imdecode(np.frombuffer(file[name][()].tobytes(), np.uint8), 1) for name in file}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lesions") / "data"
    render_lesions(out=out, photos=PHOTOS, test_photos=TEST_PHOTOS)
    return out


@pytest.fixture(scope="module")
def train(sample: Path) -> pd.DataFrame:
    return pd.read_csv(sample / "train-metadata.csv", low_memory=False)


@pytest.fixture(scope="module")
def test(sample: Path) -> pd.DataFrame:
    return pd.read_csv(sample / "test-metadata.csv")


@pytest.fixture(scope="module")
def records() -> pd.DataFrame:
    """A large train table, without its pictures."""
    lesions = invent_lesions(split="train", count=3000, malignant=300, seed=0)
    return pd.DataFrame([record(lesion) for lesion in lesions])


def test_layout_is_the_challenges(sample: Path, train: pd.DataFrame, test: pd.DataFrame) -> None:
    assert {path.name for path in sample.iterdir()} == FILES
    assert len(train) == PHOTOS and len(test) == TEST_PHOTOS
    assert len(train.columns) == 55 and len(test.columns) == 44
    assert list(train.columns[:4]) == ["isic_id", "target", "patient_id", "age_approx"]
    assert list(train.columns[51:53]) == ["iddx_5", "mel_mitotic_index"]
    assert list(test) == [column for column in train if column not in LEAKS | {"target"}]
    assert sum(column.startswith("tbp_lv_") for column in test) == 34
    assert train["isic_id"].str.fullmatch(r"ISIC_\d{7}").all() and train["patient_id"].str.fullmatch(r"IP_\d{7}").all()
    assert not set(train["isic_id"]) & set(test["isic_id"]) and train["isic_id"].is_unique
    assert not set(train["patient_id"]) & set(test["patient_id"])


def test_submission_asks_for_every_test_row(sample: Path, test: pd.DataFrame) -> None:
    submission = pd.read_csv(sample / "sample_submission.csv")
    assert list(submission) == ["isic_id", "target"]
    assert list(submission["isic_id"]) == list(test["isic_id"])
    assert (submission["target"] == 0.3).all()


@pytest.mark.parametrize("split", ["train", "test"])
def test_hdf5_holds_a_jpeg_for_every_row(sample: Path, split: str) -> None:
    table = pd.read_csv(sample / f"{split}-metadata.csv", low_memory=False)
    with h5py.File(sample / f"{split}-image.hdf5") as file:
        assert set(file) == set(table["isic_id"])
        for dataset in file.values():
            data = dataset[()].tobytes()
            assert dataset.shape == () and data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9"
    sides = set()
    for picture in pictures(sample / f"{split}-image.hdf5").values():
        assert picture.shape[0] == picture.shape[1] and 64 <= len(picture) <= 160
        sides.add(len(picture))
    assert len(sides) > 5


def test_missing_values_are_spelled_na(sample: Path) -> None:
    text = (sample / "train-metadata.csv").read_text()
    assert ",," not in text
    table = pd.read_csv(sample / "train-metadata.csv", dtype=str, keep_default_na=False)
    for column in ("sex", "age_approx", "anatom_site_general"):
        assert 0 < (table[column] == "NA").mean() < 0.1
    assert (table["sex"].isin(["male", "female", "NA"])).all()


def test_one_location_is_in_the_test_table_only(train: pd.DataFrame, test: pd.DataFrame) -> None:
    column = "tbp_lv_location"
    assert "Left Arm" in set(test[column]) and "Left Arm" not in set(train[column])


def test_the_columns_that_only_train_has_give_the_label_away(train: pd.DataFrame) -> None:
    malignant = train["target"] == 1
    assert (train.loc[malignant, "iddx_1"] == "Malignant").all()
    assert (train.loc[~malignant, "iddx_1"] == "Benign").all()
    assert train.loc[~malignant, "mel_thick_mm"].isna().all() and train["mel_thick_mm"].notna().any()
    assert train.loc[malignant, "lesion_id"].notna().all() and train.loc[~malignant, "lesion_id"].isna().any()


def test_patients_have_very_unequal_numbers_of_lesions(records: pd.DataFrame) -> None:
    sizes = records["patient_id"].value_counts()
    assert len(sizes) == 200 and sizes.min() == 1 and (sizes == 1).sum() == 1
    assert sizes.max() > 4 * sizes.median()
    assert records["target"].sum() == 300
    assert records.groupby("patient_id")["target"].max().mean() < 0.7


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(100, 700),
    share=st.sampled_from([0.1, 0.15, 0.25]),
    seed=st.integers(0, 1000),
    split=st.integers(0, 99),
)
def test_every_fold_has_two_malignant_lesions(count: int, share: float, seed: int, split: int) -> None:
    lesions = invent_lesions(split="train", count=count, malignant=round(count * share), seed=seed)
    target = np.array([lesion.malignant for lesion in lesions])
    patients = [lesion.patient.identity for lesion in lesions]
    assert len(lesions) == count and target.sum() == round(count * share)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=split).split(target, target, patients)
    assert all(target[validation].sum() >= 2 for _, validation in folds)


@pytest.mark.parametrize("count", range(13))
def test_a_test_set_may_have_any_size(count: int) -> None:
    lesions = invent_lesions(split="test", count=count, malignant=round(count / 4), seed=2)
    assert len({lesion.identity for lesion in lesions}) == count
    assert sum(lesion.malignant for lesion in lesions) == round(count / 4)


def test_a_malignant_lesion_stands_out_among_the_patients_own(records: pd.DataFrame) -> None:
    target = records["target"]
    for column, sign in (("clin_size_long_diam_mm", 1), ("tbp_lv_H", -1)):
        own = records.groupby("patient_id")[column]
        relative = (records[column] - own.transform("median")).fillna(0)
        alone, among = roc_auc_score(target, sign * records[column]), roc_auc_score(target, sign * relative)
        assert among > alone + 0.05
        assert 0.7 < among < 0.97
    for column in ("tbp_lv_norm_border", "tbp_lv_color_std_mean"):
        assert 0.65 < roc_auc_score(target, records[column]) < 0.9


def test_measured_values_agree_with_each_other(records: pd.DataFrame) -> None:
    table = records.filter(like="tbp_lv_").rename(columns=lambda name: name.removeprefix("tbp_lv_"))
    assert np.allclose(table["L"] - table["Lext"], table["deltaL"], atol=1e-5)
    assert np.allclose(np.hypot(table["A"], table["B"]), table["C"], atol=1e-5)
    assert np.allclose(np.hypot(table["deltaL"], table["deltaB"]), table["deltaLB"], atol=1e-5)
    assert np.allclose(table["perimeterMM"] ** 2 / table["areaMM2"], table["area_perim_ratio"], atol=1e-3)
    # No outline is shorter than the circle's.
    assert (table["area_perim_ratio"] > 4 * np.pi).all()
    assert (table["minorAxisMM"] <= records["clin_size_long_diam_mm"] + 0.01).all()
    assert table["norm_border"].between(0, 10).all() and table["nevi_confidence"].between(0, 100).all()


def drawn(**changes: object) -> np.ndarray:
    """CIELAB colours of a crop."""
    picture = draw_lesion(look=LesionLook(**(LOOK | changes)), key=(0, 0, 5))
    return cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_BGR2Lab)


def mole(lab: np.ndarray) -> np.ndarray:
    """Where a crop is nearer to the lightness of its middle than to that of its skin."""
    lightness = cv2.medianBlur(lab, 5)[:, :, 0]
    return lightness < (np.median(lightness[:10]) + np.median(lightness[50:70, 50:70])) / 2


def test_the_mole_is_as_large_and_as_dark_as_told() -> None:
    for diameter in (3.0, 4.0, 6.0):
        covered = mole(drawn(diameter_mm=diameter)).mean()
        assert covered == pytest.approx(np.pi / 4 * diameter**2 * 0.9 / 81, rel=0.15)
    means = [drawn(contrast=(-dark, 4.0, 2.0))[50:70, 50:70, 0].mean() for dark in (8.0, 16.0, 24.0)]
    assert means[0] - means[1] == pytest.approx(8, abs=2) and means[1] - means[2] == pytest.approx(8, abs=2)


def test_irregularity_shows_in_the_outline() -> None:
    ratios = []
    for irregularity in (0.0, 0.1, 0.2):
        outlines, _ = cv2.findContours(
            mole(drawn(irregularity=irregularity, diameter_mm=6.0)).astype(np.uint8),
            cv2.RETR_EXTERNAL,
            cv2.CHAIN_APPROX_NONE,
        )
        outline = max(outlines, key=cv2.contourArea)
        ratios.append(cv2.arcLength(outline, True) ** 2 / cv2.contourArea(outline))
    assert ratios == sorted(ratios) and ratios[2] > 1.2 * ratios[0]


def test_variegation_shows_in_the_colours() -> None:
    spreads = [drawn(variegation=variegation)[45:75, 45:75, 2].std() for variegation in (0.0, 0.3, 0.9)]
    assert spreads == sorted(spreads) and spreads[2] > 2 * spreads[0]


def test_bytes_depend_on_the_arguments_alone(sample: Path, tmp_path: Path) -> None:
    render_lesions(out=tmp_path / "again", photos=PHOTOS, test_photos=TEST_PHOTOS)
    assert contents(tmp_path / "again") == contents(sample)
    render_lesions(out=tmp_path / "other", photos=100, test_photos=0, seed=1)
    crops = {picture.tobytes() for picture in pictures(sample / "train-image.hdf5").values()}
    assert not crops & {picture.tobytes() for picture in pictures(tmp_path / "other" / "train-image.hdf5").values()}


@pytest.mark.parametrize(
    ("numbers", "advice"),
    [
        ({"photos": 99}, "100 or more"),
        ({"photos": 59, "positives": 0.25}, "60 or more"),
        ({"photos": 150, "positives": 0.05}, "200 or more"),
        ({"positives": 0.0}, "above 0"),
        ({"positives": 0.3}, r"up to 0\.25"),
        ({"test_photos": -1}, "use 0"),
        ({"seed": -1}, "positive"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, numbers: dict[str, float], advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        render_lesions(out=tmp_path / "data", **numbers)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        render_lesions(out=tmp_path, photos=100)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_run_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**settings: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("biomass_pl.lesion.sample.render.draw_lesion", fail)
    with pytest.raises(OSError, match="disk full"):
        render_lesions(out=tmp_path / "data", photos=100)
    assert not list(tmp_path.iterdir())
