"""Time and memory of predicting many photos; run by hand: python tests/benchmarks/prediction.py

Four times the photos must take at most 4.4 x the time, and no more memory.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from biomass_pl.pasture.sample.render import render_sample

CONSOLE = Console(highlight=False)
RECIPE = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
FEW, MANY = 1_000, 4_000


def biomass(folder: Path, *arguments: str) -> tuple[float, float]:
    """Seconds and largest resident memory (MB) of a command."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "biomass_pl", *arguments], cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(status)
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    """Prints seconds, megabytes and ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        render_sample(out=folder / "data", photos=20, test_photos=0, width=480)
        biomass(
            folder,
            *("fit", "--config", str(RECIPE), "--data.root", "data", "--folds", "0", "--oof", "false"),
            *("--trainer.max_epochs", "3", "--model.backbone", "test_resnet.r160_in1k", "--model.pretrained", "false"),
        )
        photos = sorted((folder / "data" / "train").glob("*.jpg"))
        measured = {}
        for count in (FEW, MANY):
            many = folder / str(count)
            many.mkdir()
            for number in range(count):
                shutil.copy(photos[number % len(photos)], many / f"{number}.jpg")
            measured[count] = biomass(folder, "predict", "--images", str(many), "--out", f"{count}.csv")
            CONSOLE.print(f"{count} photos: {measured[count][0]:.1f} s, {measured[count][1]:.0f} MB")
        time_ratio, memory_ratio = (many / few for many, few in zip(measured[MANY], measured[FEW], strict=True))
        CONSOLE.print(f"time {time_ratio:.2f} x (at most 4.4), memory {memory_ratio:.2f} x")


if __name__ == "__main__":
    main()
