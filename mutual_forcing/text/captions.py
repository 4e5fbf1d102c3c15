"""The caption's closed vocabulary. Words outside it are ignored, and the app says so."""

from __future__ import annotations

import re

EMOTIONS = ("neutral", "happy", "sad", "angry", "surprised")
MOTIONS = ("calm", "lively")
CAPTION_WORDS = (
    *EMOTIONS,
    *MOTIONS,
    *("man", "woman", "child", "boy", "girl", "person", "character", "young", "old", "middle-aged"),
    *("deep", "high", "male", "female", "voice", "drawn", "cartoon", "line", "flat"),
)
MAX_CAPTION_WORDS = 8


def caption_ids(caption: str) -> list[int]:
    """Return ids (index into CAPTION_WORDS plus one) of the known words, at most 8, zero-padded."""
    known = {word: index + 1 for index, word in enumerate(CAPTION_WORDS)}
    words = re.findall(r"[a-z][a-z-]*", caption.lower())
    ids = [known[word] for word in dict.fromkeys(words) if word in known][:MAX_CAPTION_WORDS]
    return ids + [0] * (MAX_CAPTION_WORDS - len(ids))
