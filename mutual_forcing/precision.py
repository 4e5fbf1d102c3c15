"""Where bf16 is fast, and how to compute in it."""

from __future__ import annotations

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
