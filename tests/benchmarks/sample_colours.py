"""Whether a network learns more than colours from the rendered sample; run by hand after the quickstart:

    python tests/benchmarks/sample_colours.py lightning_logs/quickstart/version_0 sample_data

Ridge regression and extra trees on statistics of RGB, HSV and Lab pixels predict the folds of the run. Neither may
score above the run's network.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from rich.console import Console
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from biomass_pl.data.photos import read_photo
from biomass_pl.pasture.scores import weighted_r2
from biomass_pl.pasture.tables import read_labels
from biomass_pl.pasture.targets import TARGETS

CONSOLE = Console(highlight=False)
PERCENTILES = (2, 10, 25, 50, 75, 90, 98)
REGRESSIONS = {
    "ridge regression": lambda: make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 15))),
    "extra trees": lambda: ExtraTreesRegressor(200, min_samples_leaf=2, max_features=0.5, n_jobs=-1, random_state=0),
}


def colour_statistics(path: Path) -> np.ndarray:
    """Mean, spread, percentiles and histogram of every channel of three colour spaces."""
    rgb = read_photo(path)
    hsv, lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV), cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    channels = np.concatenate([rgb, hsv, lab], axis=2).reshape(-1, 9)
    histograms = [np.histogram(channel, 16, (0, 256))[0] / len(channel) for channel in channels.T[:6]]
    moments = [channels.mean(axis=0), channels.std(axis=0), *np.percentile(channels, PERCENTILES, axis=0)]
    return np.concatenate([*moments, *histograms])


def main() -> None:
    """Prints the score of the run and of both regressions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("root", type=Path)
    options = parser.parse_args()
    labels = read_labels(options.root)
    folds = pd.read_csv(options.run / "folds.csv").set_index("image_id")["fold"].loc[labels["image_id"]].to_numpy()
    grams = labels[list(TARGETS)].to_numpy()
    statistics = np.stack([colour_statistics(options.root / path) for path in labels["image_path"]])
    network = json.loads((options.run / "oof_metrics.json").read_text())["pooled"]["weighted_r2"]
    CONSOLE.print(f"network: {network:.3f}")
    for name, make in REGRESSIONS.items():
        predicted = np.zeros_like(grams)
        for fold in np.unique(folds):
            train = folds != fold
            predicted[~train] = make().fit(statistics[train], grams[train]).predict(statistics[~train])
        CONSOLE.print(f"{name} on colours: {weighted_r2(grams, predicted):.3f}")


if __name__ == "__main__":
    main()
