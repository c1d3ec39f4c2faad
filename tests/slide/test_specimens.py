"""Both layouts give the same specimens, and what cannot be used is refused by one message for each kind of defect."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from biomass_pl.errors import ConfigError, DataError
from biomass_pl.slide.specimens import SpecimenFiles, broken_bags, open_specimens, read_bag, specimen_table

GOOD = np.ones((3, 2), np.float16)


def test_both_layouts_give_the_same(packed, unpacked):
    one, other = open_specimens(packed), open_specimens(unpacked)
    names = sorted(one.patients)
    assert one.patients == other.patients and len(names) == 60
    table = specimen_table(one, names)
    assert table.equals(specimen_table(other, names))
    assert list(table.columns) == ["specimen_id", "patient_id", "vectors", "width", "report"]
    assert table["specimen_id"].tolist() == names and set(table["width"]) == {384}
    assert table["patient_id"].tolist() == [one.patients[name] for name in names]
    for name, vectors in zip(names, table["vectors"], strict=True):
        assert read_bag(one.bags, name).shape == (vectors, 384)
        assert np.array_equal(read_bag(one.bags, name), read_bag(other.bags, name))
    assert broken_bags(one.bags, names) == {}


def test_rows_come_in_the_order_of_the_names(packed):
    specimens = open_specimens(packed)
    names = sorted(specimens.patients)[:5][::-1]
    assert specimen_table(specimens, names)["specimen_id"].tolist() == names
    assert specimen_table(specimens, []).empty


def test_reports_may_come_from_a_json_file_beside_an_hdf5_file(packed, unpacked):
    files = replace(packed, hdf5_text_attribute=None, text_data_file=unpacked.text_data_file)
    one, other = open_specimens(packed), open_specimens(files)
    names = sorted(one.patients)
    assert specimen_table(one, names).equals(specimen_table(other, names))


def test_an_hdf5_file_counts_instead_of_directories(packed, unpacked):
    specimens = open_specimens(replace(packed, root_dir=unpacked.root_dir))
    assert specimens.bags.source == str(packed.hdf5_filename)


def test_bags_can_be_handed_to_other_processes(packed, unpacked):
    for files in (packed, unpacked):
        bags = open_specimens(files).bags
        name = next(iter(bags.specimens))
        assert np.array_equal(pickle.loads(pickle.dumps(bags)).read(name), bags.read(name))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hdf5_filename": None}, r"no features to read.*biomass sample --kind slide"),
        ({"hdf5_feature_attribute": None}, r"needs data\.hdf5_feature_attribute"),
        ({"hdf5_text_attribute": None}, r"Reports come from .*Give one of them"),
        ({"text_data_file": Path("r.json")}, r"Give one of them, and leave out the other"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message, packed):
    with pytest.raises(ConfigError, match=message):
        open_specimens(replace(packed, **changes))


def test_directories_need_a_file_of_reports(packed, unpacked):
    with pytest.raises(ConfigError, match=r"data\.text_data_file"):
        open_specimens(replace(unpacked, text_data_file=None, hdf5_text_attribute="report"))


def test_an_hdf5_file_that_does_not_exist_is_named(packed, tmp_path):
    with pytest.raises(DataError, match=r"absent\.hdf5 does not exist. Correct data\.hdf5_filename"):
        open_specimens(replace(packed, hdf5_filename=tmp_path / "absent.hdf5"))


@pytest.fixture
def store(tmp_path):
    """Opens made-up bags and reports of one patient by specimen."""

    def opened(bags, reports, patient="P1"):
        with h5py.File(tmp_path / "s.hdf5", "w") as file:
            for name, array in bags.items():
                file[f"patients/P1/{name}/features/features"] = array
        (tmp_path / "r.json").write_text(json.dumps({patient: reports}))
        return open_specimens(
            SpecimenFiles(
                hdf5_filename=tmp_path / "s.hdf5",
                hdf5_feature_attribute="features",
                text_data_file=tmp_path / "r.json",
            )
        )

    return opened


def test_specimens_with_features_or_a_report_are_known(store):
    assert store({"a": GOOD, "b": GOOD}, {"b": "B.", "c": "C."}).patients == {"a": "P1", "b": "P1", "c": "P1"}


WIDE = np.ones((3, 5), np.float16)
TEXTS = {"a": "A.", "b": "B.", "c": "C.", "d": "D."}


@pytest.mark.parametrize(
    ("bags", "reports", "message"),
    [
        ({"a": GOOD, "b": GOOD}, TEXTS, r"2 specimen\(s\) have no features in .*s\.hdf5.*:\n  c\n  d$"),
        ({"a": GOOD, "b": GOOD[0], "c": GOOD, "d": WIDE}, TEXTS, r"1 specimen\(s\) have features.*:\n  b: .*1 dimens"),
        ({"a": GOOD, "b": WIDE, "c": GOOD, "d": GOOD[:0]}, TEXTS, r"1 specimen\(s\) have empty bags.*:\n  d$"),
        (
            {"a": GOOD, "b": WIDE, "c": GOOD, "d": GOOD},
            {},
            r"1 specimen\(s\) have vectors of another width than 2.*:\n  b: 5$",
        ),
        (
            dict.fromkeys("abcd", GOOD),
            {"b": "", "d": "D."},
            r"2 specimen\(s\) have no report in .*r\.json.*:\n  a of P1\n  c of P1$",
        ),
        (
            dict.fromkeys("abcd", GOOD),
            TEXTS | {"b": " \n", "c": ""},
            r"2 specimen\(s\) have an empty report.*:\n  b\n  c$",
        ),
    ],
)
def test_specimens_that_cannot_be_used_are_refused(bags, reports, message, store):
    with pytest.raises(DataError, match=message):
        specimen_table(store(bags, reports), list("abcd"))


def test_what_is_wrong_with_other_specimens_does_not_matter(store):
    specimens = store({"a": GOOD, "b": GOOD[0], "c": WIDE, "d": GOOD[:0], "e": GOOD}, {"a": "A."})
    assert specimen_table(specimens, ["a"])["vectors"].tolist() == [3]


def test_the_report_of_another_patient_is_none(store):
    with pytest.raises(DataError, match=r"no report.*\n  a of P1$"):
        specimen_table(store({"a": GOOD}, {"a": "A."}, patient="P2"), ["a"])


@pytest.mark.parametrize("stored", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_number_are_found_wherever_they_are(stored, value, store):
    largest = np.full((400, 50), np.finfo(stored).max / (1e6 if stored == np.float64 else 1), stored)
    bags = {"a": largest, "b": largest.copy(), "c": largest.copy()}
    bags["b"][399, 49] = bags["c"][0, 0] = value
    opened = store(bags, {}).bags
    broken = broken_bags(opened, ["a", "b", "c"])
    assert list(broken) == ["b", "c"] and all(f"features of {name} in" in reason for name, reason in broken.items())
    with pytest.raises(DataError, match=r"features of c in .* no finite number"):
        read_bag(opened, "c")


def test_bags_that_vanish_are_told(store, tmp_path):
    bags = store({"a": GOOD, "b": GOOD}, {}).bags
    with h5py.File(tmp_path / "s.hdf5", "a") as file:
        del file["patients/P1/b"]
    broken = broken_bags(bags, ["a", "b"])
    assert list(broken) == ["b"] and "The features of b in" in broken["b"] and "cannot be read" in broken["b"]
