"""Files are whole or absent."""

import json

import pandas as pd
import pytest

from biomass_pl.files import replacing, write_json, write_table, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_appears_only_when_the_block_has_ended(tmp_path):
    path = tmp_path / "new.txt"
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "half" and names(tmp_path) == ["new.txt"]


def test_the_old_file_is_there_until_the_block_has_ended(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and names(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_no_temporary_one(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write_half():
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text() == "old" and names(tmp_path) == ["table.csv"]


def test_a_block_that_writes_nothing_is_an_error_that_keeps_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old" and names(tmp_path) == ["table.csv"]


def test_missing_folders_are_made(tmp_path):
    write_text("text", tmp_path / "run" / "fold_0" / "note.txt")
    assert (tmp_path / "run" / "fold_0" / "note.txt").read_text() == "text"


def test_text_is_written_as_utf_8(tmp_path):
    write_text("R² ≥ 0,7", tmp_path / "note.txt")
    assert (tmp_path / "note.txt").read_bytes().decode("utf-8") == "R² ≥ 0,7"


def test_json_reads_back_and_ends_with_a_line_break(tmp_path):
    content = {"score": 0.25, "folds": [0, 1], "name": None}
    write_json(content, tmp_path / "run.json")
    text = (tmp_path / "run.json").read_text()
    assert json.loads(text) == content and text.endswith("}\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_is_no_number_and_keeps_the_old_file(tmp_path, number):
    path = tmp_path / "metrics.json"
    write_json({"r2": 0.5}, path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"r2": {"Dry_Dead_g": number}}, path)
    assert json.loads(path.read_text()) == {"r2": 0.5} and names(tmp_path) == ["metrics.json"]


def test_a_table_has_no_index_column_and_keeps_every_digit(tmp_path):
    table = pd.DataFrame({"image_id": ["a", "b"], "grams": [0.1 + 0.2, 1 / 3]}, index=[7, 8])
    write_table(table, tmp_path / "oof.csv")
    assert (tmp_path / "oof.csv").read_text() == "image_id,grams\na,0.30000000000000004\nb,0.3333333333333333\n"
