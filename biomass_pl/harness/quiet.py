"""What Lightning and its libraries may say while folds run."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LEVELS = {
    "lightning.pytorch": logging.WARNING,
    "lightning.fabric": logging.WARNING,
    "torch.utils.cpp_extension": logging.ERROR,  # at its import: that there is a CUDA compiler and no GPU
}

_IRRELEVANT = (
    ".*does not have many workers.*",  # a choice of the configuration
    ".*callbacks used to create the checkpoint need to be provided.*",  # predicting needs none of them
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # between Lightning and torch
    ".*WeightAveraging callback with a model that overrides the configure_model.*",  # which needs no strategy here
    ".*module\\(s\\) in eval mode at the start of training.*",  # what a task has locked
    ".*The dirpath has changed from.*",  # a run folder that was moved
    ".*is smaller than the logging interval.*",  # epochs are logged whatever their length
    ".*Checkpoint directory .* exists and is not empty.*",  # a fold that goes on
)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps back what the libraries report for every fold anew and what says nothing to the user."""
    loggers = {name: logging.getLogger(name) for name in _LEVELS}
    levels = {name: logger.level for name, logger in loggers.items()}
    for name, level in _LEVELS.items():
        loggers[name].setLevel(level)
    try:
        with warnings.catch_warnings():
            for message in _IRRELEVANT:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for name, level in levels.items():
            loggers[name].setLevel(level)
