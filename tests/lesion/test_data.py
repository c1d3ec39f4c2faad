"""Lesion photos fold by fold: what is kept apart, what is refused, what the tables tell."""

from collections import Counter

import h5py
import numpy as np
import pandas as pd
import pytest

from biomass_pl.data.splits import NEVER_HELD_OUT
from biomass_pl.errors import ConfigError, DataError, FoldError
from biomass_pl.lesion.data import LesionDataModule
from biomass_pl.lesion.features import lesion_features
from tests.lesion.conftest import (
    COUNT,
    FOLDS,
    MALIGNANT,
    POSITION,
    TABLE,
    TEST,
    ids,
    jpeg,
    lesion_module,
    write_lesions,
)


@pytest.mark.parametrize("seed", [42, 7, 8])
def test_no_patient_is_in_two_folds_and_every_lesion_in_one(lesion_root, seed):
    folds = lesion_module(lesion_root, seed=seed).split.folds
    assert folds.index.tolist() == TABLE["isic_id"].tolist() and set(folds) == set(range(FOLDS))
    assert folds.groupby(TABLE["patient_id"].to_numpy()).nunique().eq(1).all()
    assert folds[list(MALIGNANT)].nunique() == FOLDS


def test_folds_depend_on_the_seed_and_not_on_the_order_of_the_table(lesion_root, lesion_folds, tmp_path):
    shuffled = lesion_module(write_lesions(tmp_path / "data", TABLE.sample(frac=1, random_state=1)))
    assert shuffled.split.folds.to_dict() == lesion_folds.to_dict()
    assert not lesion_module(lesion_root, seed=43).split.folds.equals(lesion_folds)


@pytest.mark.parametrize("size", [13, 30, 59])
def test_a_sample_keeps_all_malignant_lesions_and_the_folds_of_the_whole_table(lesion_root, lesion_folds, size):
    module = lesion_module(lesion_root, sample_size=size)
    names = module.items()["isic_id"].tolist()
    assert len(names) == len(set(names)) == size and set(names) >= MALIGNANT
    assert names == [name for name in TABLE["isic_id"] if name in names]
    pd.testing.assert_series_equal(module.split.folds, lesion_folds.loc[names])


def test_a_sample_depends_on_the_seed_alone(lesion_root):
    drawn = [set(lesion_module(lesion_root, sample_size=30, seed=seed).names()) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("size", [None, COUNT, 10 * COUNT])
def test_a_sample_of_all_or_more_is_the_whole_table(lesion_root, size):
    labels = lesion_module(lesion_root, sample_size=size).items()
    pd.testing.assert_frame_equal(labels, TABLE[["isic_id", "patient_id", "target"]])


@pytest.mark.parametrize("size", [1, 12])
def test_a_sample_without_room_for_benign_lesions_is_refused(lesion_root, size):
    with pytest.raises(ConfigError) as caught:
        lesion_module(lesion_root, sample_size=size)
    assert f"data.sample_size {size} leaves no room for benign lesions beside the 12" in str(caught.value)
    assert "Raise it above 12" in str(caught.value)


def given_folds(path, folds):
    folds.rename("fold").rename_axis("isic_id").reset_index().to_csv(path, index=False)
    return path


def test_given_folds_take_the_place_of_folds_by_patient_in_a_sample_too(lesion_root, lesion_folds, tmp_path):
    path = given_folds(tmp_path / "folds.csv", (lesion_folds + 1) % FOLDS)
    for size in (None, 20):
        module = lesion_module(lesion_root, fold_csv=path, sample_size=size)
        assert module.split.folds.to_dict() == ((lesion_folds + 1) % FOLDS)[module.names()].to_dict()


def test_lesions_that_are_never_held_out_are_always_trained_on(lesion_root, lesion_folds, tmp_path):
    given = lesion_folds.replace({2: NEVER_HELD_OUT})
    path = given_folds(tmp_path / "folds.csv", given)
    for fold in (0, 1):
        module = lesion_module(lesion_root, fold, fold_csv=path)
        module.check_split()
        assert set(ids(module.train_dataloader())) == set(given.index[given != fold])
        assert set(ids(module.val_dataloader())) == set(given.index[given == fold])


@pytest.mark.parametrize("size", [None, 30])
def test_copies_of_a_photo_are_known_by_their_content(tmp_path, size):
    benign = TABLE["isic_id"][TABLE["target"] == 0].tolist()
    plain = lesion_module(write_lesions(tmp_path / "data"), sample_size=size)
    first, other = [name for name in plain.names() if name in benign][:2]
    contents = plain.contents()
    assert list(contents) == plain.names().tolist() and len(set(contents.values())) == len(contents)
    copied = lesion_module(
        write_lesions(tmp_path / "copies", contents={first: jpeg(99), other: jpeg(99)}), sample_size=size
    )
    same = copied.contents()
    assert same[first] == same[other] != contents[first]
    assert {name for name in contents if same[name] != contents[name]} == {first, other}


def test_given_folds_that_split_a_patient_are_refused(lesion_root, lesion_folds, tmp_path):
    moved = lesion_folds.copy()
    moved[TABLE["isic_id"][1]] = (lesion_folds[TABLE["isic_id"][1]] + 1) % FOLDS
    with pytest.raises(FoldError) as caught:
        lesion_module(lesion_root, fold_csv=given_folds(tmp_path / "folds.csv", moved))
    assert "lesions of 1 patient(s) into several folds" in str(caught.value) and "  IP_1" in str(caught.value)


def test_given_folds_of_other_lesions_are_refused(lesion_root, lesion_folds, tmp_path):
    name = TABLE["isic_id"][5]
    with pytest.raises(FoldError, match=f"photo {name} of the label table has no fold"):
        lesion_module(lesion_root, fold_csv=given_folds(tmp_path / "folds.csv", lesion_folds.drop(name)))


def test_more_folds_than_patients_are_refused(lesion_root):
    with pytest.raises(FoldError, match="Grouping by patient_id finds 12 groups for 13 folds"):
        lesion_module(lesion_root, num_folds=13)


@pytest.mark.parametrize("settings", [{}, {"sample_size": 25}])
def test_each_fold_trains_on_the_lesions_it_does_not_hold_out(lesion_root, lesion_folds, settings):
    held_out = Counter()
    for fold in range(FOLDS):
        module = lesion_module(lesion_root, fold, **settings)
        train, val = ids(module.train_dataloader()), ids(module.val_dataloader())
        assert sorted(train + val) == sorted(module.names())
        assert set(val) == set(module.names()) & set(lesion_folds.index[lesion_folds == fold])
        held_out.update(val)
    assert held_out == Counter(module.names())


def test_the_check_lists_all_lesions_without_a_photo(lesion_folds, tmp_path):
    root = write_lesions(tmp_path / "data")
    with h5py.File(root / "train-image.hdf5", "a") as file:
        for name in TABLE["isic_id"][[3, 8]]:
            del file[name]
    module = lesion_module(root, folds=lesion_folds)
    with pytest.raises(DataError) as caught:
        module.check()
    assert "2 of 60 photos are missing" in str(caught.value)
    assert str(caught.value).splitlines()[1:] == [f"  {name}" for name in TABLE["isic_id"][[3, 8]]]
    with pytest.raises(DataError, match="has no photo ISIC_"):
        [*module.train_dataloader(), *module.val_dataloader()]


def test_the_check_lists_all_broken_photos_of_the_sample_and_no_others(tmp_path):
    benign = TABLE["isic_id"][TABLE["target"] == 0]
    used = set(lesion_module(write_lesions(tmp_path / "data"), sample_size=20).names())
    broken, unused = [name for name in benign if name in used][:2], [name for name in benign if name not in used]
    contents = {broken[0]: b"no picture", broken[1]: jpeg(0)[:-30], **dict.fromkeys(unused, b"no picture")}
    with pytest.raises(DataError) as caught:
        lesion_module(write_lesions(tmp_path / "data", contents=contents), sample_size=20).check()
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 photo(s) cannot be used:" and len(lines) == 3
    assert broken[0] in lines[1] and "not a picture" in lines[1] and broken[1] in lines[2] and "truncated" in lines[2]


def test_missing_tables_and_photos_are_named_when_they_are_asked_for(lesion_folds, tmp_path):
    with pytest.raises(DataError, match=r"train-metadata.csv does not exist"):
        lesion_module(tmp_path)
    root = write_lesions(tmp_path / "data")
    with pytest.raises(DataError, match=r"test-metadata.csv does not exist"):
        lesion_module(root, folds=lesion_folds).select("test")
    (root / "train-image.hdf5").unlink()
    with pytest.raises(DataError, match=r"has neither train-image.hdf5 nor a folder train-image"):
        lesion_module(root, folds=lesion_folds).check()


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize(("target", "kind"), [(1, "malignant"), (0, "benign")])
def test_a_fold_that_lacks_a_kind_of_lesion_is_refused(lesion_root, fold, target, kind):
    """All lesions of the kind are in fold 0: its training lacks them, and so does what the others hold out."""
    lacking = pd.Series(np.where(TABLE["target"] == target, 0, POSITION % 2), index=TABLE["isic_id"])
    with pytest.raises(FoldError) as caught:
        lesion_module(lesion_root, fold, lacking, batch_size=1).check_split()
    verb = ("trains on", "holds out")[fold]
    assert f"Fold {fold} {verb} no {kind} lesion; the score needs both kinds" in str(caught.value)


def test_good_folds_are_accepted_and_batches_larger_than_the_training_photos_refused(lesion_root, lesion_folds):
    for fold in range(FOLDS):
        training = int((lesion_folds != fold).sum())
        lesion_module(lesion_root, fold, lesion_folds, batch_size=training).check_split()
        with pytest.raises(ConfigError, match=f"data.batch_size {training + 1} is more than the {training}"):
            lesion_module(lesion_root, fold, lesion_folds, batch_size=training + 1).check_split()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"positive_ratio": 0.5, "neg_pos_ratio": 1.0}, "data.positive_ratio and data.neg_pos_ratio"),
        *(({"positive_ratio": value}, f"data.positive_ratio is {value}") for value in (0.0, 1.0, -0.1, float("nan"))),
        *(({"neg_pos_ratio": value}, f"data.neg_pos_ratio is {value}") for value in (0.0, -1.0, float("nan"))),
        *(({name: 0}, f"data.{name} is 0; give 1 or more") for name in ("sample_size", "image_size", "batch_size")),
        ({"neg_pos_ratio": float("inf")}, "data.neg_pos_ratio is inf"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(settings, told):
    with pytest.raises(ConfigError) as caught:
        LesionDataModule(**settings)
    assert told in str(caught.value)


def test_table_features_are_made_of_what_the_test_table_also_has(lesion_root):
    module = lesion_module(lesion_root, sample_size=30)
    features = module.table_features(None)
    whole = lesion_features(TABLE.set_index("isic_id", drop=False), columns=["age_approx", "tbp_lv_H"])
    pd.testing.assert_frame_equal(features.labelled, whole.loc[module.names()])  # patients as in the whole table
    assert not {"sex", "target", "iddx_full"} & set(features.labelled)
    assert list(features.test) == list(features.labelled) and features.test.index.tolist() == TEST["isic_id"].tolist()
    labelled, test = features.groups
    assert labelled.to_dict() == module.items().set_index("isic_id")["patient_id"].to_dict()
    assert test.to_dict() == TEST.set_index("isic_id")["patient_id"].to_dict()


def test_without_test_metadata_all_usable_columns_are_features(tmp_path):
    features = lesion_module(write_lesions(tmp_path / "data")).table_features(None)
    assert {"age_approx", "tbp_lv_H", "sex"} < set(features.labelled) and "iddx_full" not in features.labelled
    assert features.test is None and features.groups[1] is None


def test_columns_asked_for_are_the_ones_features_are_made_of(lesion_root):
    features = lesion_module(lesion_root).table_features(["age_approx"])
    assert "age_approx" in features.labelled and "tbp_lv_H" not in features.labelled


@pytest.mark.parametrize(
    ("column", "told"),
    [("iddx_full", "known in training only"), ("target", "known in training only"), ("sex", "has no column 'sex'")],
)
def test_columns_the_test_lesions_lack_are_refused_as_features(lesion_root, column, told):
    with pytest.raises(ConfigError, match=told):
        lesion_module(lesion_root).table_features(["age_approx", column])


@pytest.mark.parametrize("split", ["train", "test"])
def test_metadata_without_names_give_no_features(tmp_path, split):
    root = write_lesions(write_lesions(tmp_path / "data"), TEST, "test")
    path = root / f"{split}-metadata.csv"
    module = lesion_module(root)
    pd.read_csv(path).drop(columns="isic_id").to_csv(path, index=False)
    with pytest.raises(DataError, match="isic_id"):
        module.table_features(None)


@pytest.mark.parametrize(
    ("batch_size", "ratio", "malignant"), [(20, 0.75, 15), (30, 0.5, 15), (4, 0.2, 0), (1, 0.5, 0)]
)
def test_balanced_batches_that_cannot_be_filled_are_refused_before_training(
    lesion_root, lesion_folds, batch_size, ratio, malignant
):
    module = lesion_module(lesion_root, folds=lesion_folds, batch_size=batch_size, positive_ratio=ratio)
    with pytest.raises(ConfigError) as caught:
        module.check_split()
    told = f"data.positive_ratio {ratio} puts {malignant} malignant and {batch_size - malignant} benign lesions"
    trained = len(MALIGNANT & set(lesion_folds.index[lesion_folds != 0]))
    assert told in str(caught.value) and f"fold 0 trains on {trained} malignant ones" in str(caught.value)


def test_balanced_batches_of_all_malignant_lesions_at_once_are_accepted(lesion_root, lesion_folds):
    trained = len(MALIGNANT & set(lesion_folds.index[lesion_folds != 0]))
    module = lesion_module(lesion_root, folds=lesion_folds, batch_size=2 * trained, positive_ratio=0.5)
    module.check_split()
    (batch,) = module.train_dataloader()
    assert batch["target"].sum() == trained
