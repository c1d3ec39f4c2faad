"""The drawn leaves: the layout of the folders, and that patterns and shapes show the classes while colours do not."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from biomass_pl.data.rendering import stream
from biomass_pl.errors import ConfigError, DataError
from biomass_pl.leaf.sample.blade import Blade, grow
from biomass_pl.leaf.sample.damage import KINDS, Damage
from biomass_pl.leaf.sample.render import photos_per_class, render_leaves
from biomass_pl.leaf.sample.scene import draw_scene, photograph

CLASSES = (
    "Bacterial Blight",
    "Curl Virus",
    "Healthy Leaf",
    "Herbicide Growth Damage",
    "Leaf Hopper Jassids",
    "Leaf Redding",
    "Leaf Variegation",
)
PHOTOS, AUGMENTED, UNLABELLED = 105, 2, 9


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def thumbnail(photo: np.ndarray) -> np.ndarray:
    """Brightness in 16 x 16 places, of mean 0 and length 1."""
    values = cv2.resize(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY).astype(float), (16, 16), interpolation=cv2.INTER_AREA)
    values -= values.mean()
    return values.ravel() / np.linalg.norm(values)


def is_same_leaf(path: Path) -> bool:
    """Whether a photo shows the leaf of the one before it."""
    return (int(path.stem[-4:]) - 1) % 12 == 6


def leaf_of(kind: str, number: int) -> tuple[Blade, Damage]:
    key = (7, number)
    blade = grow(KINDS[kind].growth, height=300, width=320, rng=stream(key, "blade"))
    return blade, KINDS[kind].damage(blade, stream(key, "damage"))


def covered(kind: str, where: Callable[[Blade], np.ndarray], layer: int = -1) -> float:
    """Mean opacity of a layer of damage at some places, over several leaves."""
    means = []
    for number in range(8):
        blade, damage = leaf_of(kind, number)
        means.append(damage.layers[layer].opacity[where(blade) & (blade.cover > 0.99)].mean())
    return float(np.mean(means))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("leaves") / "data"
    render_leaves(out=out, photos=PHOTOS, augmented=AUGMENTED, unlabelled=UNLABELLED)
    return out


@pytest.fixture(scope="module")
def originals(sample: Path) -> list[Path]:
    return sorted((sample / "Original Dataset").glob("*/*"))


@pytest.fixture(scope="module")
def copies(sample: Path) -> list[Path]:
    return sorted((sample / "Augmented Dataset").glob("*/*"))


def test_layout_is_the_published_one(sample: Path, originals: list[Path], copies: list[Path]) -> None:
    assert {path.name for path in sample.iterdir()} == {"Original Dataset", "Augmented Dataset", "Unlabelled"}
    for folder in ("Original Dataset", "Augmented Dataset"):
        assert tuple(sorted(path.name for path in (sample / folder).iterdir())) == CLASSES
    assert len(originals) == PHOTOS and len(copies) == AUGMENTED * PHOTOS
    assert len(list((sample / "Unlabelled").iterdir())) == UNLABELLED
    assert all(data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9" for data in contents(sample).values())
    assert len(set(contents(sample).values())) == PHOTOS * (1 + AUGMENTED) + UNLABELLED


def test_photos_have_many_sizes_and_proportions(originals: list[Path]) -> None:
    sizes = [cv2.imread(str(path)).shape[:2] for path in originals]
    assert all(240 <= side < 400 for size in sizes for side in size)
    proportions = [width / height for height, width in sizes]
    assert len(set(sizes)) > 50 and min(proportions) < 0.8 and max(proportions) > 1.25


def test_classes_are_as_unequal_as_published(originals: list[Path]) -> None:
    counts = [sum(path.parent.name == name for path in originals) for name in CLASSES]
    # 10 each, and 250 : 431 : 257 : 280 : 225 : 578 : 116 of the other 35.
    assert counts == [14, 17, 14, 15, 14, 19, 12]


@given(photos=st.integers(70, 3000))
def test_counts_sum_to_the_photos(photos: int) -> None:
    counts = photos_per_class(photos)
    assert tuple(counts) == CLASSES and sum(counts.values()) == photos
    assert min(counts.values()) >= 10
    assert counts["Leaf Redding"] >= counts["Curl Virus"] >= counts["Healthy Leaf"] >= counts["Leaf Variegation"]


def test_some_photos_show_a_leaf_again(originals: list[Path]) -> None:
    photos = {path: thumbnail(cv2.imread(str(path))) for path in originals}
    again = [(path, originals[number - 1]) for number, path in enumerate(originals) if is_same_leaf(path)]
    assert 5 < len(again) < PHOTOS / 8
    pairs = {frozenset(pair) for pair in again}
    assert all(path.parent == other.parent for path, other in again)
    assert min(photos[path] @ photos[other] for path, other in again) > 0.93
    others = (pair for pair in combinations(originals, 2) if frozenset(pair) not in pairs)
    assert max(photos[path] @ photos[other] for path, other in others) < 0.9


def test_names_of_copies_tell_their_original_but_for_some(originals: list[Path], copies: list[Path]) -> None:
    stems = {path.stem: path.parent.name for path in originals}
    told = [path for path in copies if path.stem.rpartition("_augmented_")[0] in stems]
    assert all(stems[path.stem.rpartition("_augmented_")[0]] == path.parent.name for path in told)
    others = set(copies) - set(told)
    assert all(path.stem.startswith("augmented_") for path in others)
    assert {path.parent.name for path in others} == set(CLASSES)
    assert len(others) == pytest.approx(len(copies) / 10, abs=len(CLASSES))


def test_a_copy_of_untold_origin_is_a_photo_mirrored_or_turned_by_quarters(
    originals: list[Path], copies: list[Path]
) -> None:
    paths = {(path.parent.name, int(path.stem[-4:])): path for path in originals}
    for copy in (path for path in copies if path.stem.startswith("augmented_")):
        picture = cv2.imread(str(copy))
        views = [np.rot90(side, turns) for side in (picture, picture[:, ::-1]) for turns in range(4)]
        original = paths[copy.parent.name, (int(copy.stem[-5:]) - 1) // AUGMENTED + 1]
        photo = thumbnail(cv2.imread(str(original)))
        assert max(photo @ thumbnail(np.ascontiguousarray(view)) for view in views) > 0.99


def test_a_photo_depends_on_the_seed_and_its_number_alone(sample: Path, tmp_path: Path) -> None:
    render_leaves(out=tmp_path / "again", photos=70, augmented=AUGMENTED, unlabelled=2)
    assert contents(tmp_path / "again").items() <= contents(sample).items()


def test_another_seed_gives_other_photos_and_without_copies_there_is_no_folder_of_them(
    sample: Path, tmp_path: Path
) -> None:
    render_leaves(out=tmp_path / "other", photos=70, seed=1)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["Original Dataset"]
    assert not set(contents(tmp_path / "other").values()) & set(contents(sample).values())


@pytest.mark.parametrize("name", CLASSES)
def test_the_same_leaf_photographed_again_differs_little(name: str) -> None:
    scene = draw_scene(KINDS[name], (3, 1))
    photos = [photograph(scene, stream((3, number), "camera")) for number in range(2)]
    assert photos[0].shape == photos[1].shape and photos[0].dtype == np.uint8
    assert not np.array_equal(*photos)
    assert thumbnail(photos[0]) @ thumbnail(photos[1]) > 0.93


def test_hopper_burn_lies_along_the_margin() -> None:
    assert covered("Leaf Hopper Jassids", lambda blade: blade.depth < 0.02, layer=0) > 0.7
    assert covered("Leaf Hopper Jassids", lambda blade: blade.depth > 0.28, layer=0) < 0.02


def test_reddening_leaves_the_veins_green() -> None:
    between = covered("Leaf Redding", lambda blade: blade.between > 0.8)
    assert between > 0.3
    assert covered("Leaf Redding", lambda blade: blade.between < 0.05) < 0.05
    assert covered("Leaf Redding", lambda blade: (blade.between > 0.8) & (blade.depth < 0.1)) > between


def test_blight_crowds_along_the_veins_with_a_halo_around_each_spot() -> None:
    near, far = (covered("Bacterial Blight", where) for where in (lambda b: b.between < 0.3, lambda b: b.between > 0.9))
    assert near > 1.3 * far > 0
    blade, damage = leaf_of("Bacterial Blight", 0)
    halo, spots = (layer.opacity > 0.2 for layer in damage.layers)
    assert (halo & ~spots & (blade.cover > 0.99)).sum() > 0.3 * spots.sum()


def test_variegation_has_hard_borders() -> None:
    blade, damage = leaf_of("Leaf Variegation", 0)
    opacity = damage.layers[-1].opacity[blade.cover > 0.99]
    assert 0.2 < (opacity > 0.5).mean() < 0.6
    assert ((opacity > 0.05 * opacity.max()) & (opacity < 0.95 * opacity.max())).mean() < 0.12


def test_curling_rolls_the_margin_and_lifts_it() -> None:
    assert covered("Curl Virus", lambda blade: blade.depth < 0.02) > 0.5
    assert covered("Curl Virus", lambda blade: blade.depth > 0.22) == 0
    blade, damage = leaf_of("Curl Virus", 0)
    assert damage.relief is not None
    assert damage.relief[(blade.depth < 0.02) & (blade.cover > 0.99)].mean() > damage.relief[blade.depth > 0.2].mean()


def test_herbicide_narrows_the_lobes() -> None:
    depths = {name: np.mean([leaf_of(name, number)[0].depth.max() for number in range(6)]) for name in CLASSES}
    straps = depths.pop("Herbicide Growth Damage")
    assert straps < 0.5 * min(depths.values())


def test_a_healthy_leaf_has_no_damage() -> None:
    assert leaf_of("Healthy Leaf", 0)[1] == Damage()


def test_colours_alone_do_not_tell_the_classes(originals: list[Path]) -> None:
    labels = [path.parent.name for path in originals]
    spaces = (None, cv2.COLOR_BGR2HSV, cv2.COLOR_BGR2LAB)
    features = []
    for path in originals:
        photo = cv2.imread(str(path))[::3, ::3]
        pixels = np.concatenate([photo if space is None else cv2.cvtColor(photo, space) for space in spaces], axis=2)
        channels = pixels.reshape(-1, 9).T
        features.append(np.concatenate([np.histogram(values, 16, (0, 256))[0] / values.size for values in channels]))
    forest = ExtraTreesClassifier(100, class_weight="balanced", random_state=0)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    predicted = cross_val_predict(forest, np.stack(features), labels, cv=folds)
    assert (predicted == np.array(labels)).mean() < 0.4


@pytest.mark.parametrize(
    ("numbers", "advice"),
    [
        ({"photos": 69}, "70 or more"),
        ({"augmented": -1}, "without copies"),
        ({"unlabelled": -1}, "labelled photos alone"),
        ({"seed": -1}, "positive"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, numbers: dict[str, int], advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        render_leaves(out=tmp_path / "data", **numbers)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        render_leaves(out=tmp_path, photos=70)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_run_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("biomass_pl.leaf.sample.render.draw_scene", fail)
    with pytest.raises(OSError, match="disk full"):
        render_leaves(out=tmp_path / "data", photos=70)
    assert not list(tmp_path.iterdir())
