"""Whose draws the changes of an item are, and along which axis a photo is shown."""

import albumentations as A  # noqa: N812
import numpy as np
import pytest

from biomass_pl.data.augmentation import FLIPS, as_view, item_generator, seed_changes

PHOTO = np.arange(2 * 3 * 1).reshape(2, 3, 1)
"""[[0 1 2], [3 4 5]], in one channel."""


def draws(*key):
    return item_generator(*key).integers(2**62)


def test_draws_of_an_item_follow_from_seed_epoch_and_name_alone():
    assert draws(1, 2, "a") == draws(1, 2, "a")
    assert len({draws(1, 2, "a"), draws(2, 2, "a"), draws(1, 3, "a"), draws(2, 1, "a"), draws(1, 2, "b")}) == 5


@pytest.mark.parametrize(
    ("view", "expected"),
    [("plain", [[0, 1, 2], [3, 4, 5]]), ("left-right", [[2, 1, 0], [5, 4, 3]]), ("top-bottom", [[3, 4, 5], [0, 1, 2]])],
)
def test_views_are_flips_of_rows_or_columns_whatever_stands_before_them(view, expected):
    assert as_view(PHOTO, view)[..., 0].tolist() == expected
    pair = np.stack([PHOTO, PHOTO + 10])
    assert as_view(pair, view)[1, ..., 0].tolist() == (np.array(expected) + 10).tolist()


def test_the_views_that_are_averaged_are_the_plain_one_and_both_flips():
    assert FLIPS == ("plain", "left-right", "top-bottom")
    assert len({as_view(PHOTO, view).tobytes() for view in FLIPS}) == 3


def test_changes_of_one_composition_draw_in_turn_and_again_the_same():
    """With a generator of its own from the same seed each, both flips would always come together."""

    def kinds(seeds):
        changes = A.Compose([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)])
        found = []
        for seed in seeds:
            seed_changes(changes, seed)
            found.append(changes(image=PHOTO.astype(np.uint8))["image"].tobytes())
        return found

    assert kinds(range(40)) == kinds(range(40))
    assert len(set(kinds(range(40)))) == 4
    assert kinds([7, 3])[1] == kinds([3])[0]
