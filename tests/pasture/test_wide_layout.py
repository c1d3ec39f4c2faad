"""Tables of one's own, a row per photo: what is understood, what follows, what is refused in one sentence."""

import logging
import math

import numpy as np
import pandas as pd
import pytest

from biomass_pl.errors import ConfigError, DataError
from biomass_pl.pasture.tables import TableSettings, load_labels, read_labels, read_test_photos, warn_about_labels
from biomass_pl.pasture.targets import TARGETS

WIDE = "image,Dry_Green_g,Dry_Dead_g,Dry_Clover_g,GDM_g,Dry_Total_g\na.jpg,10,4,2,12,16\nb.jpg,1,2,3,4,6\n"


def labels(tmp_path, text, name="train.csv", **settings):
    (tmp_path / name).write_text(text)
    return load_labels(tmp_path, TableSettings(**settings))


def refused(tmp_path, text, error=DataError, **settings):
    with pytest.raises(error) as caught:
        labels(tmp_path, text, **settings)
    return str(caught.value)


def grams(found):
    """Grams of each photo, None where unknown."""
    rows = found.photos[list(TARGETS)].to_numpy().tolist()
    return [[None if math.isnan(value) else value for value in row] for row in rows]


def test_a_row_per_photo_is_what_five_rows_are(tmp_path):
    found = labels(tmp_path, WIDE)
    assert list(found.photos.columns) == ["image_id", "image_path", *TARGETS]
    assert found.photos[["image_id", "image_path"]].to_numpy().tolist() == [["a", "a.jpg"], ["b", "b.jpg"]]
    assert grams(found) == [[10, 4, 2, 12, 16], [1, 2, 3, 4, 6]] and found.notes == ()
    assert set(map(str, found.photos[list(TARGETS)].dtypes)) == {"float64"}


def test_rows_are_sorted_by_photo_whatever_their_order(tmp_path):
    header, *rows = WIDE.splitlines()
    one = labels(tmp_path, WIDE).photos
    pd.testing.assert_frame_equal(labels(tmp_path, "\n".join([header, *reversed(rows)])).photos, one)


def test_names_that_only_one_column_has_are_understood_and_told(tmp_path):
    found = labels(tmp_path, "Photo,Green,dead_g,TOTAL (g),notes\na.jpg,1,2,6,wet\n")
    assert grams(found) == [[1, 2, 3, 4, 6]]
    assert found.notes == (
        f"{tmp_path / 'train.csv'} is read by the names of its columns, as with data.columns: {{image: Photo, "
        "Dry_Green_g: Green, Dry_Dead_g: dead_g, Dry_Total_g: 'TOTAL (g)'}",
        "The sums tell Dry_Clover_g of 1 photo(s), GDM_g of 1 photo(s).",
    )


def test_the_setting_names_columns_and_leaves_some_out(tmp_path):
    columns = {"image": "pic", "Dry_Total_g": "w", "Dry_Dead_g": None, "State": "where"}
    found = labels(tmp_path, "pic,w,dead,where\na.jpg,6,5,Tas\n", columns=columns)
    assert grams(found) == [[None] * 4 + [6]] and found.photos["State"].tolist() == ["Tas"] and found.notes == ()


def test_empty_cells_are_unknown_and_rows_without_any_grams_left_out(tmp_path):
    found = labels(tmp_path, "image,total,green\na.jpg,16,\nb.jpg,NA,3\nc.jpg,,\nd.jpg,5,1\n")
    assert grams(found) == [[None] * 4 + [16], [3] + [None] * 4, [1, None, None, None, 5]]
    assert found.notes[-1] == f"1 row(s) of {tmp_path / 'train.csv'} without any grams are left out: line 4"


def test_metadata_are_read_as_in_the_other_layout(tmp_path):
    text = "image,total,Date,state,Species\na.jpg,1,4/9/2015,Tas,\nb.jpg,2,,,Clover\n"
    photos = labels(tmp_path, text, date_format="day-month-year").photos
    assert photos["Sampling_Date"].fillna("-").tolist() == ["2015-09-04", "-"]
    assert photos["State"].fillna("-").tolist() == ["Tas", "-"]
    assert photos["Species"].fillna("-").tolist() == ["-", "Clover"]


def test_photos_in_several_folders_may_have_one_name(tmp_path):
    found = labels(tmp_path, "image,total\nx\\a.jpg,1\ny\\a.jpg,2\n")
    assert found.photos[["image_id", "image_path"]].to_numpy().tolist() == [["x/a", "x/a.jpg"], ["y/a", "y/a.jpg"]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("foto,weight\na.jpg,1\n", ["no column known to hold the photos or grams", "{image: HEADING, Dry_Total_g: HEAD"]),
        ("photo,weight\na.jpg,1\n", ["no column known to hold grams", "data.columns: {Dry_Total_g: HEADING}"]),
        ("foto,total\na.jpg,1\n", ["no column known to hold the photos;", "data.columns: {image: HEADING};"]),
        ("photo,image_path,total\na.jpg,a.jpg,1\n", ["several columns that may be image", "data.columns: {image: photo}"]),
        ("image,total\na.jpg,-1\n", ["line 2: total '-1' is not a number of grams, zero or more"]),
        ("image,total\na.jpg,inf\n", ["line 2: total 'inf' is not a number"]),
        ("image,total\na.jpg,much\n", ["line 2: total 'much'", "write a number, or leave the cell empty"]),
        ("image,total\na.jpg,12.5\nb.jpg,'1,5'\n".replace("'", '"'), ["line 3: total '1,5'", "write 1.5"]),
        ("image,total,dead\na.jpg,1,5\n", ["line 2: GDM_g would be -4 g by the others, less than nothing"]),
        ("image,total\n,1\n", ["line 2: no photo is named"]),
        ("image,total\na.jpg,1\nb.jpg,1\na.jpg,2\n", ["line 4: photo 'a.jpg' is there twice"]),
        ("image,total\na/b.jpg,1\na\\b.jpg,2\n", ["line 3: photo 'a/b.jpg' is there twice"]),
        ("image,total\n../a.jpg,1\n", ["line 2: photo '../a.jpg' leaves the data folder"]),
        ("image,total\n..\\a.jpg,1\n", ["leaves the data folder"]),
        ("image,total\na.jpg,\n", ["has no value in total. Fill some in"]),
        ("image,total,date\na.jpg,1,4/9/2015\nb.jpg,1,5/9/2015\n", ["line 2: date '4/9/2015'", "or set data.date_format:", "in 1 more line(s) too"]),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_with_what_to_write(tmp_path, text, told):
    message = refused(tmp_path, text)
    assert str(tmp_path / "train.csv") in message
    assert all(part in message for part in told), message


def test_all_problems_come_together(tmp_path):
    message = refused(tmp_path, "image,total,green\n,1,x\nb.jpg,-1,1\nc.jpg,1,2\nc.jpg,2,1\n")
    assert "has 4 problem(s); correct these rows" in message


def test_columns_of_a_long_table_cannot_be_named(tmp_path):
    text = "sample_id,image_path,target_name,target\na__GDM_g,a.jpg,GDM_g,1\n"
    assert "Leave data.columns out" in refused(tmp_path, text, ConfigError, columns={"image": "image_path"})


def test_the_only_table_of_a_folder_is_read_and_told(tmp_path):
    (tmp_path / "test.csv").write_text("image\nz.jpg\n")
    (tmp_path / ".hidden.csv").write_text("")
    (tmp_path / "notes.txt").write_text("")
    found = labels(tmp_path, WIDE, "Weights.CSV")
    assert found.notes == (
        f"The labels are read from {tmp_path / 'Weights.CSV'}, the only table in {tmp_path}.",
    )  # fmt: skip


def test_of_several_tables_one_must_be_named(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(WIDE)
    with pytest.raises(DataError, match=r"has several tables: a.csv, b.csv. Say which.*data.table: a.csv"):
        load_labels(tmp_path)
    assert len(read_labels(tmp_path, TableSettings(table="b.csv"))) == 2


def test_a_test_table_of_ones_own_names_photos_alone(tmp_path):
    (tmp_path / "field.csv").write_text("Photo;date\nx\\b.jpg;1.2.2020\nx/a.jpg;soon\n")
    settings = TableSettings(test_table="field.csv", columns={"Dry_Total_g": "total"})
    found = read_test_photos(tmp_path, settings)
    assert found.to_numpy().tolist() == [["b", "x/b.jpg"], ["a", "x/a.jpg"]]
    with pytest.raises(DataError, match="has no column pic, which data"):
        read_test_photos(tmp_path, TableSettings(test_table="field.csv", columns={"image": "pic"}))


def test_unknown_grams_are_told_and_known_sums_still_checked(tmp_path, caplog):
    text = "image,green,clover,gdm,total\na.jpg,1,2,4,9\nb.jpg,,2,,9\nc.jpg,1,,,\n"
    with caplog.at_level(logging.WARNING):
        warn_about_labels(labels(tmp_path, text).photos)
    assert [record.message for record in caplog.records] == [
        "Not known of all 3 photos: Dry_Green_g of 2, Dry_Dead_g of 1, Dry_Clover_g of 2, GDM_g of 1, Dry_Total_g of 2; "
        "the others teach what they can.",
        "GDM = Green + Clover is broken for 1 photo(s), by up to 1 g: a",
    ]
    caplog.clear()
    warn_about_labels(labels(tmp_path, "image,total\na.jpg,9\n").photos)
    assert [record.message for record in caplog.records] == [
        "Dry_Green_g, Dry_Dead_g, Dry_Clover_g, GDM_g: known of no photo, so that nothing teaches what is predicted of "
        "it; left out of the scores."
    ]


def test_grams_read_are_numbers_to_the_last_digit(tmp_path):
    assert np.array_equal(labels(tmp_path, "image;total\na.jpg;16,2751\n").photos["Dry_Total_g"], [16.2751])


def test_the_same_labels_are_read_from_either_layout(rendered, tmp_path):
    long = read_labels(rendered)
    long.drop(columns="image_id").to_csv(tmp_path / "train.csv", index=False)
    pd.testing.assert_frame_equal(read_labels(tmp_path), long)
    partly = long.drop(columns=["image_id", "GDM_g", "Dry_Dead_g"])
    partly.to_excel(tmp_path / "weights.xlsx", index=False)
    read = read_labels(tmp_path, TableSettings(table="weights.xlsx"))
    pd.testing.assert_frame_equal(read, long, atol=2e-4, check_exact=False)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"table": "w.csv"}, r"w.csv does not exist. Correct data.table, a file in"),
        ({"table": "empty.csv"}, r"empty.csv has a header but no rows. Fill some in."),
        ({}, r"train.csv does not exist. .* put a table of your own with a row per photo there"),
    ],
)
def test_a_table_that_is_not_there_is_told_with_what_helps(tmp_path, settings, told):
    if settings:
        (tmp_path / "empty.csv").write_text("image,total\n")
    with pytest.raises(DataError, match=told):
        load_labels(tmp_path, TableSettings(**settings))
    if settings:
        test_settings = TableSettings(test_table=settings["table"])
        with pytest.raises(DataError, match=told.replace("data.table", "data.test_table")):
            read_test_photos(tmp_path, test_settings)
