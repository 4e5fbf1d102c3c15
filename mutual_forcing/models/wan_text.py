"""UMT5's text for Wan, with the time at which every word is spoken.

Wan's cross-attention has no positions: a text is a set of encoded tokens, filled up with zeros. So a chunk
reads the caption and those words that are spoken around it; the others are zeros, like the filling. When a
word is spoken is an embedding that is added to it (wan_layers.ConditionEmbedder.text) and begins as nothing.

Shape letters: B batch, K chunks, Q tokens of a caption, P tokens of words, L = Q + P + 1 with the end token,
H heads, D width of a head.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..chunks import CHUNK_SECONDS
from ..config import WanConfig
from ..text.timing import TEXT_MARGIN_SECONDS
from ..types import TextTokens, TimedWord, Transcript

END_TOKEN = 1
"""UMT5's: it ends every text. 0 is its padding."""
CAPTION_SHARE = 4
"""A quarter of the tokens is kept for the caption."""
PAGE_WORDS = 64
"""A long transcript is encoded from every so many-th word on, as far as there is room."""
KEPT_TEXTS = 16
"""Encoded texts that are kept: the chunks of a stream ask for the same one again and again."""

KeyValues = tuple[Tensor, Tensor]
Embed = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""ConditionEmbedder.text of a branch."""


@dataclass(frozen=True)
class WanText:
    """What the chunks of a pass read.

    states [B, K, L, text_dim], zero where a chunk reads nothing; start and end [B, K, L], in seconds from the
    chunk's start, of the tokens that are `timed` (bool [B, K, L]). hidden: embedded for every branch, see
    `embedded`.
    """

    states: Tensor
    start: Tensor
    end: Tensor
    timed: Tensor
    hidden: Mapping[str, Tensor] = field(default_factory=dict)
    _kept: dict[Any, Any] = field(default_factory=dict)

    @staticmethod
    def empty(
        config: WanConfig, rows: int, chunks: int, device: torch.device | str = "cpu"
    ) -> WanText:
        """Nothing but filling."""
        shape = (rows, chunks, config.text_tokens)
        times = torch.zeros(shape, device=device)
        states = torch.zeros(*shape, config.text_dim, device=device)
        return WanText(states, times, times, times > 0)

    def map(self, change: Callable[[Tensor], Tensor]) -> WanText:
        """The same for some of its chunks, as `change` takes them out of [B, K, ...]; not yet embedded."""
        return WanText(
            change(self.states), change(self.start), change(self.end), change(self.timed)
        )

    def embedded(self, embed: Mapping[str, Embed]) -> WanText:
        """The same text, embedded [B, K, L, W] for the branches of a pass."""
        parts = self.states, self.start, self.end, self.timed
        hidden = {n: self._keep(n, lambda e=e: e(*parts)) for n, e in embed.items()}
        return replace(self, hidden=hidden)

    def keys_values(
        self, name: str, layer: int, project: Callable[[Tensor], KeyValues]
    ) -> KeyValues:
        """Keys and values [B, K, L, H, D] of one branch in one layer, as `project` makes them of what is
        embedded.
        """
        return self._keep((name, layer), lambda: project(self.hidden[name]))

    def _keep(self, key: Any, make: Callable[[], Any]) -> Any:
        # All passes over a stream's chunk read the same text: it is projected in the first one. Not where a
        # gradient has to find its way back, and not for whole clips: all layers of both branches would keep
        # half a gigabyte for every chunk at the paper's scale.
        if torch.is_grad_enabled() or self.states.shape[1] > 1:
            return make()
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


class UMT5Text:
    """A frozen UMT5 encoder with its tokenizer. Copies of a model share it; it keeps the last few texts."""

    def __init__(self, encoder: Any, tokenizer: Any, length: int = 512) -> None:
        """encoder: transformers' UMT5EncoderModel; tokenizer: its PreTrainedTokenizerFast; length: L."""
        self.encoder, self.tokenizer = encoder.eval().requires_grad_(False), tokenizer
        self.caption_tokens = length // CAPTION_SHARE
        self.word_tokens = length - self.caption_tokens - 1
        self._texts: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    @staticmethod
    def load(
        folder: str | Path,
        length: int = 512,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> UMT5Text:
        """Read `text_encoder` and `tokenizer` of a folder in diffusers' layout.

        Raises ValueError where they are missing or transformers is not installed.
        """
        # transformers imports torchaudio, which not every machine can load; whoever imports ours first can.
        from .. import audio  # noqa: F401

        try:
            # Of the extra [large], so not everybody's type checker finds it.
            from transformers import (  # pyright: ignore[reportMissingImports]
                AutoTokenizer,
                UMT5EncoderModel,
            )
        except ImportError as error:
            raise ValueError("UMT5 needs transformers: pip install '.[large]'.") from error
        parts = [Path(folder) / name for name in ("text_encoder", "tokenizer")]
        for part in parts:
            if not part.is_dir():
                raise ValueError(f"{part} is missing: give a folder of a pipeline of diffusers.")
        try:
            options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
            encoder: Any = UMT5EncoderModel.from_pretrained(parts[0], dtype=dtype, **options)
            tokenizer = AutoTokenizer.from_pretrained(parts[1], local_files_only=True)
        except OSError as error:
            raise ValueError(f"{folder} holds no text encoder that can be read: {error}") from error
        return UMT5Text(encoder.to(torch.device(device)), tokenizer, length)

    def to(self, device: torch.device) -> UMT5Text:
        """Move the encoder; returns self."""
        self.encoder.to(device)
        self._texts.clear()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> UMT5Text:
        return self

    def tokens(
        self, transcript: Transcript | None, caption: str, first_chunk: int, chunks: int
    ) -> TextTokens:
        """UMT5's tokens of the caption [1, Q] and of the words [1, K, P], with times relative to each chunk.

        Every token of a word has the word's time. Tokens beyond Q or P are cut.
        """
        ids = torch.zeros(1, chunks, self.word_tokens, dtype=torch.long)
        start, end = (torch.zeros(ids.shape) for _ in range(2))
        words = transcript.words if transcript else ()
        for k in range(chunks):
            origin = (first_chunk + k) * CHUNK_SECONDS
            page = _page(words, origin)
            pieces = self._split(page)[: self.word_tokens]
            for place, (token, word) in enumerate(pieces):
                ids[0, k, place] = token
                start[0, k, place], end[0, k, place] = word.start - origin, word.end - origin
        said = self._ids(caption)[: self.caption_tokens]
        padded = said + [0] * (self.caption_tokens - len(said))
        return TextTokens(ids, start, end, torch.tensor([padded]))

    def _ids(self, text: str) -> list[int]:
        text = " ".join(text.split())
        return self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    def _split(self, words: tuple[TimedWord, ...]) -> list[tuple[int, TimedWord]]:
        """The tokens of words in one text, each with its word."""
        if not words:
            return []
        text, owners = "", []
        for word in words:
            piece = (" " if text else "") + " ".join(word.word.split())
            text += piece
            owners += [word] * len(piece)
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        # A token may begin with the space before its word: its last character says whose it is.
        return [
            (token, owners[min(max(last - 1, first), len(owners) - 1)])
            for token, (first, last) in zip(
                found["input_ids"], found["offset_mapping"], strict=True
            )
        ]

    @torch.no_grad()
    def encode(self, text: TextTokens) -> WanText:
        """Encode caption and words together; a chunk reads the words from TEXT_MARGIN_SECONDS before it to as
        long after it.
        """
        rows, chunks = text.ids.shape[:2]
        device = text.ids.device
        caption = text.caption[:, None].expand(-1, chunks, -1)
        ids = torch.cat([caption, text.ids, torch.full_like(text.ids[..., :1], END_TOKEN)], -1)
        texts = [tuple(row) for row in ids.flatten(0, 1).tolist()]
        states = torch.stack([self._states(row) for row in texts]).to(device)
        states = states.unflatten(0, (rows, chunks))

        shape = caption.shape
        start = torch.cat([text.start.new_zeros(shape), text.start, text.start[..., :1] * 0], -1)
        end = torch.cat([text.end.new_zeros(shape), text.end, text.end[..., :1] * 0], -1)
        words = torch.zeros_like(ids, dtype=torch.bool)
        words[..., shape[-1] : -1] = text.ids > 0
        near = (end > -TEXT_MARGIN_SECONDS) & (start < CHUNK_SECONDS + TEXT_MARGIN_SECONDS)
        states = states * (near | ~words)[..., None]
        return WanText(states, start, end, words & near)

    def _states(self, ids: tuple[int, ...]) -> Tensor:
        """Of one text with gaps [L]: [L, text_dim], zero in the gaps."""
        if ids in self._texts:
            self._texts.move_to_end(ids)
            return self._texts[ids]
        places = [place for place, token in enumerate(ids) if token]
        device = next(self.encoder.parameters()).device
        with torch.inference_mode(False), torch.no_grad():  # training may meet it again
            tokens = torch.tensor([[ids[place] for place in places]], device=device)
            found = self.encoder(tokens, torch.ones_like(tokens)).last_hidden_state[0]
            states = found.new_zeros(len(ids), found.shape[-1])
            states[places] = found
        self._texts[ids] = states
        if len(self._texts) > KEPT_TEXTS:
            self._texts.popitem(last=False)
        return states


def _page(words: tuple[TimedWord, ...], origin: float) -> tuple[TimedWord, ...]:
    """The words that are encoded together for a chunk that begins at `origin`: from the last PAGE_WORDS-th
    before the first that it reads.
    """
    unread = sum(word.end <= origin - TEXT_MARGIN_SECONDS for word in words)
    return words[unread // PAGE_WORDS * PAGE_WORDS :]
