"""Specimens in folders of feature files, of which nothing is run."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from biomass_pl.errors import DataError
from biomass_pl.slide.directory_layout import DirectoryBags

FIRST = torch.arange(6.0).reshape(3, 2).half()
SECOND = torch.arange(4.0).reshape(2, 2).half() + 10


def tiles(*features):
    return {(0, 0, 0, number): {"feature": feature, "position": [1, 0, 0]} for number, feature in enumerate(features)}


def record(name, patient="P1", file="0.pth", quote="'"):
    described = {"specimen_index": 0, "patient": patient, "specimen": name, "size": 1.5}
    return f'["slide - 1.ndpi"]\n{json.dumps(described)}\n{quote}{file}{quote}\n'


def write(folder: Path, text: str, **files) -> Path:
    """A folder of records and feature files; what is no bytes is saved by torch."""
    features = folder / "extracted_features"
    features.mkdir(parents=True, exist_ok=True)
    (folder / "feature_information.txt").write_text(text, encoding="utf-8")
    for name, content in files.items():
        path = features / f"{name.strip('_')}.pth"
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    return folder


@pytest.fixture
def root(tmp_path) -> Path:
    """Two specimens in the root, one in the remainder."""
    root = tmp_path / "bags"
    text = record("a") + "\n" + record("b", "P2", "1.pth", '"') + "\n\n \n"
    write(root / "data_0", text, _0={0: tiles(FIRST, SECOND), 1: tiles(torch.ones(1, 5))}, _1={0: tiles(FIRST[0])})
    write(tmp_path / "bags_remainder" / "data_0", record("c", "P1"), _0={0: tiles(FIRST.tolist())})
    (root / "notes").mkdir()
    (root / "data_0" / "tile_information.txt").write_text("anything")
    return root


def test_specimens_of_the_root_and_its_remainder_are_found(root):
    bags = DirectoryBags(root)
    assert bags.specimens == {"a": "P1", "b": "P2", "c": "P1"}
    assert bags.shapes(["c", "b", "a"]) == ({"c": (3, 2), "b": (1, 2), "a": (5, 2)}, {})


def test_vectors_are_those_of_all_tiles_as_they_are_stored(root):
    bags = pickle.loads(pickle.dumps(DirectoryBags(root)))
    assert np.array_equal(bags.read("a"), torch.cat([FIRST, SECOND]).numpy()) and bags.read("a").dtype == np.float16
    assert np.array_equal(bags.read("b"), FIRST[:1].numpy())
    assert np.array_equal(bags.read("c"), FIRST.float().numpy()) and bags.read("c").dtype == np.float32


def test_tiles_of_an_array_with_three_dimensions_and_of_any_type_are_read(root):
    stored = {0: tiles(torch.arange(12).reshape(2, 3, 2).bfloat16(), torch.zeros(1, 2).bfloat16())}
    torch.save(stored, root / "data_0/extracted_features/0.pth")
    bags = DirectoryBags(root)
    assert bags.shapes(["a"]) == ({"a": (7, 2)}, {})
    assert bags.read("a").dtype == np.float32 and bags.read("a")[5].tolist() == [10, 11]


def test_a_component_is_chosen(root):
    bags = DirectoryBags(root, component=1)
    shapes, problems = bags.shapes(["a", "b"])
    assert shapes == {"a": (1, 5)} and bags.read("a").tolist() == [[1] * 5]
    assert problems["b"].endswith("1.pth has no component 1 of tiles, but 0")


def test_files_of_the_format_before_archives_are_read(root):
    path = root / "data_0/extracted_features/0.pth"
    torch.save({0: tiles(FIRST)}, path, _use_new_zipfile_serialization=False)
    assert DirectoryBags(root).shapes(["a"]) == ({"a": (3, 2)}, {})
    assert np.array_equal(DirectoryBags(root).read("a"), FIRST.numpy())


def test_sizes_are_known_without_reading_the_vectors(root):
    """Damage in the vectors shows only where they are read."""
    path = root / "data_0/extracted_features/0.pth"
    torch.save({0: tiles(torch.full((500, 2), 7.0))}, path)
    data = path.read_bytes()
    place = data.index(np.full(100, 7.0, np.float32).tobytes())
    path.write_bytes(data[:place] + b"\0" * 40 + data[place + 40 :])
    bags = DirectoryBags(root)
    assert bags.shapes(["a"]) == ({"a": (500, 2)}, {}) and bags.read("a").ravel()[:11].tolist() == [0] * 10 + [7]


class Code:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "ran")


@pytest.mark.parametrize("new_format", [True, False])
def test_a_file_with_code_is_refused_and_the_code_never_runs(new_format, root, tmp_path):
    path = root / "data_0/extracted_features/0.pth"
    torch.save({0: Code(tmp_path / "marker")}, path, _use_new_zipfile_serialization=new_format)
    bags = DirectoryBags(root)
    shapes, problems = bags.shapes(["a", "b"])
    assert set(shapes) == {"b"} and "could run code" in problems["a"] and "0.pth" in problems["a"]
    with pytest.raises(DataError, match="could run code"):
        bags.read("a")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (b"", "cannot be loaded"),
        (b"PK no archive", "cannot be loaded"),
        ([FIRST], "no component 0 of tiles, but list"),
        ({}, "but nothing"),
        ({0: FIRST}, "no component 0"),
        ({0: {(0, 0): FIRST}}, "without an array of numbers"),
        ({0: {(0, 0): {"position": [1]}}}, "without an array of numbers"),
        ({0: tiles("text")}, "without an array of numbers"),
        ({0: tiles([[1.0], [1.0, 2.0]])}, "without an array of numbers"),
        ({0: tiles(torch.tensor(1.0))}, "no vector or array of vectors"),
        ({0: tiles(torch.ones(1, 1, 1, 2))}, "no vector or array of vectors"),
        ({0: tiles(torch.ones(2, 2).to_sparse())}, "no vector or array of vectors"),
        ({0: tiles(FIRST, torch.ones(1, 3))}, r"mixes vectors of the widths \[2, 3\]"),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_what_is_no_file_of_tiles_is_told_by_specimen(stored, message, root):
    write(root / "data_0", (root / "data_0/feature_information.txt").read_text(), _0=stored)
    bags = DirectoryBags(root)
    shapes, problems = bags.shapes(["a", "b"])
    assert set(shapes) == {"b"}
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(problems["a"])


def test_a_bag_without_tiles_is_empty_and_a_missing_file_is_told(root):
    write(root / "data_0", (root / "data_0/feature_information.txt").read_text(), _0={0: {}})
    (root / "data_0/extracted_features/1.pth").unlink()
    bags = DirectoryBags(root)
    shapes, problems = bags.shapes(["a", "b"])
    assert shapes == {"a": (0, 0)} and problems["b"].endswith("1.pth does not exist")
    with pytest.raises(DataError, match="has no tiles"):
        bags.read("a")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (record("x") + '["s"]\n{"patient": "P", "specimen": "y"}\n', 4),
        (record("x")[:-8], 1),
        ("\n\n" + record("x").replace("'0.pth'", "0.pth"), 3),
        (record("x").replace("'0.pth'", "'0.pth\""), 1),
        (record("x").replace("'0.pth'", "'../0.pth'"), 1),
        (record("x").replace('["slide - 1.ndpi"]', "slide - 1.ndpi"), 1),
        (record("x").replace('"P1"', "1"), 1),
        (record("x").replace('"patient"', '"person"'), 1),
        (record("x").replace("{", "[").replace("}", "]"), 1),
    ],
)
def test_records_that_cannot_be_read_are_refused_with_their_line(text, line, root):
    write(root / "data_0", text)
    with pytest.raises(DataError, match=rf"data_0/feature_information\.txt, line {line}: here three lines"):
        DirectoryBags(root)


def test_a_specimen_that_is_listed_again_with_the_same_bytes_is_one(root):
    again = write(root / "data_1", record("a"))
    shutil.copy(root / "data_0/extracted_features/0.pth", again / "extracted_features/0.pth")
    write(root / "data_2", record("z") + record("z"), _0={0: tiles(FIRST)})
    bags = DirectoryBags(root)
    assert list(bags.specimens) == ["a", "b", "z", "c"] and bags.shapes(["a", "z"])[0] == {"a": (5, 2), "z": (3, 2)}


@pytest.mark.parametrize(
    ("text", "place"),
    [(record("a"), "specimen a: "), (record("a", "P7"), "specimen a: "), (record("x") + record("y"), "file ")],
)
def test_a_specimen_with_other_bytes_or_another_patient_is_refused(text, place, root):
    stored = {0: tiles(FIRST, SECOND), 1: tiles(torch.ones(1, 5))} if "P7" in text else {0: tiles(SECOND)}
    write(root / "data_1", text, _0=stored)
    with pytest.raises(DataError, match=rf"two places that tell different things.*\n  {place}.*line 1 and .*line"):
        DirectoryBags(root)


def test_a_folder_without_specimens_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist. Correct data\.root_dir"):
        DirectoryBags(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no folder with specimens"):
        DirectoryBags(tmp_path)
