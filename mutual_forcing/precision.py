"""Where bf16 is fast, and how to compute in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def computes_bfloat16(device: torch.device) -> bool:
    """Whether bf16 is fast: always on CUDA, on a CPU with units for it (two to three times fp32)."""
    if device.type == "cuda":
        return True
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.12 and later
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def mixed_precision(device: torch.device) -> torch.autocast:
    """Autocast to bf16, or do nothing where bf16 is slow."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computes_bfloat16(device))


def as_here(function: Callable[P, R]) -> Callable[P, R]:
    """The function, to be called in another thread, with gradients and autocast of the CPU as they are now:
    PyTorch keeps them for each thread.
    """
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    dtype, enabled = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(gradients),
            torch.autocast("cpu", dtype, enabled=enabled),
        ):
            return function(*args, **kwargs)

    return run
