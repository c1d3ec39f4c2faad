"""What Lightning and its libraries may say while folds run."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("lightning.pytorch", "lightning.fabric")

_IRRELEVANT = (
    ".*does not have many workers.*",  # a choice of the configuration
    ".*callbacks used to create the checkpoint need to be provided.*",  # predicting needs none of them
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # between Lightning and torch
    ".*WeightAveraging callback with a model that overrides the configure_model.*",  # which needs no strategy here
    ".*The dirpath has changed from.*",  # a run folder that was moved
    ".*Checkpoint directory .* exists and is not empty.*",  # a fold that goes on
)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps back what the libraries report for every fold anew and what says nothing to the user."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _IRRELEVANT:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
