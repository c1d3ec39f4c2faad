"""Photos per second that `biomass check` reads; run by hand: python tests/benchmarks/check.py

At least 300 photos of 1000 x 500 pixels per second on two cores. A photo is decoded once, at an eighth of its size, which
still reads its file to the end; besides, its header is opened and its bytes are hashed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from rich.console import Console

from biomass_pl.pasture.sample.render import render_sample
from biomass_pl.pasture.tables import read_labels

CONSOLE = Console(highlight=False)
RECIPE = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
RENDERED, FEW, MANY = 24, 500, 3_500


def make(folder: Path, rendered: Path, count: int) -> None:
    """A data folder of so many photos, each with bytes of its own, and a table of one's own."""
    (folder / "photos").mkdir(parents=True)
    labels = read_labels(rendered)
    rows = []
    for number in range(count):
        row = labels.iloc[number % len(labels)]
        photo = folder / "photos" / f"{number}.jpg"
        shutil.copy(rendered / row["image_path"], photo)
        with photo.open("ab") as file:  # behind the end of the picture: copies would have to be in one fold
            file.write(str(number).encode())
        rows.append((f"photos/{number}.jpg", row["Dry_Total_g"], row["Sampling_Date"]))
    pd.DataFrame(rows, columns=["photo", "total", "date"]).to_csv(folder / "weights.csv", index=False)


def seconds(folder: Path, root: Path) -> tuple[float, float]:
    """Seconds that the command takes, and those of processors."""
    started, before = time.perf_counter(), os.times()
    command = [sys.executable, "-m", "biomass_pl", "check", "--config", str(RECIPE), "--data.root", str(root)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = os.times()
    processors = after.children_user - before.children_user + after.children_system - before.children_system
    return time.perf_counter() - started, processors


def main() -> None:
    """Prints photos per second, by the clock and by the processors' time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        render_sample(out=folder / "rendered", photos=RENDERED, test_photos=0, width=1000)
        measured = {}
        for count in (FEW, MANY):
            make(folder / str(count), folder / "rendered", count)
            measured[count] = seconds(folder, folder / str(count))
            CONSOLE.print(f"{count} photos: {measured[count][0]:.1f} s, {measured[count][1]:.1f} s of processors")
        wall, processors = (many - few for many, few in zip(measured[MANY], measured[FEW], strict=True))
        CONSOLE.print(
            f"{(MANY - FEW) / wall:.0f} photos per second beyond the start (at least 300); "
            f"{processors / (MANY - FEW) * 1000:.2f} ms of a processor for each; "
            f"{MANY / measured[MANY][0]:.0f} photos per second with the start"
        )


if __name__ == "__main__":
    main()
