"""Breaking trainings once, and quick ones."""

from types import SimpleNamespace

import pytest

from biomass_pl.training.callbacks import checkpoint
from tests.harness import interruptions as callbacks


@pytest.fixture
def every_epoch_saved(monkeypatch) -> None:
    """Epochs here pass faster than they are saved, and then not all are; on this clock, saving takes no time."""
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: 0.0))


@pytest.fixture
def interruptions():
    """The callbacks that break a training once, none of which has happened yet."""
    callbacks.FailOnce.happened.clear()
    return callbacks
