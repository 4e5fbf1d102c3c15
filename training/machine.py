"""How much memory was used."""

from __future__ import annotations

import resource
from pathlib import Path

import torch


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on CUDA, else the most that this process took."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if not status.exists():  # macOS, which counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # ru_maxrss would begin with the peak of the process that started this one.
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
