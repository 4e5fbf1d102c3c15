"""Held-out evaluation: python -m training.evaluate --checkpoint tiny --corpus DIR --out DIR.

For held-out identities saying held-out sentences: word error rate, mouth correlation, identity and speed of
the truth, of the autoencoders, and of every mode, beside the same weights before Mutual Forcing when
--before names them. Rows are kept per clip, so it resumes; a row is made again when the weights, the seed
or the judges changed. The table is written anew after each system.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.chunks import FRAMES_PER_CHUNK
from mutual_forcing.config import FPS, SAMPLE_RATE

from .data.dataset import Clip, Corpus
from .metrics import drift, identity, mouth, report, words

Material = tuple[np.ndarray, np.ndarray, float]
"""Frames uint8 [T, S, S, 3], audio float [N], seconds it took."""


@dataclass(frozen=True)
class System:
    """Something that is measured: a name, how to make a clip, its network evaluations per chunk.

    made_by: what a kept row must have been made by to be used again. clips: which ones are made.
    """

    name: str
    make: Callable[[Clip], Material]
    nfe: int
    made_by: str
    clips: tuple[Clip, ...]


def evenly(items: list[Clip], count: int) -> tuple[Clip, ...]:
    """`count` of `items` (or all), spread evenly."""
    picks = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return tuple(items[pick] for pick in picks)


def reference_picture(corpus: Corpus, clip: Clip) -> np.ndarray:
    """The first frame of the next sibling."""
    return _sibling(corpus, clip).read_frames(0, 1)[0]


def _sibling(corpus: Corpus, clip: Clip) -> Clip:
    group = corpus.siblings[clip.identity]
    return group[(group.index(clip) + 1) % len(group)]


def request_for(corpus: Corpus, clip: Clip, steps: int, seed: int) -> GenerationRequest:
    """Ask for the clip's sentence with its own timing, by a sibling's picture and voice."""
    return GenerationRequest(
        image=reference_picture(corpus, clip),
        transcript=clip.transcript,
        caption=clip.row["caption"],
        voice=_sibling(corpus, clip).read_audio(),
        steps=steps,
        seed=seed + clip.index,
        seconds=clip.row["seconds"],
    )


def truth(clip: Clip) -> Material:
    """The clip itself."""
    return clip.read_frames(0, clip.frames), clip.read_audio(), 0.0


def still(corpus: Corpus, clip: Clip) -> Material:
    """The reference held still, in silence: what a figure must not reward."""
    frames = reference_picture(corpus, clip)[None].repeat(clip.frames, 0)
    return frames, np.zeros(clip.frames * SAMPLE_RATE // FPS, np.float32), 0.0


def reconstruction(generator: StreamingGenerator, corpus: Corpus, clip: Clip) -> Material:
    """Both autoencoders: the ceiling of every mode."""
    system = generator.system
    with torch.inference_mode():
        pixels = torch.from_numpy(clip.read_frames(0, clip.frames)).permute(3, 0, 1, 2)[None]
        picture = torch.from_numpy(reference_picture(corpus, clip)).permute(2, 0, 1)[None]
        video = system.video_autoencoder
        reference = video.encode_reference(picture.float() / 127.5 - 1)
        state, frames = None, []
        for part in (pixels.float() / 127.5 - 1).split(FRAMES_PER_CHUNK, 2):
            decoded, state = video.decode(video.encode(part), reference, state)
            scaled = ((decoded[0].clamp(-1, 1) + 1) * 127.5).round().byte()
            frames.append(scaled.permute(1, 2, 3, 0).numpy())
        audio = system.audio_autoencoder
        heard, _ = audio.decode(audio.encode(torch.from_numpy(clip.read_audio())[None]))
    return np.concatenate(frames), heard[0].clamp(-1, 1).numpy(), 0.0


def generation(
    generator: StreamingGenerator, corpus: Corpus, steps: int, seed: int
) -> Callable[[Clip], Material]:
    """One mode of one checkpoint."""

    def make(clip: Clip) -> Material:
        request = request_for(corpus, clip, steps, seed)
        began = time.perf_counter()
        chunks = list(generator.stream(request))
        seconds = time.perf_counter() - began
        frames = np.concatenate([c.frames for c in chunks])
        return frames, np.concatenate([c.audio for c in chunks]), seconds

    return make


class Judge:
    """Measures material against what was asked for."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus, self.reader = corpus, mouth.load_reader()
        self.seen = {w for c in corpus.split("train") for w in words.normalise(c.row["text"])}
        firsts = {clip.identity: clip for clip in reversed(corpus.split("heldout"))}
        self.pictures = {name: clip.read_frames(0, 1) for name, clip in firsts.items()}

    def measure(self, clip: Clip, material: Material) -> dict[str, Any]:
        """The row of one clip."""
        frames, audio, seconds = material
        wanted = np.asarray(clip.row["viseme_openness"])
        correlation, lag, best = mouth.sync(mouth.read_openness(self.reader, frames), wanted)
        return {
            "index": clip.index,
            **self._words(clip, audio),
            "mouth": correlation,
            "lag": lag,
            "mouth_best": best,
            **self._identity(clip, frames),
            **drift.describe(frames, audio),
            "real_time": len(frames) / FPS / seconds if seconds else None,
        }

    def _words(self, clip: Clip, audio: np.ndarray) -> dict[str, Any]:
        heard = words.transcribe(audio)
        asked, got = words.normalise(clip.row["text"]), words.normalise(heard)
        unseen = [
            found
            for word, found in zip(asked, words.recognised(asked, got), strict=True)
            if word not in self.seen
        ]
        return {
            "errors": words.edit_distance(asked, got),
            "words": len(asked),
            "unseen": len(unseen),
            "unseen_missed": unseen.count(False),
            "heard": heard,
        }

    def _identity(self, clip: Clip, frames: np.ndarray) -> dict[str, float]:
        """Whether the reference that the clip was made from is the nearest of all identities'."""
        pictures = {**self.pictures, clip.identity: reference_picture(self.corpus, clip)[None]}
        figures = {}
        views = {"identity": lambda part: part, "identity_face": identity.middle}
        for name, view in views.items():
            own = identity.signature(view(frames))
            scores = {
                who: identity.similarity(own, identity.signature(view(picture)))
                for who, picture in pictures.items()
            }
            figures[name] = float(max(scores, key=lambda who: scores[who]) == clip.identity)
        return figures


def evaluate(systems: list[System], judge: Judge, out: Path, notes: str = "") -> str:
    """Measure every system on its clips; write results.json and results.md; return the Markdown.

    Rows in `out` that were made by the same system are not made again.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    written = ""
    for system in systems:
        path = out / f"{system.name.replace(' ', '_')}.jsonl"
        rows[system.name] = list(_rows(system, judge, path))
        written = _write(systems[: len(rows)], rows, out, notes)
    return written


def _write(
    systems: list[System], rows: dict[str, list[dict[str, Any]]], out: Path, notes: str
) -> str:
    figures = {s.name: {"nfe_per_chunk": s.nfe, **report.summarise(rows[s.name])} for s in systems}
    pairs = {
        f"{name} minus {other}": report.compare(rows[name], rows[other])
        for name, other in ((name, f"{name} before") for name in rows)
        if other in rows
    }
    values = {"systems": figures, "differences": pairs, "notes": notes}
    text = json.dumps(values, indent=1) + "\n"
    (out / "results.json").write_text(text, encoding="utf-8")
    written = report.table(figures) + report.comparisons(pairs) + f"\n{notes}\n"
    (out / "results.md").write_text(written, encoding="utf-8")
    return written


def _rows(system: System, judge: Judge, path: Path) -> Iterator[dict[str, Any]]:
    done = _kept(path, system.made_by)
    with path.open("a", encoding="utf-8") as file:
        for clip in tqdm(system.clips, desc=system.name):
            if clip.index not in done:
                row = {**judge.measure(clip, system.make(clip)), "made_by": system.made_by}
                file.write(json.dumps(row) + "\n")
                file.flush()
                done[clip.index] = row
            yield done[clip.index]


def _kept(path: Path, made_by: str) -> dict[int, dict[str, Any]]:
    """Rows by clip that were made by this system; what an interruption cut off is dropped."""
    rows, text = [], path.read_text(encoding="utf-8") if path.exists() else ""
    for line in text.splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    rows = [row for row in rows if row.get("made_by") == made_by]
    if text:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {row["index"]: row for row in rows}


def _judges(corpus: Corpus) -> str:
    """What the figures depend on besides the system: corpus and mouth reader."""
    manifest = (corpus.clips[0].root / "manifest.jsonl").read_bytes()
    return hashlib.sha256(manifest + mouth.WEIGHTS.read_bytes()).hexdigest()[:8]


def build_systems(options: argparse.Namespace, corpus: Corpus) -> list[System]:
    """The rows of the table, in order."""
    pool = [clip for clip in corpus.split("heldout") if len(corpus.siblings[clip.identity]) > 1]
    if not pool:
        raise ValueError("No held-out identity of the corpus has a second clip as its reference.")
    clips = evenly(pool, options.clips)
    few = evenly(list(clips), options.multi_clips or len(clips))
    judges = _judges(corpus)
    generator = StreamingGenerator.from_pretrained(options.checkpoint, device="cpu")
    digest = generator.system.digest

    def rebuilt(clip: Clip) -> Material:
        return reconstruction(generator, corpus, clip)

    systems = [
        System("ground truth", truth, 0, judges, clips),
        System("still reference", lambda clip: still(corpus, clip), 0, judges, clips),
        System("autoencoders", rebuilt, 0, f"{judges} {digest}", clips),
    ]
    sources = {"": generator}
    if options.before:
        sources[" before"] = StreamingGenerator.from_pretrained(options.before, device="cpu")
    for steps in map(int, options.steps.split(",")):
        for suffix, source in sources.items():
            plan = source.plan(request_for(corpus, clips[0], steps, 0))
            made_by = f"{judges} {source.system.digest} seed {options.seed}"
            make = generation(source, corpus, steps, options.seed)
            chosen = few if plan.mode == "multi" else clips
            name = f"{plan.mode} {steps}{suffix}"
            systems.append(System(name, make, plan.nfe_per_chunk, made_by, chosen))
    return systems


def describe_run(systems: list[System], judge: Judge, seed: int) -> str:
    """What a reader of the table has to know."""
    count, heldout = len(systems[0].clips), len(judge.pictures)
    fewer = [f"{s.name} only {len(s.clips)}" for s in systems if len(s.clips) < count]
    parts = [
        f"{count} held-out clips ({heldout} held-out identities; every sentence has words that never "
        f"occur in training), seed {seed}.",
        f"Fewer clips, spread evenly: {', '.join(fewer)}." if fewer else "",
        "WER by pocketsphinx without a grammar, over all words, 95 % intervals over clips.",
        "Lag: median of the best within 5 frames, positive when the lips are late.",
        f"Identity: how often the reference is the nearest of {heldout} (chance {1 / heldout:.2f}), "
        "whole picture and middle half. It says that the picture kept its identity, not that it was "
        "made well: the still reference has it too, and the decoder is shown the reference.",
        f"x real time: median over clips, decoding included, muxing not, {torch.get_num_threads()} "
        f"threads, load {os.getloadavg()[0]:.1f} at the start.",
    ]
    return " ".join(filter(None, parts))


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--before", help="a checkpoint to compare with, same seeds")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--multi-clips", type=int, help="clips for Multi mode; default: all")
    parser.add_argument("--steps", default="4,8,50", help="up to 8 is Few mode, above Multi mode")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        corpus = Corpus(options.corpus)
        systems = build_systems(options, corpus)
        judge = Judge(corpus)
        notes = describe_run(systems, judge, options.seed)
        sys.stdout.write(evaluate(systems, judge, options.out, notes))
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; run the same command again to go on.\n")
        return 130
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
