"""Files are whole or absent."""

import errno
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from biomass_pl.files import replacing, require_writable, write_json, write_json_once, write_table, write_text


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


def test_texts_of_a_table_read_back_as_they_are(tmp_path):
    texts = ["one\rtwo", "one\r\ntwo", "one\ntwo", 'a "quoted, one"', "007", "plain", ""]
    table = pd.DataFrame({"report": texts, "grams": [0.1 + 0.2] * 7, "count": range(7)})
    write_table(table, tmp_path / "oof.csv")
    read = pd.read_csv(tmp_path / "oof.csv", dtype={"report": str}, keep_default_na=False)
    assert read["report"].tolist() == texts and read["grams"].tolist() == [0.1 + 0.2] * 7
    assert (tmp_path / "oof.csv").read_bytes().count(b"\n") == 8 + 2


def failing_write(path, error_number, filename):
    """Fails as the writing of a temporary file does: with its name, or with none where the file was open already."""
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError(error_number, os.strerror(error_number), *filename(temporary))


@pytest.mark.parametrize(
    "filename", [lambda temporary: (temporary,), lambda temporary: (str(temporary),), lambda temporary: ()]
)
@pytest.mark.parametrize(("error_number", "kind"), [(errno.EACCES, PermissionError), (errno.ENOSPC, OSError)])
def test_an_error_of_writing_names_the_file_that_was_asked_for(tmp_path, filename, error_number, kind):
    path = tmp_path / "oof.csv"
    with pytest.raises(kind) as caught:
        failing_write(path, error_number, filename)
    assert caught.value.filename == str(path) and caught.value.filename2 is None
    assert caught.value.errno == error_number and caught.value.strerror == os.strerror(error_number)
    assert names(tmp_path) == []


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    photo = tmp_path / "photo.jpg"
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "oof.csv"):
        photo.read_bytes()
    assert caught.value.filename == str(photo)


def test_a_rename_that_fails_names_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "oof.csv"
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_text("text", path)
    assert caught.value.filename == str(path) and caught.value.filename2 is None
    assert names(tmp_path) == ["oof.csv"]


@pytest.mark.parametrize("write", [write_text, write_json_once, write_table, lambda _, path: require_writable(path)])
@pytest.mark.parametrize("place", ["file/oof.csv", "file/folder/oof.csv"])
def test_a_file_in_the_place_of_a_folder_is_told_with_the_path_asked_for(tmp_path, write, place):
    (tmp_path / "file").write_text("mine")
    content = {write_text: "text", write_json_once: {}, write_table: pd.DataFrame({"a": [1]})}.get(write)
    with pytest.raises(NotADirectoryError) as caught:
        write(content, tmp_path / place)
    assert caught.value.filename == str(tmp_path / place)
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("place", ["oof.csv", "folder/oof.csv", "folder/within/oof.csv", "there/oof.csv"])
def test_trying_whether_a_file_can_be_written_leaves_nothing(tmp_path, place):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "oof.csv").write_text("old")
    require_writable(tmp_path / place)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["there", "there/oof.csv"]
    assert (tmp_path / "there" / "oof.csv").read_text() == "old"


def test_trying_a_relative_path_works_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_writable(Path("oof.csv"))
    require_writable(Path("folder/oof.csv"))
    assert names(tmp_path) == []


def test_a_place_where_nothing_can_be_made_is_told():
    for path in (Path("/proc/oof.csv"), Path("/proc/folder/oof.csv")):
        with pytest.raises(OSError, match=r"oof\.csv") as caught:
            require_writable(path)
        assert caught.value.filename == str(path)


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path):
    (tmp_path / "oof.csv").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        require_writable(tmp_path / "oof.csv")
    assert caught.value.filename == str(tmp_path / "oof.csv")
