"""Networks as files that torch alone runs: traced (TorchScript), or as a program of torch.export."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biomass_pl.files import replacing

TOLERANCE = 1e-5
"""How far an exported network may be from the network itself, as a share of its largest output."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """What an exported network takes.

    Args:
        shape: Numbers, and names of sizes that may be any from 1 on.
        dtype: Type of its values.
        meaning: What to put in.
    """

    shape: tuple[int | str, ...]
    dtype: torch.dtype
    meaning: str

    def example(self, sizes: Mapping[str, int]) -> Tensor:
        """Drawn values; of truth values the first of each row is true.

        Args:
            sizes: A number for each name in `shape`.
        """
        shape = [size if isinstance(size, int) else sizes[size] for size in self.shape]
        generator = torch.Generator().manual_seed(sum(shape))
        if self.dtype == torch.bool:
            drawn = torch.rand(shape, generator=generator) < 0.5
            drawn[..., 0] = True
            return drawn
        return torch.randn(shape, generator=generator).to(self.dtype)


@dataclass(frozen=True, kw_only=True)
class Exportable:
    """A part of a network that is of use without the rest.

    Args:
        module: Takes the inputs in their order and gives a tuple of tensors; in eval mode, on the CPU.
        inputs: Its inputs by name.
        outputs: Names of what it gives, in order.
        about: What else its user must know, as JSON can hold it.
    """

    module: nn.Module
    inputs: Mapping[str, Input]
    outputs: Sequence[str]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def free_sizes(self) -> list[str]:
        """Names of the sizes that may be any."""
        names = [size for given in self.inputs.values() for size in given.shape if isinstance(size, str)]
        return list(dict.fromkeys(names))

    def examples(self, sizes: Mapping[str, int]) -> tuple[Tensor, ...]:
        """An input of each kind with these sizes."""
        return tuple(given.example(sizes) for given in self.inputs.values())

    def description(self) -> dict[str, Any]:
        """What goes in and what comes out."""
        inputs = {
            name: {
                "shape": list(given.shape),
                "dtype": str(given.dtype).removeprefix("torch."),
                "meaning": given.meaning,
            }
            for name, given in self.inputs.items()
        }
        return {"inputs": inputs, "outputs": list(self.outputs), **self.about}


def write_trace(network: Exportable, path: Path) -> None:
    """Traces a network into a file that `torch.jit.load` reads."""
    examples = network.examples(_other_sizes(network, start=2))
    with torch.no_grad(), warnings.catch_warnings():
        # That TorchScript is old, and that what is compared in Python is fixed; what comes of it is looked at below.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network.module, examples, check_trace=False)  # type: ignore[no-untyped-call]
        with replacing(path) as temporary:
            traced.save(str(temporary))
            _check(network, torch.jit.load(str(temporary)))  # type: ignore[no-untyped-call]


def write_program(network: Exportable, path: Path) -> None:
    """Writes a network into a file that `torch.export.load` reads."""
    free = {name: torch.export.Dim(name, min=1) for name in network.free_sizes}
    shapes = tuple(
        {place: free[size] for place, size in enumerate(given.shape) if isinstance(size, str)}
        for given in network.inputs.values()
    )
    examples = network.examples(_other_sizes(network, start=2))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network.module, examples, dynamic_shapes=shapes, strict=False)
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.export.save(program, file)
        _check(network, program.module())


def _check(network: Exportable, exported: Callable[..., Any]) -> None:
    """Compares what was written with the network, on inputs of other sizes than those that it was made by.

    Raises:
        RuntimeError: They differ.
    """
    for sizes in ({name: 1 for name in network.free_sizes}, _other_sizes(network, start=5)):
        examples = network.examples(sizes)
        for wanted, found in zip(network.module(*examples), exported(*examples), strict=True):
            if not torch.allclose(found, wanted, rtol=0, atol=TOLERANCE * max(1.0, float(wanted.abs().max()))):
                msg = f"the exported network differs from the network at {sizes}"
                raise RuntimeError(msg)


def _other_sizes(network: Exportable, *, start: int) -> dict[str, int]:
    """A different number for each free size."""
    return dict(zip(network.free_sizes, count(start, 3), strict=False))
