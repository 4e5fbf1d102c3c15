"""Pictures that are ready to be animated, the last few of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .codecs.protocol import FilmLayout
from .types import GenerationRequest

KEPT, KEPT_BYTES = 3, 64 * 2**20
"""Most pictures that are kept, and most memory of all their maps but the latest's: 9 MB for one in a film of
512 pixels, up to 113 MB for one in a film of 1920 x 1080.
"""


@dataclass(frozen=True)
class Character:
    """A picture that is ready to be animated: what of it a film shows, and what the decoder knows of it (the
    codec's own protocol.EncodedPicture). Nothing in it changes.
    """

    canvas: FilmLayout
    reference: Any


class Characters:
    """The characters that were prepared last. Threads may share it; copies are empty, since what a decoder
    knows belongs to its weights.
    """

    def __init__(self) -> None:
        # Replaced as a whole, so that no lock is needed, which a process that is forked could inherit locked.
        self._kept: tuple[tuple[Any, Character], ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Characters:
        return Characters()

    def get(
        self, request: GenerationRequest, device: torch.device, make: Callable[[], Character]
    ) -> Character:
        """The character of `request` on `device`: one that is kept, or what `make` returns, which is from now
        on.
        """
        image = np.ascontiguousarray(request.image)
        digest = hashlib.blake2b(image.data, digest_size=16).digest()
        look = (image.shape, request.crop, request.framing, request.size)
        key = (digest, look, device)
        character = next((kept for own, kept in self._kept if own == key), None) or make()
        self._keep(key, character)
        return character

    def _keep(self, key: Any, character: Character) -> None:
        others = [pair for pair in self._kept if pair[0] != key][: KEPT - 1]
        while sum(other.canvas.nbytes for _, other in others) > KEPT_BYTES:
            others.pop()
        self._kept = ((key, character), *others)
