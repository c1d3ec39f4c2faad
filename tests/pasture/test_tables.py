"""Label and test tables: what is read, what is refused, and what is only warned about."""

import logging
import shutil

import pandas as pd
import pytest

from biomass_pl.errors import DataError
from biomass_pl.pasture.classes import class_codes
from biomass_pl.pasture.tables import read_labels, read_test_photos, warn_about_labels
from biomass_pl.pasture.targets import TARGETS

GRAMS = (10.0, 4.0, 2.0, 12.0, 16.0)
"""Green, Dead, Clover, GDM, Total that add up."""


def photo_rows(image_id, grams=GRAMS, *, date="2015/9/4", state="Tas", species="Ryegrass"):
    return [
        {
            "sample_id": f"{image_id}__{target}",
            "image_path": f"train/{image_id}.jpg",
            "Sampling_Date": date,
            "State": state,
            "Species": species,
            "target_name": target,
            "target": str(gram),
        }
        for target, gram in zip(TARGETS, grams, strict=True)
    ]


def long_table(*photos):
    return pd.DataFrame([row for rows in photos for row in rows])


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "pasture"
    folder.mkdir()
    return folder


def write(root, table, name="train.csv"):
    table.to_csv(root / name, index=False)
    return root


def refused(root, read=read_labels):
    with pytest.raises(DataError) as caught:
        read(root)
    return str(caught.value)


def spoiled(root, column, value, row=0):
    """A table of two photos, one value of which is replaced."""
    table = long_table(photo_rows("a"), photo_rows("b"))
    table.loc[row, column] = value
    return write(root, table)


def test_a_photo_becomes_one_row_with_its_grams_in_the_fixed_order(root):
    write(root, long_table(photo_rows("b", date="2015/11/4"), photo_rows("a", (1, 2, 3, 4, 6), state="WA")))
    table = read_labels(root)
    assert list(table.columns) == ["image_id", "image_path", "Sampling_Date", "State", "Species", *TARGETS]
    assert table.to_numpy().tolist() == [
        ["a", "train/a.jpg", "2015-09-04", "WA", "Ryegrass", 1, 2, 3, 4, 6],
        ["b", "train/b.jpg", "2015-11-04", "Tas", "Ryegrass", *GRAMS],
    ]


def test_the_rendered_table_is_read_whole_and_without_a_warning(rendered, caplog):
    table = read_labels(rendered)
    warn_about_labels(table)
    assert len(table) == 24
    assert all((rendered / path).is_file() for path in table["image_path"])
    assert all((codes >= 0).all() for codes in class_codes(table).values())
    assert caplog.records == []


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_rows_changes_nothing(root, rendered, seed):
    rows = pd.read_csv(rendered / "train.csv", dtype=str)
    write(root, rows.sample(frac=1, random_state=seed))
    pd.testing.assert_frame_equal(read_labels(root), read_labels(rendered))


def test_both_ways_to_write_a_date_mean_the_same_day(root):
    write(root, long_table(photo_rows("a", date="2015/9/4"), photo_rows("b", date="2015-09-04")))
    assert read_labels(root)["Sampling_Date"].tolist() == ["2015-09-04"] * 2


def test_a_byte_order_mark_is_no_part_of_the_first_column(root):
    long_table(photo_rows("a")).to_csv(root / "train.csv", index=False, encoding="utf-8-sig")
    assert (root / "train.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    assert read_labels(root)["image_id"].tolist() == ["a"]


def test_an_image_id_may_hold_the_separator(root):
    write(root, long_table(photo_rows("paddock__3")))
    assert read_labels(root)["image_id"].tolist() == ["paddock__3"]


def test_a_table_without_metadata_works_and_has_no_known_class(root, caplog):
    write(root, long_table(photo_rows("a")).drop(columns=["Sampling_Date", "State", "Species"]))
    table = read_labels(root)
    warn_about_labels(table)
    assert list(table.columns) == ["image_id", "image_path", *TARGETS]
    assert {name: codes.tolist() for name, codes in class_codes(table).items()} == {
        "state": [-1],
        "month": [-1],
        "species": [-1],
    }
    assert caplog.records == []


def test_empty_metadata_is_missing_metadata(root, caplog):
    write(root, long_table(photo_rows("a", date="", state="", species=""), photo_rows("b")))
    table = read_labels(root)
    warn_about_labels(table)
    assert table.loc[0, ["Sampling_Date", "State", "Species"]].isna().all()
    assert [codes.tolist() for codes in class_codes(table).values()] == [[-1, 1], [-1, 7], [-1, 1]]
    assert sum("(empty)" in record.message for record in caplog.records) == 3


def test_a_table_whose_every_date_is_empty_is_read(root):
    table = read_labels(write(root, long_table(photo_rows("a", date=""))))
    assert class_codes(table)["month"].tolist() == [-1]


def test_a_missing_folder_says_how_to_get_the_data(tmp_path):
    for read in (read_labels, read_test_photos):
        message = refused(tmp_path / "nowhere", read)
        assert f"'{tmp_path / 'nowhere'}' does not exist" in message
        assert "csiro-biomass" in message and f"biomass sample --out {tmp_path / 'nowhere'}" in message


@pytest.mark.parametrize(("read", "name"), [(read_labels, "train.csv"), (read_test_photos, "test.csv")])
def test_a_missing_table_is_named_and_says_how_to_get_it(root, read, name):
    message = refused(root, read)
    assert f"{root / name} does not exist" in message and "biomass sample --out" in message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00garble",
        b'sample_id,image_path,target_name,target\n"a__GDM_g,train/a.jpg,GDM_g,1\n',
        b"sample_id,image_path,target_name,target\na__GDM_g,train/a.jpg,GDM_g,1\nb__GDM_g,train/b.jpg,GDM_g,1,9\n",
        b"sample_id,image_path,target_name,target\na__GDM_g,train/a.jpg,GDM_g,1,9\n",
    ],
    ids=["empty", "cut-off UTF-16", "open quote", "one long row", "every row too long"],
)
@pytest.mark.parametrize(("read", "name"), [(read_labels, "train.csv"), (read_test_photos, "test.csv")])
def test_what_is_no_table_is_named_and_says_to_export_it_again(root, content, read, name):
    (root / name).write_bytes(content)
    message = refused(root, read)
    assert str(root / name) in message and "Export it again as UTF-8 CSV" in message


def test_a_header_alone_says_how_to_get_rows(root):
    write(root, long_table(photo_rows("a")).iloc[:0])
    message = refused(root)
    assert "train.csv has a header but no rows" in message and "biomass sample --out" in message


@pytest.mark.parametrize("column", ["sample_id", "image_path", "target_name", "target"])
def test_a_missing_column_is_named_beside_those_that_are_there(root, column):
    write(root, long_table(photo_rows("a")).rename(columns={column: "value"}))
    message = refused(root)
    assert f"train.csv has no column {column}; it has" in message
    assert "value" in message and "Rename or add" in message


def test_a_row_that_is_there_twice_is_named_with_its_line(root):
    table = long_table(photo_rows("a"))
    write(root, pd.concat([table, table.iloc[[2]]]))
    assert "line 7: 'a__Dry_Clover_g' is there twice" in refused(root)


def test_a_photo_with_four_of_five_targets_is_named_with_the_one_it_lacks(root):
    write(root, long_table(photo_rows("a"), photo_rows("b")).drop(index=8))
    message = refused(root)
    assert "train.csv has 1 problem(s); correct these rows" in message
    assert "photo b: no row for GDM_g" in message


@pytest.mark.parametrize("value", ["", "nan", "NaN", "inf", "-0.1", "12,5", "much"])
def test_a_target_that_is_no_number_of_grams_is_quoted_with_its_line(root, value):
    message = refused(spoiled(root, "target", value, row=6))
    assert f"line 8: target '{value}' is not a number of grams, zero or more" in message


def test_an_unknown_target_name_is_quoted_beside_the_known(root):
    table = long_table(photo_rows("a"))
    table.loc[1, ["sample_id", "target_name"]] = ["a__Dry_Moss_g", "Dry_Moss_g"]
    message = refused(write(root, table))
    assert f"line 3: unknown target_name 'Dry_Moss_g'; known: {', '.join(TARGETS)}" in message
    assert "photo a: no row for Dry_Dead_g" in message


@pytest.mark.parametrize("sample_id", ["a", "__Dry_Green_g", "a__GDM_g", "a_Dry_Green_g"])
def test_a_wrong_sample_id_is_quoted_with_what_it_should_be(root, sample_id):
    message = refused(spoiled(root, "sample_id", sample_id))
    assert f"line 2: sample_id '{sample_id}' is not '<image id>__Dry_Green_g'" in message


@pytest.mark.parametrize("path", ["../a.jpg", "/etc/a.jpg", "train/../../a.jpg", "../pasture2/a.jpg"])
@pytest.mark.parametrize(("read", "name"), [(read_labels, "train.csv"), (read_test_photos, "test.csv")])
def test_a_path_that_leaves_the_data_folder_is_quoted_with_its_line(root, path, read, name):
    table = long_table(photo_rows("a"))
    table["image_path"] = path
    write(root, table, name)
    message = refused(root, read)
    assert f"line 2: image_path '{path}' leaves the data folder" in message
    assert "1 problem(s)" in message


def test_a_link_that_leads_out_of_the_data_folder_leaves_it(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (root / "train").symlink_to(tmp_path / "elsewhere")
    assert "leaves the data folder" in refused(write(root, long_table(photo_rows("a"))))


def test_the_data_folder_itself_may_be_a_link(root, tmp_path):
    write(root, long_table(photo_rows("a")))
    (tmp_path / "link").symlink_to(root)
    assert len(read_labels(tmp_path / "link")) == 1


def test_a_path_with_a_null_byte_is_no_name_of_a_file(root):
    assert "line 2: image_path 'train/\\x00.jpg' is not the name of a file" in refused(
        spoiled(root, "image_path", "train/\0.jpg")
    )


@pytest.mark.parametrize(
    ("column", "value"),
    [("Sampling_Date", "2015/9/5"), ("State", "Vic"), ("Species", "Clover"), ("image_path", "b.jpg")],
)
def test_metadata_that_contradicts_itself_is_named(root, column, value):
    assert f"photo b: more than one {column}" in refused(spoiled(root, column, value, row=7))


@pytest.mark.parametrize("date", ["04/09/2015", "4-9-15", "2015-13-01", "2015/2/30", "2015", "20150904", "soon"])
def test_an_unreadable_or_ambiguous_date_is_quoted_with_how_to_write_it(root, date):
    message = refused(write(root, long_table(photo_rows("a", date=date))))
    assert f"line 2: Sampling_Date '{date}' is not a date; write year/month/day such as 2015/9/4" in message


def test_all_problems_are_in_one_message_and_a_long_list_is_counted(root):
    table = long_table(*(photo_rows(f"p{n:02}") for n in range(4)))
    table.loc[table.index[:12], "target"] = "-1"
    table.loc[15, "sample_id"] = "wrong"
    message = refused(write(root, table))
    assert "line 17: sample_id 'wrong'" in message and "line 2: target '-1'" in message
    shown = [line for line in message.splitlines() if line.startswith("  line") or line.startswith("  photo")]
    counted = int(message.split(" problem(s)")[0].rsplit(" ", 1)[1])
    assert len(shown) == 10 and f"... and {counted - 10} more" in message and counted >= 13


def warnings_for(root, caplog, *photos):
    with caplog.at_level(logging.WARNING):
        warn_about_labels(read_labels(write(root, long_table(*photos))))
    return [record.message for record in caplog.records]


def test_identities_broken_by_more_than_rounding_are_counted_and_named(root, caplog):
    messages = warnings_for(
        root,
        caplog,
        photo_rows("fine"),
        photo_rows("rounded", (10, 4, 2, 12.0001, 16)),
        photo_rows("gdm", (10, 4, 2, 13, 17)),
        photo_rows("total", (10, 4, 2, 12, 15.6912)),
        photo_rows("both", (10, 4, 2, 11, 16)),
    )
    assert messages == [
        "GDM = Green + Clover is broken for 2 photo(s), by up to 1 g: both, gdm",
        "Total = GDM + Dead is broken for 2 photo(s), by up to 1 g: both, total",
    ]


def test_only_the_first_five_broken_photos_are_named_but_all_are_counted(root, caplog):
    messages = warnings_for(root, caplog, *(photo_rows(f"p{n}", (10, 4, 2, 12, 20)) for n in range(7)))
    assert messages == ["Total = GDM + Dead is broken for 7 photo(s), by up to 4 g: p0, p1, p2, p3, p4, ..."]


def test_an_unknown_state_species_or_month_is_a_warning_and_class_minus_one(root, caplog):
    photos = [
        photo_rows("a", state="Qld"),
        photo_rows("b", species="Moss"),
        photo_rows("c", date="2015/3/1"),
        photo_rows("d", date="2015/12/1"),
    ]
    messages = warnings_for(root, caplog, *photos)
    assert messages == [
        "1 photo(s) have an unknown state (Qld); it is class -1 and teaches nothing",
        "2 photo(s) have an unknown month (2015-03-01, 2015-12-01); it is class -1 and teaches nothing",
        "1 photo(s) have an unknown species (Moss); it is class -1 and teaches nothing",
    ]
    codes = class_codes(read_labels(root))
    assert codes["state"].tolist() == [-1, 1, 1, 1]
    assert codes["month"].tolist() == [7, 7, -1, -1]
    assert codes["species"].tolist() == [1, -1, 1, 1]


def test_test_photos_come_once_each_in_the_order_of_the_file(root):
    table = long_table(photo_rows("b"), photo_rows("a"))[["sample_id", "image_path", "target_name"]]
    photos = read_test_photos(write(root, table.iloc[[0, 5, 1, 6, 2, 7, 3, 8, 4, 9]], "test.csv"))
    assert photos.to_numpy().tolist() == [["b", "train/b.jpg"], ["a", "train/a.jpg"]]


def test_a_test_table_with_wrong_rows_names_them(root):
    table = long_table(photo_rows("a"))[["sample_id", "image_path", "target_name"]]
    message = refused(write(root, pd.concat([table, table.iloc[[0]]]), "test.csv"), read_test_photos)
    assert "test.csv has 1 problem(s); correct these rows" in message
    assert "line 7: 'a__Dry_Green_g' is there twice" in message


def test_reading_needs_no_photo(data):
    shutil.rmtree(data / "train")
    assert len(read_labels(data)) == 24


def test_one_photo_under_two_ids_is_refused(root):
    table = long_table(photo_rows("a"), photo_rows("b"))
    table["image_path"] = "train/a.jpg"
    assert "image_path 'train/a.jpg': more than one photo id" in refused(write(root, table))
