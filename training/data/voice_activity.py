"""Where somebody speaks: silero-vad's network (MIT), run by onnxruntime.

The weights lie in the package, which is not imported: its code wants torchaudio to read files.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

RATE = 16_000
WINDOW = 512
"""Samples that are judged together: 32 ms."""
SPEECH = 0.5
_CONTEXT = 64
"""Samples before a window that the network hears with it."""


def speech_windows(audio: np.ndarray) -> np.ndarray:
    """Whether somebody speaks in each window of float mono 16 kHz [N]: bool [N / 512, rounded up]."""
    session = _session()
    count = -(-len(audio) // WINDOW)
    padded = np.pad(audio.astype(np.float32), (_CONTEXT, count * WINDOW - len(audio)))
    state, rate = np.zeros((2, 1, 128), np.float32), np.array(RATE, np.int64)
    found = np.zeros(count, bool)
    for index in range(count):
        heard = padded[None, index * WINDOW : (index + 1) * WINDOW + _CONTEXT]
        share, state = session.run(None, {"input": heard, "state": state, "sr": rate})
        found[index] = np.ravel(share)[0] >= SPEECH
    return found


@functools.cache
def _session() -> InferenceSession:
    import onnxruntime

    spec = importlib.util.find_spec("silero_vad")
    assert spec is not None and spec.origin is not None
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    path = Path(spec.origin).parent / "data" / "silero_vad.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
