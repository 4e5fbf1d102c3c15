"""What the machine offers: bf16 where it has units for it, and how much memory was used."""

from __future__ import annotations

import resource
from pathlib import Path

import torch


def computes_bfloat16(device: torch.device) -> bool:
    """Whether bf16 is fast: always on CUDA, on a CPU with units for it (two to three times fp32)."""
    if device.type == "cuda":
        return True
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.12 and later
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def mixed_precision(device: torch.device) -> torch.autocast:
    """Autocast to bf16, or do nothing where bf16 is slow."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computes_bfloat16(device))


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
