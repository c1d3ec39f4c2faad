"""Memory that a part of a process took at most."""

import contextlib
import resource
import sys
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CLEAR_PEAK = "5"


def reset_peak_memory() -> None:
    """Begins to measure; where the system cannot forget a peak, it stays that of the whole process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # not on every system, and not in every container
        _CLEAR.write_text(_CLEAR_PEAK)


def peak_memory() -> int:
    """Bytes of main memory that the process took at most since the reset."""
    if _STATUS.exists():
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    # macOS counts in bytes, other systems in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_gpu_memory() -> int | None:
    """Bytes that tensors took at most on the GPU since the reset; none without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
