"""Speed and memory of `data.cache_images`; run by hand: python tests/benchmarks/cache.py [--photos N] (Linux).

Two ratios are printed. Reading a photo from the cache must be at least 5 x as fast as decoding it. With two workers
and the cache, peak memory of all processes together must stay within 1.3 x (photos decoded once + one process
without the cache). Memory is the proportional set size: a page that N processes share counts 1/N in each.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from rich.console import Console

from biomass_pl.data.cache import PhotoCache
from biomass_pl.data.photos import read_photo
from biomass_pl.data.splits import Split
from biomass_pl.pasture.data import PastureDataModule
from biomass_pl.pasture.targets import TARGETS

HEIGHT, WIDTH = 1000, 2000
CONSOLE = Console(highlight=False)


def make_photos(root: Path, count: int) -> None:
    """Writes grass-like noise as photos of the competition's size, and their label table."""
    (root / "train").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        coarse = rng.integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
        Image.fromarray(cv2.resize(coarse, (WIDTH, HEIGHT))).save(root / f"train/p{number}.jpg", quality=90)
        rows += [
            {
                "sample_id": f"p{number}__{name}",
                "image_path": f"train/p{number}.jpg",
                "target_name": name,
                "target": 10.0,
            }
            for name in TARGETS
        ]
    pd.DataFrame(rows).to_csv(root / "train.csv", index=False)


def train_one_epoch(root: Path, batch_size: int, workers: int, cache: bool) -> None:
    """What a measured process does: every training and validation photo twice, as a training asks for them."""
    data = PastureDataModule(
        root=root,
        cv_strategy="random",
        cache_images=cache,
        num_workers=workers,
        batch_size=batch_size,
    )
    data.use(Split(fold=0, folds=data.make_folds()))
    train, validation = data.train_dataloader(), data.val_dataloader()
    for _ in range(2):
        for loader in (train, validation):
            for _ in loader:
                pass


def proportional_bytes(process: int) -> int:
    """Memory of a process and all that it started; those that have just ended count nothing."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    own = next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return own + sum(proportional_bytes(int(child)) for child in children)


def peak_memory(root: Path, batch_size: int, *, workers: int, cache: bool) -> int:
    """Largest memory of a fresh process that loads the photos, its workers included."""
    settings = ["--root", str(root), "--batch_size", str(batch_size), "--workers", str(workers)]
    child = subprocess.Popen([sys.executable, __file__, *settings, *["--cache"] * cache])
    peak = 0
    while child.poll() is None:
        peak = max(peak, proportional_bytes(child.pid))
        time.sleep(0.02)
    if child.returncode:
        sys.exit(child.returncode)
    return peak


def seconds_per_photo(read, paths: list[Path]) -> float:
    """Mean time of reading a photo to its last pixel; the copy touches every page of a mapped file."""
    start = time.perf_counter()
    for path in paths:
        read(path).copy()
    return (time.perf_counter() - start) / len(paths)


def measure(root: Path, batch_size: int) -> None:
    paths = sorted((root / "train").iterdir())
    geometry = PastureDataModule(root=root).geometry
    cache = PhotoCache(paths=paths, at_least=geometry.decode_size)
    decoding = seconds_per_photo(lambda path: read_photo(path, at_least=geometry.decode_size), paths)
    first, later = (seconds_per_photo(cache.read, paths) for _ in range(2))
    CONSOLE.print(
        f"decoding {decoding * 1e3:.1f} ms, cache {first * 1e3:.2f} ms the first time, {later * 1e3:.2f} ms later: "
        f"{decoding / first:.1f} x and {decoding / later:.1f} x as fast (at least 5)"
    )
    decoded = sum(cache.read(path).nbytes for path in paths)
    del cache
    plain = peak_memory(root, batch_size, workers=0, cache=False)
    cached = peak_memory(root, batch_size, workers=2, cache=True)
    CONSOLE.print(
        f"photos decoded once {decoded / 1e6:.0f} MB, one process without cache {plain / 1e6:.0f} MB, "
        f"two workers with cache {cached / 1e6:.0f} MB: {cached / (decoded + plain):.2f} x (at most 1.3)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--batch_size", type=int, default=8)
    measured = parser.add_argument_group("given to the measured processes")
    measured.add_argument("--root", type=Path)
    measured.add_argument("--workers", type=int)
    measured.add_argument("--cache", action="store_true")
    options = parser.parse_args()
    if options.root is not None:
        train_one_epoch(options.root, options.batch_size, options.workers, options.cache)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        make_photos(root, options.photos)
        measure(root, options.batch_size)


if __name__ == "__main__":
    main()
