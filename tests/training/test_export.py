import pytest
import torch
from torch import nn

from biomass_pl.training.export import Exportable, Input, write_program, write_trace

WRITERS = {"trace": write_trace, "export": write_program}


class Mean(nn.Module):
    """Mean of a layer's outputs for the vectors that count, and how many they are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, vectors, valid):
        weights = valid.unsqueeze(-1).float()
        return (self.layer(vectors) * weights).sum(dim=1) / weights.sum(dim=1), weights.sum(dim=(1, 2))


class Baked(nn.Module):
    """Divides by what the length of the example was that it was traced by."""

    def forward(self, vectors, valid):
        return (vectors.sum(dim=1) / float(len(valid.tolist()[0])),)


def exportable(module: nn.Module) -> Exportable:
    inputs = {
        "vectors": Input(shape=("bags", "vectors", 3), dtype=torch.float32, meaning="anything"),
        "valid": Input(shape=("bags", "vectors"), dtype=torch.bool, meaning="which count"),
    }
    return Exportable(module=module.eval(), inputs=inputs, outputs=["mean", "count"], about={"width": 3})


def test_an_example_has_the_sizes_and_types_and_in_each_row_something_true():
    vectors, valid = exportable(Mean()).examples({"bags": 4, "vectors": 6})
    assert vectors.shape == (4, 6, 3) and vectors.dtype == torch.float32
    assert valid.shape == (4, 6) and valid.dtype == torch.bool
    assert valid.any(dim=1).all() and not valid.all()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_gives_what_the_network_gives_for_any_sizes(kind, tmp_path):
    network = exportable(Mean())
    WRITERS[kind](network, tmp_path / "deep" / "mean.pt2")
    path = str(tmp_path / "deep" / "mean.pt2")
    loaded = torch.jit.load(path) if kind == "trace" else torch.export.load(path).module()
    for bags, vectors in ((1, 1), (1, 9), (7, 1), (5, 40)):
        examples = network.examples({"bags": bags, "vectors": vectors})
        for found, wanted in zip(loaded(*examples), network.module(*examples), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_a_trace_that_is_right_for_its_example_alone_is_no_file(tmp_path):
    with pytest.raises(RuntimeError, match="differs from the network"):
        write_trace(exportable(Baked()), tmp_path / "baked.pt")
    assert not list(tmp_path.iterdir())


def test_the_description_is_plain():
    assert exportable(Mean()).description() == {
        "inputs": {
            "vectors": {"shape": ["bags", "vectors", 3], "dtype": "float32", "meaning": "anything"},
            "valid": {"shape": ["bags", "vectors"], "dtype": "bool", "meaning": "which count"},
        },
        "outputs": ["mean", "count"],
        "width": 3,
    }
