"""Which column holds what: by the setting, by its own name, by a name that only one column has."""

from pathlib import Path

import pandas as pd
import pytest

from biomass_pl.data.table_columns import Role, assign_columns, columns_setting, plain_name
from biomass_pl.data.tables import TextTable
from biomass_pl.errors import ConfigError, DataError

ROLES = (Role(name="image", also=frozenset({"photo", "file_name"})), Role(name="Dry_Total_g"))


def table(*headings):
    return TextTable(path=Path("weights.csv"), rows=pd.DataFrame(columns=list(headings), dtype=str))


@pytest.mark.parametrize(
    ("heading", "plain"),
    [
        ("Dry_Total_g", "total"),
        ("DRY TOTAL (g)", "total"),
        ("total", "total"),
        ("Total_grams", "total"),
        ("GDM_g", "gdm"),
        ("File-Name", "file_name"),
        ("total_kg", "total_kg"),
        ("dry", "dry"),
    ],
)
def test_headings_without_case_unit_and_dry(heading, plain):
    assert plain_name(heading) == plain


@pytest.mark.parametrize(
    ("headings", "chosen", "found", "guessed"),
    [
        (["image", "Dry_Total_g"], None, ["image", "Dry_Total_g"], {}),
        (["Photo", "TOTAL (g)"], None, ["Photo", "TOTAL (g)"], {"image": "Photo", "Dry_Total_g": "TOTAL (g)"}),
        (["Dry_Total_g", "total", "image"], None, ["image", "Dry_Total_g"], {}),  # its own name comes first
        (["a", "b"], {"image": "b", "Dry_Total_g": "a"}, ["b", "a"], {}),
        (["a", "photo", "total"], {"image": "a", "Dry_Total_g": None}, ["a", None], {}),
        (["total", "photo"], {"image": "total"}, ["total", None], {}),
    ],
)
def test_columns_are_found(headings, chosen, found, guessed):
    assigned = assign_columns(table(*headings), ROLES, chosen)
    assert [assigned.headings.get(role.name) for role in ROLES] == found
    assert assigned.guessed == guessed


def test_several_columns_that_fit_are_refused_with_the_line_to_write():
    with pytest.raises(DataError, match=r"may be image: Photo, File name. Choose one: data.columns: \{image: Photo\}"):
        assign_columns(table("Photo", "File name", "total"), ROLES)


@pytest.mark.parametrize(
    ("chosen", "error", "told"),
    [
        ({"picture": "a"}, ConfigError, "data.columns names picture, which is none of image, Dry_Total_g"),
        ({"image": "c"}, DataError, "has no column c, which data.columns gives for image; it has a, b"),
        ({"image": "a", "Dry_Total_g": "a"}, ConfigError, "gives the column a for several things"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(chosen, error, told):
    with pytest.raises(error) as caught:
        assign_columns(table("a", "b"), ROLES, chosen)
    assert told in str(caught.value)


def test_the_line_to_write_is_yaml():
    assert columns_setting({"image": "Photo", "Dry_Total_g": "it's total (g)"}) == (
        "data.columns: {image: Photo, Dry_Total_g: 'it''s total (g)'}"
    )
