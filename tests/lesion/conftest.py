"""A small folder of lesion photos, written by hand, and what is asked of the data module on it."""

from io import BytesIO

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from biomass_pl.data.splits import Split
from biomass_pl.lesion.data import LesionDataModule

COUNT, FOLDS, SIDE = 60, 3, 16
POSITION = np.arange(COUNT)
TABLE = pd.DataFrame(
    {
        "isic_id": [f"ISIC_{n * 7 % COUNT:07}" for n in POSITION],
        "target": (POSITION % 5 == 0).astype(int),
        "patient_id": [f"IP_{n * n % 23}" for n in POSITION],
        "age_approx": 40 + POSITION % 6 * 5,
        "sex": np.where(POSITION % 4 == 0, "male", "female"),
        "tbp_lv_H": 50 + POSITION / 7,
        "iddx_full": "Benign",
    }
)
"""Twelve malignant lesions; twelve patients of different numbers of lesions."""
MALIGNANT = set(TABLE["isic_id"][TABLE["target"] == 1])
TEST = TABLE[["isic_id", "patient_id", "age_approx", "tbp_lv_H"]].iloc[:4].assign(isic_id=list("dbca"))


def jpeg(seed):
    content = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


def write_lesions(root, table=TABLE, split="train", contents=None):
    """A data folder; without contents each lesion has a picture of its own."""
    root.mkdir(exist_ok=True)
    table.to_csv(root / f"{split}-metadata.csv", index=False)
    with h5py.File(root / f"{split}-image.hdf5", "w") as file:
        for seed, name in enumerate(table["isic_id"]):
            file[name] = np.void((contents or {}).get(name) or jpeg(seed))
    return root


def lesion_module(root, fold=0, folds=None, **settings):
    small = {"num_folds": FOLDS, "image_size": SIDE, "batch_size": 8, "num_workers": 0}
    module = LesionDataModule(root=root, **{**small, **settings})
    module.use(Split(fold=fold, folds=module.make_folds() if folds is None else folds))
    return module


def ids(found):
    return [name for batch in found for name in batch["id"]]


@pytest.fixture(scope="session")
def lesion_root(tmp_path_factory):
    """A data folder with labelled and test photos. Not to be changed."""
    folder = write_lesions(tmp_path_factory.mktemp("lesions") / "data")
    return write_lesions(folder, TEST, "test")


@pytest.fixture(scope="session")
def lesion_folds(lesion_root):
    """The folds of its lesions."""
    return lesion_module(lesion_root).split.folds
