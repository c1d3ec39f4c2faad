"""JSON files of the user are read as they stand, or refused with what is wrong."""

import pytest

from biomass_pl.errors import DataError
from biomass_pl.slide.json_files import read_json_object


def test_an_object_keeps_its_order(tmp_path):
    path = tmp_path / "some.json"
    path.write_bytes(b'\xef\xbb\xbf{"b": [1, "\xc3\xa4"], "a": {"c": null}}')
    assert list(read_json_object(path, setting="data.some").items()) == [("b", [1, "ä"]), ("a", {"c": None})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1', "is not the JSON file"),
        (b"", "is not the JSON file"),
        (b'{"a": "\xff"}', "is not the JSON file"),
        (b"[1]", "no JSON object, in braces, but a list"),
        (b"3", "but '3'"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' is there twice"),
        (b'{"p": {"a": 1, "a": 1}}', "'a' is there twice"),
        (b"[" * 100_000, "is not the JSON file"),
    ],
)
def test_anything_else_is_refused(content, message, tmp_path):
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_json_object(path, setting="data.some")
    assert "some.json" in str(error.value) and "data.some" in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.json does not exist. Correct data\.some"):
        read_json_object(tmp_path / "absent.json", setting="data.some")
