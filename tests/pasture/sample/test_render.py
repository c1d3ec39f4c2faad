"""The drawn sample: its layout, its labels, and that the photos show them."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from biomass_pl.errors import ConfigError, DataError
from biomass_pl.pasture.sample.render import clover_covers, render_sample
from biomass_pl.pasture.sample.scene import Pasture, draw_clover_cover, draw_ground, draw_photo

WIDTH = 64
PHOTOS = 32
TARGETS = {"Dry_Green_g", "Dry_Dead_g", "Dry_Clover_g", "GDM_g", "Dry_Total_g"}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "data"
    render_sample(out=out, photos=PHOTOS, test_photos=3, width=WIDTH)
    return out


@pytest.fixture(scope="module")
def labels(sample: Path) -> pd.DataFrame:
    """One row per photo: metadata and the five targets."""
    table = pd.read_csv(sample / "train.csv")
    table["image"] = table["sample_id"].str.split("__").str[0]
    grams = table.pivot(index="image", columns="target_name", values="target")
    return table.drop_duplicates("image").set_index("image").join(grams)


def test_layout_is_the_competitions(sample: Path) -> None:
    assert {path.name for path in sample.iterdir()} == {
        "train.csv",
        "test.csv",
        "sample_submission.csv",
        "train",
        "test",
    }
    train, test = pd.read_csv(sample / "train.csv"), pd.read_csv(sample / "test.csv")
    assert list(train) == [
        "sample_id",
        "image_path",
        "Sampling_Date",
        "State",
        "Species",
        "Pre_GSHH_NDVI",
        "Height_Ave_cm",
        "target_name",
        "target",
    ]
    assert list(test) == ["sample_id", "image_path", "target_name"]
    assert len(train) == 5 * PHOTOS and len(test) == 15
    assert set(train["target_name"]) == set(test["target_name"]) == TARGETS
    assert train["sample_id"].str.fullmatch(r"ID\d{9}__\w+_g").all()
    assert train["sample_id"].is_unique and not set(train["sample_id"]) & set(test["sample_id"])
    assert train["Sampling_Date"].str.fullmatch(r"2015/[1-9]\d?/[1-9]\d?").all()


def test_submission_asks_for_every_test_row_with_zeros(sample: Path) -> None:
    submission = pd.read_csv(sample / "sample_submission.csv")
    assert list(submission) == ["sample_id", "target"]
    assert list(submission["sample_id"]) == list(pd.read_csv(sample / "test.csv")["sample_id"])
    assert (submission["target"] == 0).all()


def test_every_photo_of_the_tables_is_there_and_no_other(sample: Path) -> None:
    for split, count in (("train", PHOTOS), ("test", 3)):
        named = set(pd.read_csv(sample / f"{split}.csv")["image_path"])
        assert named == {f"{split}/{path.name}" for path in (sample / split).iterdir()}
        assert len(named) == count
        for name in named:
            photo = cv2.imread(str(sample / name))
            assert photo is not None and photo.shape == (WIDTH // 2, WIDTH, 3)


def test_sums_are_exact(labels: pd.DataFrame) -> None:
    assert np.array_equal((labels["Dry_Green_g"] + labels["Dry_Clover_g"]).round(4), labels["GDM_g"])
    assert np.array_equal((labels["GDM_g"] + labels["Dry_Dead_g"]).round(4), labels["Dry_Total_g"])
    assert (labels[sorted(TARGETS)] >= 0).all().all()


def test_labels_are_like_the_real_ones(labels: pd.DataFrame) -> None:
    assert (labels.loc[labels["State"] == "WA", "Dry_Dead_g"] == 0).all()
    assert (labels.loc[labels["State"] != "WA", "Dry_Dead_g"] > 0).all()
    assert 0.25 < (labels["Dry_Clover_g"] == 0).mean() < 0.7
    assert set(labels["State"]) == {"NSW", "Tas", "Vic", "WA"}
    assert 30 < labels["Dry_Total_g"].mean() < 65 and labels["Dry_Total_g"].max() <= 151
    assert labels["Pre_GSHH_NDVI"].between(0.1, 1).all() and labels["Height_Ave_cm"].between(1, 70).all()


def test_ten_photos_already_come_from_ten_dates(tmp_path: Path) -> None:
    render_sample(out=tmp_path / "few", photos=10, test_photos=0, width=WIDTH)
    dates = pd.read_csv(tmp_path / "few" / "train.csv")["Sampling_Date"]
    assert dates.nunique() == 10
    assert dates.str.split("/").str[1].nunique() >= 5
    assert list(pd.read_csv(tmp_path / "few" / "test.csv")) == ["sample_id", "image_path", "target_name"]


def test_bytes_depend_on_the_seed_and_on_nothing_else(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    render_sample(out=tmp_path / "again", photos=PHOTOS, test_photos=3, width=WIDTH)
    assert contents(tmp_path / "again") == contents(sample)
    render_sample(out=tmp_path / "other", photos=10, test_photos=0, width=WIDTH, seed=1)
    photos = {data for name, data in contents(sample).items() if name.endswith(".jpg")}
    assert not photos & set(contents(tmp_path / "other").values())


def test_a_photo_does_not_depend_on_how_many_there_are(sample: Path, tmp_path: Path) -> None:
    render_sample(out=tmp_path / "few", photos=10, test_photos=3, width=WIDTH)
    whole, few = contents(sample), contents(tmp_path / "few")
    assert all(whole[name] == data for name, data in few.items() if name.endswith(".jpg"))


def green_share(image: np.ndarray) -> float:
    blue, green, red = np.moveaxis(image.astype(float), 2, 0)
    return float(((green > 1.05 * red) & (green > 1.05 * blue)).mean())


@pytest.mark.parametrize("species", ["green_g", "clover_g"])
def test_more_grams_show_more_green(species: str) -> None:
    none = {"green_g": 0.0, "dead_g": 0.0, "clover_g": 0.0}
    shares = [
        green_share(draw_ground(pasture=Pasture(**(none | {species: grams}), height_cm=5.0), key=(0, 0, 3), width=200))
        for grams in (0.0, 4.0, 12.0, 30.0, 70.0)
    ]
    assert shares == sorted(shares)
    assert shares[0] < 0.02 and shares[-1] > 0.6


def test_more_dead_grams_hide_more_green() -> None:
    shares = [
        green_share(draw_ground(pasture=Pasture(25.0, grams, 0.0, 5.0), key=(0, 0, 3), width=200))
        for grams in (0.0, 15.0, 60.0)
    ]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("key", [(0, 0, 1), (5, 1, 0)])
def test_scene_scales_with_width(key: tuple[int, ...]) -> None:
    pasture = Pasture(green_g=25.0, dead_g=10.0, clover_g=8.0, height_cm=6.0)
    large, small = (draw_photo(pasture=pasture, stamp="1", key=key, width=width) for width in (1600, 200))
    shrunk = cv2.resize(large, (200, 100), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.9
    assert abs(shrunk.mean() - small.mean()) < 8


def test_stamp_is_printed_on_some_photos_only() -> None:
    pasture = Pasture(20.0, 5.0, 0.0, 5.0)
    changed = [
        not np.array_equal(
            *(draw_photo(pasture=pasture, stamp=text, key=(0, 0, index), width=64) for text in ("1", "8"))
        )
        for index in range(8)
    ]
    assert any(changed) and not all(changed)


@pytest.mark.parametrize(
    ("numbers", "advice"),
    [
        ({"photos": 9}, "10 or more"),
        ({"test_photos": -1}, "use 0"),
        ({"width": 401}, "even number"),
        ({"width": 62}, "from 64 up"),
        ({"seed": -1}, "positive"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, numbers: dict[str, int], advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        render_sample(out=tmp_path / "data", **numbers)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        render_sample(out=tmp_path, photos=10, width=WIDTH)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    render_sample(out=tmp_path / "data", photos=10, test_photos=0, width=WIDTH)
    assert len(list((tmp_path / "data" / "train").iterdir())) == 10


def test_a_run_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**settings: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setattr("biomass_pl.pasture.sample.render.draw_photo", fail)
    with pytest.raises(OSError, match="disk full"):
        render_sample(out=tmp_path / "data", photos=10, width=WIDTH)
    assert not list(tmp_path.iterdir())


def cover(width: int = 160, **grams: float) -> np.ndarray:
    pasture = Pasture(**({"green_g": 0.0, "dead_g": 0.0, "clover_g": 0.0} | grams), height_cm=5.0)
    return draw_clover_cover(pasture=pasture, key=(0, 0, 3), width=width)


def test_clover_covers_what_a_photo_shows_of_it() -> None:
    shares = [cover(clover_g=grams).mean() for grams in (0.0, 4.0, 12.0, 30.0)]
    assert shares[0] == 0 and shares == sorted(set(shares))
    alone = cover(clover_g=12.0)
    assert alone.shape == (80, 160) and alone.dtype == np.float32 and alone.min() >= 0 and alone.max() <= 1
    bare, grown = (
        draw_ground(pasture=Pasture(0.0, 0.0, grams, 5.0), key=(0, 0, 3), width=160) for grams in (0.0, 12.0)
    )
    changed = np.abs(grown - bare).max(axis=2)
    assert changed[alone > 0.9].min() > 0.02  # where there is clover, the ground is gone
    far = cv2.dilate(alone, np.ones((9, 9))) == 0
    assert far.any() and changed[far].max() < 1e-3  # where there is none nearby, nor its shadow, it is the same


def test_grass_and_straw_hide_clover() -> None:
    alone = cover(clover_g=12.0)
    for others in ({"green_g": 40.0}, {"dead_g": 40.0}):
        hidden = cover(clover_g=12.0, **others)
        assert (hidden <= alone + 1e-6).all() and hidden.mean() < 0.8 * alone.mean()
        assert cover(**others).max() == 0


def test_clover_of_a_sample_is_named_as_its_photos(labels: pd.DataFrame) -> None:
    covers = dict(clover_covers(photos=PHOTOS, width=WIDTH))
    assert covers.keys() == set(labels.index)
    shown = pd.Series({name: float(image.mean()) for name, image in covers.items()}).loc[labels.index]
    assert ((shown > 0) == (labels["Dry_Clover_g"] > 0)).all()
    per_height = labels["Dry_Clover_g"] / labels["Height_Ave_cm"]
    assert shown.corr(per_height, method="spearman") > 0.9
