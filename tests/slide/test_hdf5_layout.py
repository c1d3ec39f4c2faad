"""Specimens of an HDF5 file: where they are, the sizes of their bags, their vectors and texts."""

import pickle

import h5py
import numpy as np
import pytest

from biomass_pl.errors import ConfigError, DataError
from biomass_pl.slide.hdf5_layout import Hdf5Bags, Hdf5Reports

FEATURES = "hipt_features_comp_1"
FLAT = np.arange(6, dtype=np.float16).reshape(3, 2)
TILED = np.arange(24, dtype=np.float32).reshape(4, 3, 2)


def write(path, bags, *, texts=None, index="texts"):
    """A file of bags by (patient, specimen), with an index of one of several kinds."""
    with h5py.File(path, "w") as file:
        file.create_group("patients")
        for (patient, name), array in bags.items():
            file[f"patients/{patient}/{name}/{FEATURES}/features"] = array
        for place, text in (texts or {}).items():
            file[f"patients/{place}"] = text
        ids, places = [name for _, name in bags], [f"/patients/{patient}/{name}" for patient, name in bags]
        if index == "texts":
            kind = h5py.string_dtype()
            file.create_dataset("case-index/case_ids", data=ids, dtype=kind)
            file.create_dataset("case-index/case_paths", data=places, dtype=kind)
        elif index == "bytes":
            file["case-index/case_ids"] = np.array(ids, "S")
            file["case-index/case_paths"] = np.array([place.strip("/") for place in places], "S")
        elif index == "empty":
            file.create_group("case-index")
    return path


def opened(path, *arguments, **options) -> Hdf5Bags:
    return Hdf5Bags(write(path / "s.hdf5", *arguments, **options), feature_attribute=FEATURES)


TWO = {("P2", "b"): FLAT, ("P1", "a"): TILED}


@pytest.mark.parametrize("index", ["texts", "bytes", "empty", "none"])
def test_specimens_stand_in_the_index_or_else_under_their_patients(index, tmp_path):
    bags = opened(tmp_path, TWO, index=index)
    assert bags.specimens == {"a": "P1", "b": "P2"}
    if index in ("texts", "bytes"):
        assert list(bags.specimens) == ["b", "a"]
    assert bags.shapes(["a", "b"]) == ({"a": (12, 2), "b": (3, 2)}, {})


def test_vectors_are_those_of_all_tiles_as_they_are_stored(tmp_path):
    bags = opened(tmp_path, TWO)
    assert np.array_equal(bags.read("b"), FLAT) and bags.read("b").dtype == np.float16
    assert np.array_equal(bags.read("a"), TILED.reshape(12, 2)) and bags.read("a").dtype == np.float32


@pytest.mark.parametrize("stored", [">f4", "f8", "i2", "u1", ">f2"])
def test_numbers_of_any_type_are_read(stored, tmp_path):
    vectors = opened(tmp_path, {("P", "a"): FLAT.astype(stored)}).read("a")
    assert np.array_equal(vectors, FLAT) and vectors.dtype in (np.float32, np.float64)
    assert vectors.dtype.isnative


def test_bags_can_be_handed_to_another_process_while_open(tmp_path):
    bags = opened(tmp_path, TWO)
    bags.read("a")
    assert np.array_equal(pickle.loads(pickle.dumps(bags)).read("b"), FLAT)


def test_what_is_no_array_of_vectors_is_told_by_specimen(tmp_path):
    bags = opened(
        tmp_path,
        {
            ("P", "fine"): FLAT,
            ("P", "flat"): FLAT[0],
            ("P", "deep"): TILED[None],
            ("P", "text"): np.array([["x", "y"]], "S"),
            ("P", "empty"): FLAT[:0],
        },
    )
    with h5py.File(bags.source, "a") as file:
        file.create_group("patients/P/bare")
        file.create_group(f"patients/P/group/{FEATURES}/features")
        file[f"patients/P/other/{FEATURES}/positions"] = FLAT
    bags.paths |= {name: f"patients/P/{name}" for name in ("bare", "group", "other")}
    shapes, problems = bags.shapes(list(bags.paths))
    assert shapes == {"fine": (3, 2), "empty": (0, 2)}
    assert set(problems) == {"flat", "deep", "text", "bare", "group", "other"}
    assert "1 dimension(s) of float16" in problems["flat"] and "4 dimension" in problems["deep"]
    assert "a group" in problems["group"] and f"no array patients/P/bare/{FEATURES}/features" in problems["bare"]
    with pytest.raises(DataError, match=r"features of bare in .*s\.hdf5 cannot be read"):
        bags.read("bare")


def test_a_name_that_no_specimen_has_is_refused_with_those_there_are(tmp_path):
    path = write(tmp_path / "s.hdf5", TWO, texts={"P1/a/HE_plus_IHC": "Text."})
    bags = Hdf5Bags(path, feature_attribute="uni_comp_0")
    with pytest.raises(ConfigError, match=rf"'uni_comp_0'. patients/P1/a has HE_plus_IHC, {FEATURES}. Correct data"):
        bags.shapes(["a", "b"])
    reports = Hdf5Reports(Hdf5Bags(path, feature_attribute=FEATURES), text_attribute="HE + IHC")
    with pytest.raises(ConfigError, match=rf"'HE \+ IHC'. patients/P1/a has HE_plus_IHC, {FEATURES}. Correct data"):
        reports.read({"a": "P1"})


@pytest.mark.parametrize(
    ("ids", "places", "message"),
    [
        (["a"], ["/patients/P1"], "a: /patients/P1 is not /patients/<patient>/a"),
        (["a"], ["/people/P1/a"], "a: /people/P1/a is not"),
        (["a"], ["/patients/P1/b"], "a: /patients/P1/b is not"),
        (["a"], ["/patients/P1/a/x"], "is not"),
        (["a", "a"], ["/patients/P1/a", "/patients/P2/a"], "a is there twice: patients/P1/a and patients/P2/a"),
        (["a", "b"], ["/patients/P1/a"], "no index of specimens"),
        ([b"\xff"], ["/patients/P1/a"], "no index of specimens"),
        (1, 2, "no index of specimens"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(ids, places, message, tmp_path):
    with h5py.File(tmp_path / "s.hdf5", "w") as file:
        file["case-index/case_ids"], file["case-index/case_paths"] = ids, places
    with pytest.raises(DataError, match=message):
        Hdf5Bags(tmp_path / "s.hdf5", feature_attribute=FEATURES)


def test_the_same_line_twice_in_an_index_is_one_specimen(tmp_path):
    with h5py.File(write(tmp_path / "s.hdf5", TWO, index="none"), "a") as file:
        file["case-index/case_ids"] = ["a", "a"]
        file["case-index/case_paths"] = ["/patients/P1/a", "patients/P1/a/"]
    assert Hdf5Bags(tmp_path / "s.hdf5", feature_attribute=FEATURES).specimens == {"a": "P1"}


def test_a_file_without_specimens_is_refused(tmp_path):
    with pytest.raises(DataError, match="no specimens"):
        opened(tmp_path, {}, index="empty")


def test_texts_are_read_in_utf8_of_those_that_have_one(tmp_path):
    texts = {"P2/b/report": "Größe: 3 µm.", "P1/a/report": np.bytes_(b"Gewebe.")}
    bags = opened(tmp_path, {**TWO, ("P1", "c"): FLAT}, texts=texts)
    reports = Hdf5Reports(bags, text_attribute="report")
    assert reports.specimens == {"b": "P2", "a": "P1", "c": "P1"}
    assert reports.read({"c": "P1", "b": "P2", "a": "P1"}) == {"b": "Größe: 3 µm.", "a": "Gewebe."}


@pytest.mark.parametrize("stored", [3, ["a", "b"], np.bytes_(b"\xff")])
def test_something_else_than_a_text_is_refused(stored, tmp_path):
    bags = opened(tmp_path, TWO, texts={"P1/a/report": stored, "P2/b/report": "Fine."})
    with pytest.raises(DataError, match=r"report of 1 specimen\(s\).*\n  patients/P1/a/report$"):
        Hdf5Reports(bags, text_attribute="report").read({"a": "P1", "b": "P2"})
