"""Names of photos in tables: backslashes, letter case of endings, what leads elsewhere, and what photos are called."""

import pytest

from biomass_pl.data.photo_names import PhotoFiles, names_of_photos, path_problem


@pytest.fixture
def root(tmp_path):
    for name in ("train/a.JPG", "train/b.jpg", "train/c.jpg", "train/c.JPG", "train/d.Jpg", "train/d.jpG", "e"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("train/b.jpg", "train/b.jpg"),
        ("train\\b.jpg", "train/b.jpg"),
        ("train/b.JPG", "train/b.jpg"),
        ("train\\a.jpg", "train/a.JPG"),
        ("train/c.jpg", "train/c.jpg"),
        ("train/d.jpg", "train/d.jpg"),  # two fit
        ("train/B.jpg", "train/B.jpg"),  # only the ending may differ
        ("train/z.jpg", "train/z.jpg"),
        ("nowhere/a.jpg", "nowhere/a.jpg"),
        ("e", "e"),
    ],
)
def test_a_name_means_the_only_file_that_fits(root, name, found):
    assert PhotoFiles(root).find(name) == found


def test_a_file_whose_name_holds_a_backslash_is_found(root):
    (root / "train\\b.jpg").touch()
    assert PhotoFiles(root).find("train\\b.jpg") == "train\\b.jpg"


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "train\\..\\..\\a.jpg", "a\0.jpg", "a" * 300])
def test_names_that_lead_elsewhere_are_problems_and_not_looked_for(root, name):
    assert path_problem(root, name) is not None and PhotoFiles(root).find(name) == name


def test_names_inside_the_folder_are_none(root):
    assert path_problem(root, "train/../e") is None and path_problem(root, str(root / "e")) is None


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["x/a.jpg", "y/b.jpg"], ["a", "b"]),
        (["x/a.jpg", "y/a.jpg"], ["x/a", "y/a"]),
        (["x/a.jpg", "x/a.png", "b.jpg"], ["x/a.jpg", "x/a.png", "b.jpg"]),
    ],
)
def test_photos_are_called_as_shortly_as_tells_them_apart(files, names):
    assert names_of_photos(files) == names
