"""Borrowed GPUs on Spaces (ZeroGPU): one lease per stream. Without the `spaces` package: nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
MOST_SECONDS = 120
"""A lease ends after this; longer ones wait longer and use up a visitor's share."""


def lease(function: Function) -> Function:
    """Return `function` run inside one GPU lease where there is ZeroGPU, else itself, unchanged."""
    try:
        import spaces
    except ImportError:
        return function
    return spaces.GPU(duration=MOST_SECONDS)(function)


def leased() -> bool:
    """Whether streams run in a borrowed GPU's own process, so that their state is lost at the end."""
    try:
        from spaces.config import Config
    except ImportError:
        return False
    return bool(Config.zero_gpu)
