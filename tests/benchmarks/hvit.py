"""Time and memory of a step of hvit_small at 256 px; run by hand: OMP_NUM_THREADS=2 python tests/benchmarks/hvit.py

Forward and backward against the same network with attention as explicit matrices and merging as loops over tokens (at
most .8 x is wanted), for batches of 16 in 32-bit floats, in turn on a calm machine; and what a step adds at its peak to
the memory of the process, with and without checkpointing of gradients (at most .6 x is wanted), each in a process of its
own. The 110 MB of gradients of the weights are in both: they outweigh the activations of a small batch. Linux only:
resident memory is read from /proc.
"""

import copy
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import MethodType

import timm
import torch
from rich.console import Console
from torch import Tensor, nn

from biomass_pl.training.hvit import HierarchicalViT, PatchMerging

CONSOLE = Console(highlight=False)
REPEATS = 15
BATCHES = (16, 64)
"""Images per step whose memory is measured."""


def network() -> HierarchicalViT:
    """hvit_small for seven classes, always the same."""
    torch.manual_seed(0)
    return timm.create_model("hvit_small", num_classes=7)


def images(count: int = 16) -> Tensor:
    """Noise of 256 px."""
    return torch.randn(count, 3, 256, 256, generator=torch.Generator().manual_seed(0))


def explicit_attention(attention: nn.Module, tokens: Tensor, *_: object, **__: object) -> Tensor:
    """Attention with its matrix of weights."""
    queries, keys, values = attention.qkv(tokens).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    weights = (queries @ keys.transpose(-2, -1) * attention.scale).softmax(dim=-1)
    return attention.proj((weights @ values).transpose(1, 2).flatten(2))


def looped_merging(merging: PatchMerging, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Merging of one group of four tokens after another."""
    rows = tokens.unflatten(1, grid)
    groups = [
        torch.cat([rows[:, row + down, column + right] for right in (0, 1) for down in (0, 1)], dim=-1)
        for row in range(0, grid[0], 2)
        for column in range(0, grid[1], 2)
    ]
    return merging.reduction(merging.norm(torch.stack(groups, dim=1)))


def plain(fused: HierarchicalViT) -> HierarchicalViT:
    """A copy with explicit attention and looped merging."""
    copied = copy.deepcopy(fused)
    for stage in copied.stages:
        for block in stage.blocks:
            block.attn.forward = MethodType(explicit_attention, block.attn)
        if stage.downsample is not None:
            stage.downsample.forward = MethodType(looped_merging, stage.downsample)
    return copied


def seconds(module: nn.Module, inputs: Tensor) -> float:
    """Of one forward and backward pass."""
    module.zero_grad()
    start = time.perf_counter()
    module(inputs).square().sum().backward()
    return time.perf_counter() - start


def linear_share(module: nn.Module, inputs: Tensor) -> float:
    """Part of a step that products of matrices take, which every implementation needs."""
    with torch.profiler.profile() as profile:
        seconds(module, inputs)
    times = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    return sum(times.get(name, 0) for name in ("aten::mm", "aten::addmm")) / sum(times.values())


def compare_times() -> None:
    """Prints the times of both networks and their ratio."""
    ours, inputs = network(), images()
    other = plain(ours)
    torch.testing.assert_close(ours(inputs), other(inputs), rtol=1e-5, atol=1e-5)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPEATS):
        for module, measured in zip((ours, other), times, strict=True):
            measured.append(seconds(module, inputs))
    for name, best in (("median", statistics.median), ("minimum", min)):
        fused, explicit = (best(measured) for measured in times)
        CONSOLE.print(
            f"{name} of {REPEATS}: {fused:.3f} s, explicit {explicit:.3f} s: {fused / explicit:.2f} x (at most .8)"
        )
    CONSOLE.print(f"linear layers take {linear_share(ours, inputs):.0%} of ours; {torch.get_num_threads()} threads")


def megabytes(entry: str) -> float:
    """An entry of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry)) * 1024 / 1e6


def measure_memory(checkpointing: bool, count: int) -> None:
    """Prints what a step adds at its peak to the memory of this process: activations, and 110 MB of gradients."""
    module, inputs = network(), images(count)
    module.set_grad_checkpointing(checkpointing)
    seconds(module, inputs[:1])  # what libraries keep for themselves
    module.zero_grad()
    before = megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    seconds(module, inputs)
    sys.stdout.write(str(megabytes("VmHWM") - before))


def compare_memory(count: int) -> None:
    """Prints the memory of both ways, each measured in a new process."""
    # What is freed goes back to the system at once, or the peak would be that of the allocator's own store.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    kept, checkpointed = (
        float(
            subprocess.run(
                [sys.executable, __file__, "memory", checkpointing, str(count)],
                capture_output=True,
                text=True,
                check=True,
                env=environment,
            ).stdout
        )
        for checkpointing in ("", "1")
    )
    CONSOLE.print(
        f"batch {count}: a step adds {kept:.0f} MB, with checkpointing {checkpointed:.0f} MB: "
        f"{checkpointed / kept:.2f} x (at most .6)"
    )


def main() -> None:
    """Prints times and memory."""
    if sys.argv[1:2] == ["memory"]:
        measure_memory(bool(sys.argv[2]), int(sys.argv[3]))
        return
    compare_times()
    for count in BATCHES:
        compare_memory(count)


if __name__ == "__main__":
    main()
