"""Memory of the loader over epochs and of the features in memory; run by hand: python tests/benchmarks/memory.py

The loader with two workers must not grow from its second to its tenth epoch; features that are kept in memory must add at
most 1.2 x the size of their files. Linux only: resident memory is read from /proc.
"""

import math
import os
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

from biomass_pl.data.bank import FeatureBank
from biomass_pl.data.splits import Split
from biomass_pl.data.stored_features import StoredFeatures
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.sample.render import render_sample

CONSOLE = Console(highlight=False)
MEGABYTE = 1e6


def resident(process: int | str = "self") -> float:
    """Megabytes that a process does not share with files."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024 / MEGABYTE


def loader(root: Path) -> None:
    """Prints the memory of this process and its workers after each epoch."""
    data = PastureDataModule(root=root, cv_strategy="random", tile_size=224, batch_size=8, num_workers=2)
    data.use(Split(fold=0, folds=data.make_folds()))
    batches = data.train_dataloader()
    sizes = []
    for epoch in range(10):
        batches.sampler.set_epoch(epoch)
        for _ in batches:
            pass
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        sizes.append(resident() + sum(map(resident, children)))
    CONSOLE.print("loader, MB after each epoch: " + " ".join(f"{size:.0f}" for size in sizes))
    CONSOLE.print(f"epoch 10 / epoch 2: {sizes[-1] / sizes[1]:.2f}")


def bank(folder: Path) -> None:
    """Prints what reading every feature once adds."""
    photos, views, shape = 357, 9, (2, 4, 768)
    feature_set = FeatureBank(folder=folder, limit_gb=1).feature_set({}, shape)
    features = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for photo in range(photos):
        for view in range(views):
            feature_set.write(str(photo), view, features)
    keys = {Path(str(photo)): str(photo) for photo in range(photos)}
    stored = StoredFeatures(feature_set=feature_set, keys=keys, views=views - 1, epochs=math.inf)
    before = resident()
    for path in keys:
        for view in range(views):
            stored.read(path, view)
    added, files = resident() - before, photos * views * feature_set.entry_bytes / MEGABYTE
    CONSOLE.print(f"bank: {files:.0f} MB of files add {added:.0f} MB, {added / files:.2f} x (at most 1.2)")


def main() -> None:
    """Prints both."""
    with tempfile.TemporaryDirectory() as name:
        render_sample(out=Path(name) / "data", photos=40, test_photos=0, width=1000)
        loader(Path(name) / "data")
        bank(Path(name) / "bank")


if __name__ == "__main__":
    main()
