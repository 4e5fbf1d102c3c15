"""Speech alone, by natural voices in two languages: python -m training.data.speech --hours 8 --out DIR.

For the audio codec, the duration predictor and the audio branch, which need no pictures. A unit of work is a
voice that says a few texts; voice number n depends on (seed, n) alone, so the same command goes on where it
stopped. It makes a corpus like any other (dataset.Corpus), whose clips are FLAC files of 24 kHz.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

from mutual_forcing.chunks import CHUNK_SECONDS, FRAMES_PER_CHUNK
from mutual_forcing.text.inventory import Language

from ..atomic import written_whole
from . import kokoro
from .japanese_sentences import JapaneseSentenceMaker
from .sentences import SentenceMaker, Split
from .synthesize import process_pool, to_end, write_manifest
from .voices import HELDOUT, Voice, say

TEXTS_PER_VOICE = 4
SECONDS_PER_TEXT = 6.2
"""Average length; with it the number of voices follows from the hours."""
MAX_SECONDS = 15.0
JAPANESE_SHARE = 0.25
_PEOPLE = {
    ("female", False): "woman", ("male", False): "man", ("female", True): "girl", ("male", True): "boy",
}  # fmt: skip


@dataclass(frozen=True)
class SpeechOptions:
    """What decides the content. Raises ValueError for values that make no sense."""

    hours: float
    seed: int

    def __post_init__(self) -> None:
        if self.hours <= 0:
            raise ValueError("The speech must last longer than 0 hours.")
        if self.seed < 0:
            raise ValueError("The seed must not be negative.")

    @property
    def voices(self) -> int:
        """Number of voices, not all different."""
        return max(25, round(self.hours * 3600 / SECONDS_PER_TEXT / TEXTS_PER_VOICE))

    def split(self, number: int) -> Split:
        """Of 25 voices one is for development and one for tests."""
        names: dict[int, Split] = {11: "development", 23: "test"}
        return names.get(number % 25, "train")


def make_voice(options: SpeechOptions, number: int, out: Path) -> None:
    """All that one voice says, and its part of the manifest; what is done is left alone."""
    part = out / "parts" / f"{number:06d}.json"
    if part.exists():
        return
    rng = np.random.default_rng([options.seed, number])
    split = options.split(number)
    language: Language = "ja" if rng.random() < JAPANESE_SHARE else "en"
    voice = draw_voice(language, split, rng)
    folder = Path("clips") / f"{number // 64:05d}"
    (out / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(TEXTS_PER_VOICE * number, TEXTS_PER_VOICE * (number + 1)):
        row, audio = _clip(options, language, split, voice, rng)
        path = folder / f"{index:06d}.flac"
        with written_whole(out / path) as partial:
            soundfile.write(partial, audio, kokoro.RATE, format="FLAC")
        # Two voices of one style are two voices: the pitch of children differs.
        rows.append(
            {"index": index, "path": path.as_posix(), "identity": f"voice-{number:05d}", **row}
        )
    with written_whole(part) as partial:
        partial.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def draw_voice(language: Language, split: Split, rng: np.random.Generator) -> Voice:
    """A style, the average of two, or one of them as a child's."""
    known = kokoro.JAPANESE if language == "ja" else kokoro.ENGLISH
    if split == "train":
        pool = [name for name in known if name not in HELDOUT]
    else:
        own = [name for name, only in HELDOUT.items() if only == split]
        pool = [name for name in own if (name[0] == "j") == (language == "ja")]
    style = str(rng.choice(pool))
    blends = [name for name in pool if name != style and name[1] == style[1]]
    if split == "train" and blends and rng.random() < 0.5:
        style = "+".join(sorted((style, str(rng.choice(blends)))))
    sex = "female" if style[1] == "f" else "male"
    child = rng.random() < 0.1
    shift = float(rng.uniform(1.08, 1.18)) if child else 1.0
    return Voice(f"kokoro:{style}", shift, sex, "child" if child else "adult", split)


def _clip(
    options: SpeechOptions, language: Language, split: Split, voice: Voice, rng: np.random.Generator
) -> tuple[dict[str, Any], np.ndarray]:
    """A row of the manifest and its sound: one to three sentences, as many whole chunks."""
    maker = _maker(options.seed, language)
    for _ in range(20):
        count = int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))
        gap = " " if language == "en" else ""
        text = gap.join(maker.sentence(rng, split) for _ in range(count))
        speech = say(text, voice, rng, kokoro.RATE, language)
        if len(speech.audio) <= MAX_SECONDS * kokoro.RATE:
            break
    else:
        raise RuntimeError(f"No {split} text in 20 is shorter than {MAX_SECONDS} s.")
    per_chunk = round(CHUNK_SECONDS * kokoro.RATE)
    chunks = -(-len(speech.audio) // per_chunk)
    audio = np.pad(speech.audio, (0, chunks * per_chunk - len(speech.audio)))
    seconds = chunks * CHUNK_SECONDS
    person = _PEOPLE[voice.sex, voice.age == "child"]
    row = {
        "split": split,
        "language": language,
        "seconds": round(seconds, 3),
        "frames": chunks * FRAMES_PER_CHUNK,
        "seed": options.seed,
        "style": "",
        "voice": voice.source.removeprefix("kokoro:") + ("_child" if voice.age == "child" else ""),
        "caption": f"{person}, {voice.sex} voice",
        "text": text,
        "words": [[w.word, round(w.start, 4), round(w.end, 4)] for w in speech.words],
        "phonemes": [
            [p.phoneme, round(p.start, 4), round(p.end, 4)]
            for p in to_end(speech.phonemes, seconds)
        ],
    }
    return row, audio


@functools.cache
def _maker(seed: int, language: Language) -> SentenceMaker | JapaneseSentenceMaker:
    return JapaneseSentenceMaker(seed) if language == "ja" else SentenceMaker(seed)


def _work(job: tuple[SpeechOptions, int, Path]) -> None:
    make_voice(*job)


def make_speech(options: SpeechOptions, out: Path, workers: int) -> None:
    """Make or finish a corpus of speech. Raises ValueError if `out` holds another one."""
    if workers < 1:
        raise ValueError("At least one worker is needed.")
    (out / "parts").mkdir(parents=True, exist_ok=True)
    path = out / "speech.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8"))["seed"] != options.seed:
        raise ValueError(f"{out} holds speech of another seed; choose another folder.")
    path.write_text(json.dumps(asdict(options)), encoding="utf-8")
    todo = [n for n in range(options.voices) if not (out / "parts" / f"{n:06d}.json").exists()]
    bar = tqdm(
        total=options.voices, initial=options.voices - len(todo), desc="speech", unit="voice"
    )
    try:
        with process_pool(workers) as pool, bar:
            done = pool.imap_unordered(_work, [(options, number, out) for number in todo])
            for count, _ in enumerate(done, start=1):
                bar.update()
                if count % 25 == 0:
                    write_manifest(out)
    finally:
        write_manifest(out)


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.data.speech", description=__doc__)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()

    from ..command import run  # with all of training, which the workers do without

    def make() -> None:
        make_speech(SpeechOptions(given.hours, given.seed), given.out, given.workers)

    return run(make)


if __name__ == "__main__":
    sys.exit(main())
