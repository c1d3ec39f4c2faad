"""What belongs together: the same picture, given groups, copies with their originals."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.errors import FoldError
from biomass_pl.leaf.sources import (
    find_originals,
    find_sources,
    require_one_fold_per_source,
    require_sources_for_every_fold,
    warn_about_lost_copies,
)
from tests.leaf.conftest import picture, save


def table(folder, pictures, label="a", groups=None):
    """Photos as (name, pixels); each content is told by the pixels."""
    rows = [(name, str(save(pixels, folder / name)), label, (groups or {}).get(name, "")) for name, pixels in pictures]
    return pd.DataFrame(rows, columns=["image_id", "path", "label", "group"], dtype=str)


def contents_of(*tables):
    return {row.image_id: Path(row.path).read_bytes().hex() for rows in tables for row in rows.itertuples()}


def originals_of(folder, names, seeds=None):
    pairs = zip(names, seeds or range(len(names)), strict=True)
    return table(folder / "originals", [(f"{name}.png", picture(seed)) for name, seed in pairs])


def found(copies, originals):
    sources = originals["image_id"].to_numpy()
    sets = find_originals(copies, originals, sources=sources, contents=contents_of(copies, originals))
    return [sorted(name.removesuffix(".png") for name in names) for names in sets]


def test_near_duplicates_given_groups_and_equal_bytes_are_one_source(tmp_path):
    flat = np.full((30, 30, 3), 90, np.uint8)  # of which there is nothing to compare but the bytes
    photos = table(
        tmp_path,
        [
            ("a.png", picture(1)),
            ("b.png", picture(2)),
            ("c.png", (picture(1)[:, ::-1] * 0.8).astype(np.uint8)),
            ("d.png", picture(3)),
            ("e.png", flat),
            ("f.png", picture(4)),
            ("g.png", flat),
            ("h.png", flat + 1),
        ],
        groups={"c.png": "plant", "f.png": "plant", "b.png": "field"},
    )
    sources = find_sources(photos, contents_of(photos))
    assert sources.tolist() == [f"{name}.png" for name in "abadeaeh"]


def test_photos_that_change_are_looked_at_again(tmp_path):
    photos = table(tmp_path, [("a.png", picture(1)), ("b.png", picture(2))])
    assert find_sources(photos, contents_of(photos)).tolist() == ["a.png", "b.png"]
    save(picture(1)[::-1], tmp_path / "b.png")
    assert find_sources(photos, contents_of(photos)).tolist() == ["a.png", "a.png"]


@pytest.mark.parametrize(
    ("originals", "copy", "expected"),
    [
        (["IMG_7", "IMG_8"], "IMG_7_rotated", ["IMG_7"]),
        (["IMG_7", "IMG_8"], "aug-img_8", ["IMG_8"]),
        (["IMG_7", "IMG_8"], "Blight_original_IMG_7.jpg_0f3a", ["IMG_7"]),
        (["IMG_7", "IMG_70"], "IMG_70 (2)", ["IMG_70"]),
        (["IMG_7", "IMG_70"], "IMG_701", []),
        (["IMG_7", "IMG_7 (2)"], "IMG_7 (2)_flip", ["IMG_7 (2)"]),
        (["7", "8"], "7_flip", ["7"]),
        (["7", "8"], "flip.8", ["8"]),
        (["7", "8"], "flip_8_twice", []),
        (["7", "8"], "7_8", []),
        (["7", "8"], "77", []),
        (["7", "90"], "7_rotated_by_180", ["7"]),
        (["éa", "b"], "éa_é", ["éa"]),
        (["a", "b"], "éa", []),
        (["x.y", "b"], "x_y", []),
        (["x.y", "b"], "x.y.z", ["x.y"]),
    ],
)
def test_names_tell_originals_by_whole_parts_the_longest_alone(tmp_path, originals, copy, expected):
    stranger = table(tmp_path / "copies", [(f"{copy}.png", picture(99))])
    assert found(stranger, originals_of(tmp_path, originals)) == [expected]


def test_where_names_tell_nothing_or_several_the_pixels_do(tmp_path):
    originals = originals_of(tmp_path, ["one", "two", "three"])
    dark = (np.rot90(picture(2)) * 0.7).astype(np.uint8)
    copies = table(tmp_path / "copies", [("4711.png", dark), ("one_two.png", dark), ("4712.png", picture(98))])
    assert found(copies, originals) == [["three"], ["three"], []]


def test_a_name_of_two_files_leaves_the_pixels_to_decide(tmp_path):
    originals = originals_of(tmp_path, ["x/one", "y/one"])
    copies = table(tmp_path / "copies", [("one_flip.png", picture(1)[::-1]), ("one_turn.png", picture(97))])
    assert found(copies, originals) == [["y/one"], []]


def test_a_copy_whose_name_and_pixels_differ_follows_both(tmp_path):
    originals = originals_of(tmp_path, ["one", "two", "three"])
    changed = [("one_a", 0), ("two_a", 1), ("three_a", 1)]
    copies = table(tmp_path / "copies", [(f"{name}.png", picture(seed)[::-1]) for name, seed in changed])
    assert found(copies, originals) == [["one"], ["two"], ["three", "two"]]


def test_names_that_pixels_contradict_are_not_believed(tmp_path):
    """Originals and copies were numbered on their own: equal numbers mean nothing."""
    originals = originals_of(tmp_path, list("123"))
    pixels = [picture(2)[::-1], picture(0)[::-1], picture(96)]
    copies = table(tmp_path / "copies", [(f"{name}.png", shown) for name, shown in zip("123", pixels, strict=True)])
    assert found(copies, originals) == [["3"], ["1"], []]


def test_names_tell_within_a_class_and_pixels_across_classes(tmp_path):
    originals = pd.concat(
        [originals_of(tmp_path, ["one"]), table(tmp_path / "b", [("b/one.png", picture(5))], label="b")],
        ignore_index=True,
    )
    copies = pd.concat(
        [
            table(tmp_path / "c", [("c/one_1.png", picture(95))], label="b"),
            table(tmp_path / "c", [("c/2.png", picture(0))], label="b"),
        ]
    )
    assert found(copies, originals) == [["b/one"], ["one"]]


def test_without_copies_nothing_is_read(tmp_path):
    originals = pd.DataFrame({"image_id": ["a"], "path": [str(tmp_path / "none")], "label": ["a"], "group": [""]})
    assert find_originals(originals[:0], originals, sources=np.array(["a"]), contents={}) == []


def test_lost_copies_are_counted_and_named(caplog):
    copies = pd.DataFrame({"image_id": ["x/1.jpg", "x/2.jpg", "x/3.jpg"]})
    with caplog.at_level(logging.WARNING, "biomass_pl"):
        warn_about_lost_copies(copies, [frozenset(), frozenset({"a"}), frozenset()])
    (record,) = caplog.records
    assert record.getMessage().startswith("2 of 3 changed copies are left out")
    assert record.getMessage().splitlines()[1:] == ["  x/1.jpg", "  x/3.jpg"]
    caplog.clear()
    warn_about_lost_copies(copies[:0], [])
    warn_about_lost_copies(copies[:1], [frozenset({"a"})])
    assert not caplog.records


def test_given_folds_that_split_a_source_are_refused_with_its_photos():
    sources = pd.Series({"a": "a", "b": "a", "c": "c", "d": "c", "e": "e"})
    require_one_fold_per_source(pd.Series({"e": 1, "b": 0, "a": 0, "d": -1, "c": -1}), sources)
    with pytest.raises(FoldError) as caught:
        require_one_fold_per_source(pd.Series({"e": 1, "b": 0, "a": 1, "d": -1, "c": 0}), sources)
    assert "data.fold_csv puts 2 source(s) into several folds" in str(caught.value)
    assert str(caught.value).splitlines()[1:] == ["  b (fold 0) and a (fold 1)", "  d (fold -1) and c (fold 0)"]


def test_all_classes_that_are_too_small_for_the_folds_are_refused():
    items = pd.DataFrame({"label": list("aaaabbbcc"), "source": list("wwxyuvwpq")})
    require_sources_for_every_fold(items, 2)
    with pytest.raises(FoldError) as caught:
        require_sources_for_every_fold(items.replace({"source": {"v": "u"}}), 3)
    assert "2 class(es) have fewer photos than the 3 folds" in str(caught.value)
    assert str(caught.value).splitlines()[1:] == ["  b: 3 photo(s) of 2 source(s)", "  c: 2 photo(s) of 2 source(s)"]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-1, 2)), min_size=1, max_size=12))
def test_folds_are_refused_exactly_if_a_source_is_in_two(pairs):
    folds = pd.Series([fold for _, fold in pairs], index=[str(number) for number in range(len(pairs))])
    sources = pd.Series([source for source, _ in pairs], index=folds.index)
    if len(set(pairs)) == len({source for source, _ in pairs}):
        require_one_fold_per_source(folds, sources)
    else:
        with pytest.raises(FoldError):
            require_one_fold_per_source(folds, sources)
