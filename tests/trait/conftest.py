"""A small folder of measured photos, and what is asked of the data module on it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biomass_pl.data.splits import Split
from biomass_pl.trait.data import RegressionDataModule

COUNT = 24
NUMBERS = np.arange(COUNT)
TABLE = pd.DataFrame(
    {
        "file": [f"photos/{number:02}.png" for number in NUMBERS],
        "farm": [f"0{number % 8}" for number in NUMBERS],  # `00` is a text
        "green": np.where(NUMBERS % 6 == 5, np.nan, 10.0 + NUMBERS),
        "dead": 40.0 - NUMBERS % 7,
        "total": np.where(NUMBERS % 5 == 4, np.nan, 50.0 + NUMBERS - NUMBERS % 7),
    }
)
"""Eight farms of three photos; on some the green part or the total was not measured."""


def write_photos(root: Path, table: pd.DataFrame = TABLE) -> Path:
    """A data folder with `table.csv` and a photo of its own for each row, oblong or upright."""
    (root / "photos").mkdir(parents=True)
    table.to_csv(root / "table.csv", index=False)
    for number, path in enumerate(table["file"]):
        shape = (24, 40, 3) if number % 3 else (36, 24, 3)
        pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(root / path)
    table[["file"]].iloc[[3, 1, 2]].to_csv(root / "test.csv", index=False)
    return root


def measurements(root: Path, fold: int = 0, folds: pd.Series | None = None, **settings) -> RegressionDataModule:
    """A data module of small tiles with one fold held out."""
    small = {
        "targets": ["green", "dead", "total"],
        "image_column": "file",
        "group_column": "farm",
        "num_folds": 4,
        "tile_size": 16,
        "batch_size": 6,
        "num_workers": 0,
    }
    module = RegressionDataModule(root=root, **{**small, **settings})
    module.use(Split(fold=fold, folds=module.make_folds() if folds is None else folds))
    return module


@pytest.fixture(scope="session")
def measured(tmp_path_factory) -> Path:
    """The data folder. Not to be changed."""
    return write_photos(tmp_path_factory.mktemp("measured") / "data")
