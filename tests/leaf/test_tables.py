"""What is read of folders and label tables, and everything that is refused in them."""

import pytest

from biomass_pl.errors import DataError
from biomass_pl.leaf.tables import COPIES, ORIGINALS, read_headings, read_leaves, require_one_label_per_content


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write_labels(path, text):
    path.write_text(text)
    return path


def told(root, labels=None):
    with pytest.raises(DataError) as caught:
        read_leaves(root, labels)
    return str(caught.value)


def test_folders_are_classes_and_other_files_are_ignored(tmp_path):
    root = touch(
        tmp_path, "b/2.PNG", "b/1.jpg", "a b/x.y.jpeg", "a b/Thumbs.db", "a b/.hidden.jpg", "b/notes.txt", "readme.md"
    )
    touch(root, ".cache/photo.jpg", "lies_in_no_class.jpg")
    table = read_leaves(root)
    assert table.classes == ("a b", "b") and table.copies.empty
    assert table.originals.to_dict("list") == {
        "image_id": ["a b/x.y.jpeg", "b/1.jpg", "b/2.PNG"],
        "path": [str(root / name) for name in ("a b/x.y.jpeg", "b/1.jpg", "b/2.PNG")],
        "label": ["a b", "b", "b"],
        "group": ["", "", ""],
    }


def test_the_published_layout_tells_copies_from_originals(tmp_path):
    root = touch(tmp_path, f"{ORIGINALS}/b/1.jpg", f"{ORIGINALS}/a/1.jpg", f"{COPIES}/a/1_flip.jpg", "b/other.jpg")
    table = read_leaves(root)
    assert table.originals["image_id"].tolist() == [f"{ORIGINALS}/a/1.jpg", f"{ORIGINALS}/b/1.jpg"]
    assert table.copies.to_dict("records") == [
        {
            "image_id": f"{COPIES}/a/1_flip.jpg",
            "path": str(root / COPIES / "a" / "1_flip.jpg"),
            "label": "a",
            "group": "",
        }
    ]


def test_originals_without_copies_are_enough_and_copies_without_originals_are_not(tmp_path):
    assert read_leaves(touch(tmp_path / "one", f"{ORIGINALS}/a/1.jpg", f"{ORIGINALS}/b/1.jpg")).copies.empty
    message = told(touch(tmp_path / "two", f"{COPIES}/a/1.jpg", f"{COPIES}/b/1.jpg"))
    assert f"{ORIGINALS} has no folder per class" in message


def test_classes_of_copies_that_the_originals_lack_are_refused(tmp_path):
    root = touch(
        tmp_path, *(f"{ORIGINALS}/{name}/1.jpg" for name in "ab"), *(f"{COPIES}/{name}/1.jpg" for name in "acd")
    )
    message = told(root)
    assert f"has classes that {ORIGINALS} lacks" in message and message.splitlines()[1:] == ["  c", "  d"]


def test_all_empty_class_folders_are_listed(tmp_path):
    root = touch(tmp_path, "a/1.jpg", "b/Thumbs.db", "c/.hidden.jpg")
    message = told(root)
    assert "2 class folder(s) hold no photo" in message
    assert message.splitlines()[1:] == [f"  {root / 'b'}", f"  {root / 'c'}"]


def test_folders_within_class_folders_are_refused(tmp_path):
    """Such as train/ and test/, which would else be the classes."""
    root = touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg")
    message = told(root)
    assert "set data.root to the folder that holds the class folders" in message
    assert message.splitlines()[1:] == [f"  {root / name}" for name in ("test/a", "train/a", "train/b")]


def test_a_missing_folder_one_without_classes_and_one_with_a_single_class_are_refused(tmp_path):
    assert f"Data folder '{tmp_path / 'none'}' does not exist" in told(tmp_path / "none")
    assert "has no folder per class" in told(touch(tmp_path / "flat", "1.jpg"))
    assert "has only the class 'a'" in told(touch(tmp_path / "one", "a/1.jpg"))


def test_a_table_names_photos_in_the_data_folder_or_beside_itself(tmp_path):
    root = touch(tmp_path / "data", "x/1.jpg", "x/2.jpg", "3.jpg")
    touch(tmp_path / "tables", "4.jpg", "3.jpg")
    labels = write_labels(
        tmp_path / "tables" / "labels.csv",
        "group,path,label,more\nplant 1,x/2.jpg,NA,1\n,./x//1.jpg,b,\nplant 1,3.jpg,b,\n,4.jpg,b,\n",
    )
    table = read_leaves(root, labels)
    assert table.classes == ("NA", "b") and table.copies.empty
    assert table.originals.to_dict("list") == {
        "image_id": ["3.jpg", "4.jpg", "x/1.jpg", "x/2.jpg"],
        "path": [str(root / "3.jpg"), str(labels.parent / "4.jpg"), str(root / "x/1.jpg"), str(root / "x/2.jpg")],
        "label": ["b", "b", "b", "NA"],
        "group": ["plant 1", "", "", "plant 1"],
    }


def test_headings_say_what_their_columns_are_taken_for(tmp_path):
    labels = write_labels(tmp_path / "labels.csv", "label,more,path,group\na,1,x.jpg,g\n")
    expected = {"label": "class", "more": None, "path": "photo", "group": "what is kept in one fold"}
    assert read_headings(labels) == expected and list(read_headings(labels)) == list(expected)
    with pytest.raises(DataError, match="no column path"):
        read_headings(write_labels(labels, "label,photo\na,x.jpg\n"))


def test_a_table_needs_no_groups_and_may_use_backslashes(tmp_path):
    root = touch(tmp_path, "x/1.jpg", "x/2.jpg")
    labels = write_labels(root / "labels.csv", "\ufeffpath,label\nx\\1.jpg,a\nx\\2.jpg,b\n")
    table = read_leaves(root, labels).originals
    assert table["image_id"].tolist() == ["x/1.jpg", "x/2.jpg"] and table["group"].tolist() == ["", ""]


def test_all_wrong_rows_of_a_table_are_listed_with_their_lines(tmp_path):
    root = touch(tmp_path, "1.jpg", "2.jpg")
    labels = write_labels(root / "labels.csv", "path,label\n1.jpg,a\n2.jpg,\n,b\n3.jpg,b\n./1.jpg,b\n2.jpg,a \n")
    message = told(root, labels)
    assert message.startswith(f"{labels} has 6 problem(s); correct these rows:")
    assert message.splitlines()[1:] == [
        "  line 4: path is empty",
        "  line 3: label is empty",
        "  line 5: photo 3.jpg does not exist",
        "  line 6: photo 1.jpg is there twice",
        "  line 7: photo 2.jpg is there twice",
        "  line 7: label 'a ' begins or ends with a space",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,class\n1.jpg,a\n", "has no column label"),
        ("x\n1\n", "has no column path, label"),
        ("path,label\n", "has no rows"),
        ("", "is not a readable CSV table"),
        ("path,label\n1.jpg,a,b\n", "rows with more values than its header has columns"),
        ("path,label\n1.jpg,a\n", "has only the class 'a'"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path, text, expected):
    root = touch(tmp_path, "1.jpg")
    labels = write_labels(root / "labels.csv", text)
    message = told(root, labels)
    assert expected in message and str(labels) in message


def test_a_missing_table_is_refused(tmp_path):
    assert told(tmp_path, tmp_path / "labels.csv") == f"{tmp_path / 'labels.csv'} does not exist. Correct data.labels."


def test_a_photo_under_several_classes_is_refused_with_all_its_names(tmp_path):
    names = [f"{ORIGINALS}/{name}.jpg" for name in ("a/1", "a/2", "a/3", "b/1", "b/2")]
    table = read_leaves(touch(tmp_path, *names, f"{COPIES}/b/1.jpg"))
    contents = dict(zip([*names, f"{COPIES}/b/1.jpg"], ["p", "p", "q", "p", "r", "q"], strict=True))
    with pytest.raises(DataError) as caught:
        require_one_label_per_content(table, contents)
    assert "2 photo(s) stand under several classes" in str(caught.value)
    assert str(caught.value).splitlines()[1:] == [
        f"  {ORIGINALS}/a/1.jpg (a) and {ORIGINALS}/a/2.jpg (a) and {ORIGINALS}/b/1.jpg (b)",
        f"  {ORIGINALS}/a/3.jpg (a) and {COPIES}/b/1.jpg (b)",
    ]
    require_one_label_per_content(table, contents | {names[3]: "s", f"{COPIES}/b/1.jpg": "t"})
