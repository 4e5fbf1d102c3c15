"""How good people would find a voice, by DistillMOS (MIT), where its package of 16 MB is installed:

pip install --no-deps distillmos==0.9.1
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

RATE = 16_000
_UNUSED = {
    "torchaudio": (),
    "torchaudio.transforms": ("MFCC",),
    "transformers": ("Wav2Vec2FeatureExtractor", "Wav2Vec2Model"),
}
"""What DistillMOS imports for its teacher and for files, and does not need to judge."""


def can_judge() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("distillmos") is not None


def naturalness(audio: np.ndarray) -> float:
    """DistillMOS, 1 to 5, of speech float mono [N] at 16 kHz. Raises ImportError without the package."""
    with torch.inference_mode():
        return float(_network()(torch.from_numpy(np.ascontiguousarray(audio))[None]))


_LOADING = threading.Lock()


def _network() -> Any:
    with _LOADING:
        return _loaded()


@functools.lru_cache(maxsize=1)
def _loaded() -> Any:
    with _instead(_UNUSED), contextlib.redirect_stdout(sys.stderr):
        import distillmos  # pyright: ignore[reportMissingImports] # it may be installed

        return distillmos.ConvTransformerSQAModel().eval()


@contextlib.contextmanager
def _instead(modules: dict[str, tuple[str, ...]]) -> Iterator[None]:
    """Empty modules with these names, for as long as something is imported that names them."""
    mine = [name for name in modules if name not in sys.modules]
    for name in mine:
        sys.modules[name] = types.ModuleType(name)
        for part in modules[name]:
            setattr(sys.modules[name], part, object)
    try:
        yield
    finally:
        for name in mine:
            del sys.modules[name]
