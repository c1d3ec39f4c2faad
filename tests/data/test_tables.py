"""Tables as people have them: separators, encodings, quotation marks, and what is no table."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.data.tables import read_table
from biomass_pl.errors import ConfigError, DataError

PLAIN = "photo,total\na.jpg,1.5\nb.jpg,2\n"
ROWS = [["a.jpg", "1.5"], ["b.jpg", "2"]]


def table_file(tmp_path, content, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(tmp_path, content, **settings):
    return read_table(table_file(tmp_path, content), **settings)


def refused(tmp_path, content, error=DataError, **settings):
    with pytest.raises(error) as caught:
        read(tmp_path, content, **settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (PLAIN, ""),
        (PLAIN.replace("\n", "\r\n"), ""),
        (PLAIN.replace("\n", "\r"), ""),
        (PLAIN.replace(",", ";"), "is separated by semicolons"),
        (PLAIN.replace(",", "\t"), "is separated by tabs"),
        ('"photo","total"\n"a.jpg","1.5"\n"b.jpg","2"', ""),
        ('"photo";"total"\n"a.jpg";"1.5"\n"b.jpg";"2"', "is separated by semicolons"),
        ("\n\n" + PLAIN.replace("b.jpg", "\n,\nb.jpg") + ",\n", ""),
        ("photo,total,\na.jpg,1.5,\nb.jpg,2\n".replace("2\n", "2,\n"), ""),
        ("photo,total\na.jpg,1.5,,\nb.jpg,2\n", ""),
        (" photo , total\na.jpg,1.5\nb.jpg,2\n", ""),
        (PLAIN.encode("utf-8-sig"), ""),
        (PLAIN.encode("utf-16"), ""),
        (b"\xfe\xff" + PLAIN.encode("utf-16-be"), ""),
    ],
)
def test_one_table_written_in_many_ways(tmp_path, content, notes):
    table = read(tmp_path, content)
    assert list(table.rows) == ["photo", "total"] and table.rows.to_numpy().tolist() == ROWS
    assert [note.split("table.csv ")[1] for note in table.notes] == ([f"{notes}."] if notes else [])


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("a;b\n1,5;2\n", ["1,5", "2"]),
        ("a;b, c\n1;2\n", ["1", "2"]),  # a comma would cut the headings, but not the rows
        ("a,b\n1;5,2\n", ["1;5", "2"]),
        ("a;b;c, d\n1;2;3,5\n", ["1", "2", "3,5"]),
        ("only\n1\n", ["1"]),
    ],
)
def test_what_separates_cuts_all_rows_alike(tmp_path, text, cells):
    assert read(tmp_path, text).rows.iloc[0].tolist() == cells


def test_headings_that_can_be_cut_in_two_ways_are_refused(tmp_path):
    message = refused(tmp_path, "a;b, c\n1;2,5\n")
    assert "can be cut at commas and at semicolons" in message and "quotation marks" in message


def test_every_row_knows_its_line_in_the_file(tmp_path):
    table = read(tmp_path, 'a,b\n\n1,"two\nlines"\n,\n3,4\n')
    assert table.rows.index.tolist() == [3, 6] and table.rows["b"].tolist() == ["two\nlines", "4"]


def test_nothing_is_evaluated(tmp_path):
    assert read(tmp_path, "a,b\n=1+1,NA\n").rows.iloc[0].tolist() == ["=1+1", "NA"]


def test_another_encoding_is_read_once_it_is_named(tmp_path):
    content = "photo,species\na.jpg,Trèfle\n".encode("cp1252")
    message = refused(tmp_path, content)
    assert "line 2 holds the bytes e8 66 6c 65, which are not utf-8" in message
    assert "data.encoding: cp1252" in message and "Export it again as UTF-8 CSV" in message
    assert read(tmp_path, content, encoding="cp1252").rows["species"].tolist() == ["Trèfle"]


def test_a_mark_of_the_encoding_is_believed_whatever_is_named(tmp_path):
    content = "photo,species\na.jpg,Trèfle\n".encode("utf-8-sig")
    assert read(tmp_path, content, encoding="cp1252").rows["species"].tolist() == ["Trèfle"]


def test_utf_16_without_a_mark_is_refused_with_the_setting(tmp_path):
    content = PLAIN.encode("utf-16-le")
    assert "data.encoding: utf-16-le" in refused(tmp_path, content)
    assert read(tmp_path, content, encoding="utf-16-le").rows.to_numpy().tolist() == ROWS


@pytest.mark.parametrize("encoding", ["klingon", "hex"])
def test_an_encoding_that_there_is_not_is_refused(tmp_path, encoding):
    assert f"data.encoding is '{encoding}'" in refused(tmp_path, PLAIN, ConfigError, encoding=encoding)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b" \n,,\n", "it is empty"),
        ('a,b\n"1,2\n', "line 2: unexpected end of data"),
        ("a,b\n1,2\n1,2,3\n", "more values than its header has columns, the first in line 3"),
        ("a,b\n1,2\n1\n", "1 values for 2 columns in line 3"),
        ("a,b,a\n1,2,3\n", "two columns called a"),
        ("a,b\n1\x00,2\n".encode("utf-16")[:-1], "not utf-16"),
    ],
)
def test_what_is_no_table_is_told_with_its_line(tmp_path, content, told):
    message = refused(tmp_path, content)
    assert told in message and str(tmp_path / "table.csv") in message


def test_a_column_without_a_heading_is_called_by_its_number(tmp_path):
    assert list(read(tmp_path, ",photo\n0,a.jpg\n").rows) == ["column 1", "photo"]


CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=4), separator=st.sampled_from(",;\t")
)
def test_whatever_is_quoted_is_read_back(tmp_path_factory, rows, separator):
    kept = [row for row in rows if any(cell.strip() for cell in row)]
    lines = [["first", "second", "third"], *rows]
    text = "\n".join(separator.join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines)
    table = read_table(table_file(tmp_path_factory.mktemp("any"), text))
    assert table.rows.to_numpy().tolist() == kept
