"""Rendered plots: their table, what is missing, and that a photo shows what was measured."""

import filecmp

import numpy as np
import pandas as pd
import pytest

from biomass_pl.data.photos import read_photo
from biomass_pl.errors import ConfigError, DataError
from biomass_pl.trait.sample.render import FIELDS, TARGETS, render_plots
from biomass_pl.trait.tables import Columns, read_measurements, read_photo_names


@pytest.fixture(scope="module")
def plots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots") / "data"
    render_plots(out=folder, photos=60, test_photos=3, width=160, seed=1)
    return folder


def test_the_table_names_photos_fields_and_two_traits_of_which_one_may_be_missing(plots):
    table = read_measurements(plots / "table.csv", plots, Columns(image="photo", group="field", targets=TARGETS))
    assert len(table) == 60 and table["group"].nunique() == FIELDS
    missing = table[list(TARGETS)].isna()
    assert (missing.sum() > 3).all() and not missing.all(axis=1).any()
    assert table["ears_m2"].mean() > 50 * table["yield_t_ha"].mean()
    for path in table["image_path"]:
        assert (plots / path).is_file()
    assert read_photo(plots / table["image_path"][0]).shape == (120, 160, 3)
    assert len(read_photo_names(plots / "test.csv", plots, "photo")) == 3


def test_plots_with_more_ears_look_so(plots):
    table = pd.read_csv(plots / "table.csv").dropna()
    yellow = []
    for path in table["photo"]:
        red, _, blue = np.moveaxis(read_photo(plots / path).astype(float), -1, 0)
        yellow.append(np.mean((red - blue > 40) & (red > 150)))
    assert np.corrcoef(yellow, table["ears_m2"])[0, 1] > 0.7
    assert np.corrcoef(yellow, table["yield_t_ha"])[0, 1] > 0.7


def test_the_same_arguments_give_the_same_bytes_and_another_seed_other_plots(plots, tmp_path):
    for name, seed in (("again", 1), ("other", 2)):
        render_plots(out=tmp_path / name, photos=60, test_photos=3, width=160, seed=seed)
    names = sorted(str(path.relative_to(plots)) for path in plots.rglob("*") if path.is_file())
    same, _, _ = filecmp.cmpfiles(plots, tmp_path / "again", names, shallow=False)
    assert same == names
    same, _, _ = filecmp.cmpfiles(plots, tmp_path / "other", names, shallow=False)
    assert same == ["test.csv"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"photos": 19}, "--photos 19 is too few"),
        ({"test_photos": -1}, "--test_photos -1"),
        ({"width": 63}, "--width 63"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        render_plots(out=tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_is_left_alone(plots):
    with pytest.raises(DataError, match="is there already"):
        render_plots(out=plots)
