"""Leaf photos fold by fold: what is kept together and apart, what is refused, what is selected."""

import logging
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.data.splits import NEVER_HELD_OUT
from biomass_pl.errors import ConfigError, DataError, FoldError
from biomass_pl.leaf.data import LeafDataModule
from biomass_pl.leaf.tables import COPIES, ORIGINALS
from tests.leaf.conftest import CLASSES, FOLDS, PER_CLASS, ids, leaf_module, picture, save, write_classes


def given_folds(path, folds):
    folds.rename("fold").rename_axis("image_id").reset_index().to_csv(path, index=False)
    return path


def copied(pixels, number):
    """One of eight changed copies that show the same picture."""
    return (np.rot90(pixels, number % 4)[:, :: 1 - 2 * (number // 4 % 2)] * 0.8).astype(np.uint8)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The published layout: two named copies of each original, one that only pixels tell, one that nothing tells."""
    root = tmp_path_factory.mktemp("published")
    write_classes(root / ORIGINALS)
    for number, name in enumerate(CLASSES):
        for position in range(PER_CLASS):
            stem = f"{name.split()[0]}_{position}"
            for copy in range(2):  # so much changed that pixels tell nothing
                save(
                    picture(9000 + 100 * number + 10 * position + copy), root / COPIES / name / f"{stem}_aug{copy}.png"
                )
        save(copied(picture(100 * number), 5), root / COPIES / name / "0a1b2c.png")
        save(picture(8000 + number), root / COPIES / name / "lost.png")
    return root


def test_items_are_the_photos_with_their_labels_and_sources(leaf_root):
    items = leaf_module(leaf_root).items()
    assert list(items) == ["image_id", "label", "source"] and len(items) == len(CLASSES) * PER_CLASS
    assert items["image_id"].is_monotonic_increasing and items["image_id"][0] == "Curl Virus/Curl_0.png"
    assert (items["source"] == items["image_id"]).all()
    assert items["label"].tolist() == [name.split("/")[0] for name in items["image_id"]]


@pytest.mark.parametrize("seed", [42, 7])
def test_every_fold_holds_out_its_share_of_every_class(leaf_root, seed):
    module = leaf_module(leaf_root, seed=seed)
    assert module.classes == CLASSES and module.names().tolist() == module.items()["image_id"].tolist()
    shares = module.split.folds.groupby(module.items()["label"].to_numpy()).value_counts()
    assert (shares == PER_CLASS / FOLDS).all() and len(shares) == len(CLASSES) * FOLDS
    held_out = Counter()
    for fold in range(FOLDS):
        module = leaf_module(leaf_root, fold, seed=seed)
        train, val = ids(module.train_dataloader()), ids(module.val_dataloader())
        assert sorted(train + val) == module.names().tolist()
        assert sorted(ids(module.plain_loader(held_out=False))) == sorted(train)
        held_out.update(val)
    assert held_out == Counter(module.names())


def test_folds_depend_on_the_seed_and_neither_on_the_order_nor_on_how_photos_are_named_in(leaf_root, tmp_path):
    folds = leaf_module(leaf_root).split.folds
    assert not leaf_module(leaf_root, seed=43).split.folds.equals(folds)
    rows = leaf_module(leaf_root).items().rename(columns={"image_id": "path"})[["path", "label"]]
    rows.sample(frac=1, random_state=0).to_csv(tmp_path / "labels.csv", index=False)
    pd.testing.assert_series_equal(leaf_module(leaf_root, labels=tmp_path / "labels.csv").split.folds, folds)


def test_given_groups_are_kept_together(leaf_root, tmp_path):
    rows = leaf_module(leaf_root).items().rename(columns={"image_id": "path"})[["path", "label"]]
    rows["group"] = [f"plant {position % 4}" for position in range(len(rows))]
    rows.to_csv(tmp_path / "labels.csv", index=False)
    module = leaf_module(leaf_root, labels=tmp_path / "labels.csv")
    assert module.split.folds.groupby(rows["group"].to_numpy()).nunique().eq(1).all()
    assert module.items()["source"].nunique() == 4
    with pytest.raises(FoldError, match=r"3 class\(es\) have fewer photos than the 5 folds"):
        leaf_module(leaf_root, labels=tmp_path / "labels.csv", num_folds=5)


def test_near_identical_photos_of_two_classes_share_a_fold_and_equal_ones_are_refused(tmp_path):
    root = write_classes(tmp_path / "data")
    near = f"{CLASSES[0]}/near.png"
    save(copied(picture(100), 3), root / near)
    for seed in range(3):
        module = leaf_module(root, seed=seed)
        module.check()
        assert module.split.folds[near] == module.split.folds[f"{CLASSES[1]}/Healthy_0.png"]
    (root / near).write_bytes((root / CLASSES[1] / "Healthy_0.png").read_bytes())
    with pytest.raises(DataError) as caught:
        leaf_module(root).check()
    assert "1 photo(s) stand under several classes" in str(caught.value)
    assert f"{near} ({CLASSES[0]}) and {CLASSES[1]}/Healthy_0.png ({CLASSES[1]})" in str(caught.value)


def test_copies_are_trained_on_with_their_originals_and_never_held_out(published):
    seen = Counter()
    for fold in range(FOLDS):
        module = leaf_module(published, fold)
        train, val = ids(module.train_dataloader()), ids(module.val_dataloader())
        held_out = {name for name in module.names() if module.split.folds[name] == fold}
        assert set(val) == held_out and not any(name.startswith(COPIES) for name in val)
        expected = {name for name in module.names() if name not in held_out}
        for name in list(expected):
            base = name.replace(ORIGINALS, COPIES).removesuffix(".png")
            expected |= {f"{base}_aug0.png", f"{base}_aug1.png"}
            if base.endswith("_0"):
                expected.add(f"{base.rpartition('/')[0]}/0a1b2c.png")
        assert sorted(train) == sorted(expected)
        assert module.class_counts().tolist() == [sum(f"/{label}/" in name for name in train) for label in CLASSES]
        assert not any(name.startswith(COPIES) for name in ids(module.plain_loader(held_out=False)))
        seen.update(name for name in train if name.startswith(COPIES))
    assert set(seen.values()) == {FOLDS - 1} and len(seen) == len(CLASSES) * (2 * PER_CLASS + 1)


def test_lost_copies_are_told_of_when_a_run_begins(published, leaf_root, caplog):
    with caplog.at_level(logging.WARNING, "biomass_pl"):
        leaf_module(published).prepare()
    (record,) = caplog.records
    assert record.getMessage().startswith("3 of 42 changed copies are left out")
    assert record.getMessage().splitlines()[1:] == [f"  {COPIES}/{name}/lost.png" for name in CLASSES]
    caplog.clear()
    leaf_module(leaf_root).prepare()
    assert not caplog.records


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_no_source_is_on_both_sides_of_any_split(tmp_path_factory, data):
    """Near-identical photos, also of two classes, and copies named after one original but showing another."""
    root = tmp_path_factory.mktemp("any")
    shown: dict[str, int] = {}
    seeds = iter(range(10_000))
    for number, label in enumerate(("a", "b")):
        for position in range(6):
            thing = next(seeds)
            if shown and data.draw(st.integers(0, 3)) == 0:
                thing = data.draw(st.sampled_from(sorted(set(shown.values()))))
            name = f"{ORIGINALS}/{label}/{label}{number}{position}.png"
            save(copied(picture(thing), data.draw(st.integers(0, 7))), root / name)
            shown[name] = thing
    copies: dict[str, int] = {}
    for number in range(data.draw(st.integers(1, 8))):
        named = data.draw(st.sampled_from(sorted(shown)))
        pixels_of = data.draw(st.sampled_from([named, *sorted(shown)]))
        path = named.replace(ORIGINALS, COPIES).replace(".png", f"_{number}.png")
        save(copied(picture(shown[pixels_of]), data.draw(st.integers(0, 7))), root / path)
        copies[path] = shown[pixels_of]
    module = LeafDataModule(root=root, num_folds=2, image_size=16, batch_size=1, num_workers=0)
    try:
        folds = module.make_folds()
    except FoldError:
        return  # too few sources of a class
    for fold in range(2):
        module = leaf_module(root, fold, folds, num_folds=2, batch_size=1)
        train, val = ids(module.train_dataloader()), ids(module.val_dataloader())
        scored, learned = {shown[name] for name in val}, {(shown | copies)[name] for name in train}
        assert not scored & learned and not set(val) & set(copies)


def test_given_folds_are_used_and_may_leave_photos_in_training(leaf_root, tmp_path):
    folds = leaf_module(leaf_root).split.folds.replace({2: NEVER_HELD_OUT})
    path = given_folds(tmp_path / "folds.csv", folds)
    for fold in (0, 1):
        module = leaf_module(leaf_root, fold, fold_csv=path)
        module.check_split()
        assert set(ids(module.val_dataloader())) == set(folds.index[folds == fold])
        assert set(ids(module.train_dataloader())) == set(folds.index[folds != fold])


def test_given_folds_that_split_near_identical_photos_are_refused(tmp_path):
    root = write_classes(tmp_path / "data")
    near = f"{CLASSES[0]}/near.png"
    save(copied(picture(0), 1), root / near)
    folds = leaf_module(root).split.folds.copy()
    folds[near] = (folds[near] + 1) % FOLDS
    with pytest.raises(FoldError) as caught:
        leaf_module(root, fold_csv=given_folds(tmp_path / "folds.csv", folds))
    assert "data.fold_csv puts 1 source(s) into several folds" in str(caught.value) and near in str(caught.value)


def test_a_class_with_fewer_photos_than_folds_is_refused(leaf_root):
    leaf_module(leaf_root, num_folds=PER_CLASS)
    with pytest.raises(FoldError) as caught:
        leaf_module(leaf_root, num_folds=PER_CLASS + 1)
    assert f"3 class(es) have fewer photos than the {PER_CLASS + 1} folds" in str(caught.value)
    assert f"  {CLASSES[0]}: {PER_CLASS} photo(s) of {PER_CLASS} source(s)" in str(caught.value)


def test_a_fold_that_trains_on_no_photo_of_a_class_is_refused(leaf_root):
    module = leaf_module(leaf_root)
    folds = module.split.folds.copy()
    folds[module.items().set_index("image_id")["label"] == CLASSES[1]] = 0
    with pytest.raises(FoldError) as caught:
        leaf_module(leaf_root, 0, folds).check_split()
    assert "Fold 0 trains on no photo of 1 class(es)" in str(caught.value) and f"  {CLASSES[1]}" in str(caught.value)
    leaf_module(leaf_root, 1, folds).check_split()


def test_batches_larger_than_the_training_photos_are_refused(leaf_root):
    with pytest.raises(ConfigError, match=r"data.batch_size 13 is more than the 12 training photos of fold 0"):
        leaf_module(leaf_root, batch_size=13).check_split()
    leaf_module(leaf_root, batch_size=12).check_split()


@pytest.mark.parametrize(
    ("settings", "told"), [({"image_size": 0}, "data.image_size"), ({"severity": "mild"}, "data.severity")]
)
def test_settings_that_cannot_be_are_refused_by_name(settings, told):
    with pytest.raises(ConfigError, match=told):
        LeafDataModule(**settings)


def test_the_sampler_draws_small_classes_as_often_as_large_ones(tmp_path):
    root = write_classes(tmp_path, per_class=12, classes=("large", "other"))
    write_classes(root, per_class=3, classes=("small",), first_seed=5000)
    folds = leaf_module(root).split.folds
    module = leaf_module(root, folds=folds, balance="sampler")
    loader = module.training_loader()
    drawn = Counter()
    for epoch in range(60):
        loader.sampler.set_epoch(epoch)
        indices = [index for index, _ in loader.sampler]
        assert len(indices) == module.class_counts().sum() == 18
        drawn.update(loader.dataset.photos.targets[indices].tolist())
    assert all(300 < drawn[number] < 420 for number in range(3)) and module.class_counts().tolist() == [8, 8, 2]
    plain = leaf_module(root, folds=folds)
    assert Counter(ids(plain.training_loader())) == Counter(folds.index[folds != 0])


def test_the_check_lists_all_broken_photos_and_copies(tmp_path):
    root = tmp_path / "data"
    write_classes(root / ORIGINALS)
    names = [f"{ORIGINALS}/{CLASSES[0]}/Curl_1.png", f"{COPIES}/{CLASSES[1]}/Healthy_2_flip.png"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"no photo")
    module = LeafDataModule(root=root, num_folds=FOLDS, num_workers=0)
    with pytest.raises(DataError) as caught:
        module.check()
    assert "2 photo(s) cannot be used" in str(caught.value) and all(name in str(caught.value) for name in names)
    (root / names[0]).unlink()
    with pytest.raises(DataError, match="1 photo"):
        LeafDataModule(root=root, num_folds=FOLDS, num_workers=0).prepare()


def bands_of(root, folder, count=4):
    for path in root.rglob("*.png"):
        (folder / path.parent.relative_to(root)).mkdir(parents=True, exist_ok=True)
        seed = sum(path.name.encode())
        bands = np.random.default_rng(seed).random((count, 36, 48), dtype=np.float32) * 2
        np.save(folder / path.parent.relative_to(root) / f"{path.stem}.npy", bands)
    return folder


def test_bands_are_counted_checked_and_summed_up_over_the_training_photos(tmp_path):
    root = write_classes(tmp_path / "data")
    spectral = bands_of(root, tmp_path / "bands")
    module = leaf_module(root, spectral=spectral)
    module.check()
    assert module.band_count == 4 and leaf_module(root).band_count == 0
    trained = [name for name in module.names() if module.split.folds[name] != 0]
    stored = np.stack([np.load((spectral / name).with_suffix(".npy")) for name in trained])
    mean, deviation = module.band_statistics()
    assert np.allclose(mean, stored.mean(axis=(0, 2, 3)), rtol=1e-5)
    assert np.allclose(deviation, stored.std(axis=(0, 2, 3)), rtol=1e-5)
    before = module.contents()
    changed = (spectral / trained[0]).with_suffix(".npy")
    np.save(changed, np.zeros((3, 36, 48), np.float32))
    with pytest.raises(DataError, match="are 3, most others 4"):
        leaf_module(root, spectral=spectral).check()
    after = leaf_module(root, spectral=spectral).contents()
    assert {name for name in after if after[name] != before[name]} == {f"bands of {trained[0]}"}
    changed.unlink()
    with pytest.raises(DataError, match=r"1 of 18 photos have no bands in"):
        leaf_module(root, spectral=spectral).check()


def test_contents_tell_photos_and_copies_by_their_bytes(published, tmp_path):
    contents = leaf_module(published).contents()
    assert len(contents) == len(set(contents.values())) == len(CLASSES) * (3 * PER_CLASS + 2)
    moved = tmp_path / "moved"
    for path in published.rglob("*.png"):
        target = moved / path.relative_to(published)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    assert leaf_module(moved).contents() == contents


def test_photos_can_be_read_by_name(published):
    module = leaf_module(published)
    name = module.names()[3]
    assert np.array_equal(module.photos().read(name), picture(3)) and name.startswith(ORIGINALS)


def test_held_out_photos_are_selected_and_can_be_left_out(leaf_root):
    module = leaf_module(leaf_root, fold=1)
    module.select("held_out")
    held_out = module.split.folds.index[module.split.folds == 1].tolist()
    assert ids(module.predict_dataloader()) == held_out and module.broken_items() == {}
    module.leave_out(held_out[1:])
    assert ids(module.predict_dataloader()) == held_out[:1]


def test_test_photos_are_refused_with_what_to_do_instead(leaf_root):
    with pytest.raises(DataError, match="--images FOLDER"):
        leaf_module(leaf_root).select("test")


@pytest.mark.parametrize("with_bands", [False, True])
def test_any_files_are_predicted_without_the_data_of_the_training(tmp_path, with_bands):
    photos = [save(picture(number), tmp_path / f"{name}.png") for number, name in enumerate("abcd")]
    (tmp_path / "broken.jpg").write_text("no photo")
    spectral = bands_of(tmp_path, tmp_path / "bands") if with_bands else None
    reasons = {str(tmp_path / "broken.jpg"): "it is not a picture"}
    if with_bands:
        (tmp_path / "bands" / "b.npy").unlink()
        np.save(tmp_path / "bands" / "c.npy", np.zeros((2, 36, 48)))
        reasons |= {str(photos[1]): "b.npy cannot be read", str(photos[2]): "c.npy are 2, most others 4"}
    module = LeafDataModule(root=tmp_path / "elsewhere", spectral=spectral, image_size=16, num_workers=0)
    module.select("files", files=[*photos, tmp_path / "broken.jpg"])
    broken = module.broken_items()
    assert broken.keys() == reasons.keys() and all(reasons[name] in broken[name] for name in reasons)
    module.leave_out(broken)
    (batch,) = module.predict_dataloader()
    assert batch["id"] == [str(photo) for photo in photos if str(photo) not in reasons]
    assert "target" not in batch and ("bands" in batch) is with_bands
