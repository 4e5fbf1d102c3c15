"""Mutual Forcing: streaming talking characters from one audio-video flow model with two modes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .streaming import StreamingGenerator, StreamState
    from .types import AVChunk, GenerationRequest, Steering

__version__ = "0.2.0"
__all__ = ["AVChunk", "GenerationRequest", "Steering", "StreamState", "StreamingGenerator"]


def __getattr__(name: str) -> Any:
    # Lazy, so that importing a submodule (the corpus tools, say) does not import torch.
    if name in ("StreamingGenerator", "StreamState"):
        from . import streaming

        return getattr(streaming, name)
    if name in ("AVChunk", "GenerationRequest", "Steering"):
        from . import types

        return getattr(types, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
