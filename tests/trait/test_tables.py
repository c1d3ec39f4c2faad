"""Tables of measured photos: what is read, what is missing, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from biomass_pl.errors import ConfigError, DataError
from biomass_pl.trait.tables import Columns, read_measurements, read_photo_names

COLUMNS = Columns(image="file", group="farm", targets=("Yield t/ha", "Höhe"))
HEADER = "file,farm,Höhe,Yield t/ha,notes"


def written(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8-sig")
    return path


def test_names_groups_and_numbers_are_read_in_the_order_of_the_file(tmp_path):
    path = written(tmp_path, 'b.jpg,007,1,-2.5e1,"x, y"', "sub/a.jpg, NA ,NA, +.5 ,", "c.jpg,x,3.,nan,")
    table = read_measurements(path, tmp_path, COLUMNS)
    assert list(table) == ["image_id", "image_path", "group", "Yield t/ha", "Höhe"]
    assert table["image_id"].tolist() == table["image_path"].tolist() == ["b.jpg", "sub/a.jpg", "c.jpg"]
    assert table["group"].tolist() == ["007", "NA", "x"]
    np.testing.assert_array_equal(table["Yield t/ha"], [-25.0, 0.5, np.nan])
    np.testing.assert_array_equal(table["Höhe"], [1.0, np.nan, 3.0])


def test_without_a_group_column_there_is_no_group(tmp_path):
    table = read_measurements(
        written(tmp_path, "a.jpg,1,2,3,"), tmp_path, Columns(image="file", group=None, targets=("Höhe",))
    )
    assert list(table) == ["image_id", "image_path", "Höhe"] and table["Höhe"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("b.jpg,1,2,3 t,", "line 3: Yield t/ha '3 t' is not a number"),
        ('b.jpg,1,"2,5",3,', "line 3: Höhe '2,5' is not a number"),
        ("b.jpg,1,2,inf,", "line 3: Yield t/ha 'inf' is not a number"),
        ("b.jpg,1,2,1e39,", "line 3: Yield t/ha '1e39' is not a number"),
        ("b.jpg,1,2,0x10,", "line 3: Yield t/ha '0x10' is not a number"),
        ("b.jpg,1,2,1_0,", "line 3: Yield t/ha '1_0' is not a number"),
        (",1,2,3,", "line 3: file is empty"),
        ("b.jpg,,2,3,", "line 3: farm is empty"),
        ("a.jpg,1,2,3,", "line 3: 'a.jpg' is there twice"),
        ("../b.jpg,1,2,3,", "line 3: file '../b.jpg' leaves the data folder"),
    ],
)
def test_a_wrong_row_is_named_with_its_line_and_column(row, problem, tmp_path):
    with pytest.raises(DataError) as caught:
        read_measurements(written(tmp_path, "a.jpg,1,1,1,", row), tmp_path, COLUMNS)
    assert "table.csv has 1 problem(s)" in str(caught.value) and problem in str(caught.value)


def test_all_problems_are_told_at_once_and_a_target_without_any_number_is_one(tmp_path):
    with pytest.raises(DataError) as caught:
        read_measurements(written(tmp_path, "a.jpg,,,1,", "a.jpg,1,,x,"), tmp_path, COLUMNS)
    message = str(caught.value)
    for problem in ("4 problem(s)", "line 2: farm is empty", "'a.jpg' is there twice", "column Höhe: no number at all"):
        assert problem in message


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("file,farm,Höhe", ["a.jpg,1,1"], "has no column Yield t/ha; it has file, farm, Höhe"),
        (HEADER, [], "has a header but no rows"),
        (HEADER, ["a.jpg,1,1,1,,,"], "more values than its header"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(header, rows, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_measurements(written(tmp_path, *rows, header=header), tmp_path, COLUMNS)


def test_a_table_that_is_not_there_or_no_text_says_so(tmp_path):
    with pytest.raises(DataError, match=r"table.csv does not exist"):
        read_measurements(tmp_path / "table.csv", tmp_path, COLUMNS)
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match="not a readable CSV table"):
        read_measurements(tmp_path / "table.csv", tmp_path, COLUMNS)


def test_photos_to_predict_need_no_more_than_their_files(tmp_path):
    path = written(tmp_path, "b.jpg", "a.jpg", header="file")
    assert read_photo_names(path, tmp_path, "file")["image_id"].tolist() == ["b.jpg", "a.jpg"]
    with pytest.raises(DataError, match=r"'b.jpg' is there twice"):
        read_photo_names(written(tmp_path, "b.jpg", "b.jpg", header="file"), tmp_path, "file")
    with pytest.raises(DataError, match="no column photo"):
        read_photo_names(path, tmp_path, "photo")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ((), "data.targets is empty"),
        (("a", " "), "an empty name"),
        (("a", "b", "a"), "names 'a' twice"),
        *(
            ((name,), f"names '{name}', which is a column of tables of predictions")
            for name in ("image_id", "fold", "group", "error", "a_pred")
        ),
        (("farm",), "which data.image_column or data.group_column names as well"),
    ],
)
def test_names_that_clash_are_refused(targets, message):
    with pytest.raises(ConfigError, match=message):
        Columns(image="file", group="farm", targets=targets)
