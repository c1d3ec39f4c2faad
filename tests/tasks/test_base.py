"""What every task logs of its losses."""

import pytest
import torch

from biomass_pl.tasks.base import LossMeans


def test_means_weigh_batches_by_their_items_and_start_anew_once_taken():
    means = LossMeans()
    weight = torch.tensor(3.0, requires_grad=True)
    means.add({"regression": 2 * weight, "constraint": torch.tensor(1.0)}, 4)
    means.add({"regression": weight, "constraint": torch.tensor(4.0)}, 2)
    taken = means.take()
    assert not taken["regression"].requires_grad
    assert {name: float(value) for name, value in taken.items()} == pytest.approx({"regression": 5, "constraint": 2})
    means.add({"regression": torch.tensor(7.0)}, 1)
    assert {name: float(value) for name, value in means.take().items()} == {"regression": 7}
