"""First batch of a table as large as ISIC 2024; run by hand: python tests/benchmarks/lesions.py [--photos N]

Metadata and an HDF5 file of 400,000 photos must open, split by patient and give the first training batch within
30 seconds and 1.5 GB of resident memory. The photos are one and the same, under as many names.
"""

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from rich.console import Console

CONSOLE = Console(highlight=False)
MALIGNANT, PATIENTS = 393, 1042


def make(root: Path, photos: int) -> None:
    """Writes the metadata and the photos."""
    rng = np.random.default_rng(0)
    names = [f"ISIC_{number:07d}" for number in range(photos)]
    target = np.zeros(photos, dtype=int)
    target[rng.choice(photos, MALIGNANT, replace=False)] = 1
    patients = [f"IP_{number:07d}" for number in rng.zipf(1.3, photos) % PATIENTS]
    metadata = pd.DataFrame({"isic_id": names, "patient_id": patients, "target": target})
    measurements = {f"tbp_lv_{number}": rng.normal(size=photos).round(5) for number in range(50)}
    pd.concat([metadata, pd.DataFrame(measurements)], axis=1).to_csv(root / "train-metadata.csv", index=False)
    jpeg = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (131, 131, 3), dtype=np.uint8)).save(jpeg, format="JPEG", quality=50)
    with h5py.File(root / "train-image.hdf5", "w") as file:
        for name in names:
            file.create_dataset(name, data=np.void(jpeg.getvalue()))


def first_batch(root: Path) -> None:
    """Opens, splits, yields; prints seconds, from the start of the imports on, and the largest resident memory."""
    started = time.perf_counter()
    from biomass_pl.data.splits import Split
    from biomass_pl.lesion.data import LesionDataModule

    data = LesionDataModule(root=root, positive_ratio=0.5, num_workers=0)
    data.use(Split(fold=0, folds=data.make_folds()))
    data.check_split()
    batch = next(iter(data.train_dataloader()))
    seconds = time.perf_counter() - started
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    CONSOLE.print(f"first batch of {len(batch['id'])}: {seconds:.1f} s (at most 30), {megabytes:.0f} MB (at most 1500)")
    started = time.perf_counter()
    data.check()
    CONSOLE.print(f"all photos decoded, as before a training: {time.perf_counter() - started:.0f} s")


def main() -> None:
    """Measures in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=400_000)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.root is not None:
        first_batch(options.root)
        return
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), options.photos)
        subprocess.run([sys.executable, __file__, "--root", name], check=True)


if __name__ == "__main__":
    main()
