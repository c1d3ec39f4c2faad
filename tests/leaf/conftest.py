"""Small folders of leaf photos, and what is asked of the data module on them."""

import cv2
import numpy as np
import pytest
from PIL import Image

from biomass_pl.data.splits import Split
from biomass_pl.leaf.data import LeafDataModule

CLASSES = ("Curl Virus", "Healthy Leaf", "Leaf Redding")
PER_CLASS, FOLDS, SIDE = 6, 3, 16


def picture(seed, height=36, width=48):
    """Smooth blobs of several sizes, as photos have them; another seed gives quite another picture."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(size=(cells, cells, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
        for cells in (4, 8, 16)
    ]
    return np.clip(128 + 35 * sum(layers), 0, 255).astype(np.uint8)


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    return path


def write_classes(root, per_class=PER_CLASS, classes=CLASSES, first_seed=0):
    """A folder of photos per class; no two photos are alike."""
    for number, name in enumerate(classes):
        for position in range(per_class):
            save(picture(first_seed + 100 * number + position), root / name / f"{name.split()[0]}_{position}.png")
    return root


def leaf_module(root, fold=0, folds=None, **settings):
    small = {"num_folds": FOLDS, "image_size": SIDE, "batch_size": 4, "num_workers": 0}
    module = LeafDataModule(root=root, **{**small, **settings})
    module.use(Split(fold=fold, folds=module.make_folds() if folds is None else folds))
    return module


def ids(loader):
    return [name for batch in loader for name in batch["id"]]


@pytest.fixture(scope="session")
def leaf_root(tmp_path_factory):
    """Three classes of six photos. Not to be changed."""
    return write_classes(tmp_path_factory.mktemp("leaves") / "data")
