"""Held-out evaluation: python -m training.evaluate --checkpoint tiny --corpus DIR --out DIR.

For held-out identities saying held-out sentences: word error rate, mouth correlation, identity and speed of
the truth, of the autoencoders, and of every mode. Results are kept per clip, so it resumes.
"""

from __future__ import annotations

import argparse
import json
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

from .data.dataset import Clip, Corpus
from .metrics.identity import signature, similarity
from .metrics.mouth import load_reader, read_openness, sync
from .metrics.words import edit_distance, normalise, transcribe

Material = tuple[np.ndarray, np.ndarray, float]
"""Frames uint8 [T, S, S, 3], audio float [N], seconds it took."""


@dataclass(frozen=True)
class System:
    """Something that is measured: a name, how to make a clip, and its network evaluations per chunk."""

    name: str
    make: Callable[[Clip], Material]
    nfe: int


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


def reconstruction(generator: StreamingGenerator, corpus: Corpus, clip: Clip) -> Material:
    """Both autoencoders: the ceiling of every mode."""
    system, began = generator.system, time.perf_counter()
    with torch.inference_mode():
        pixels = torch.from_numpy(clip.read_frames(0, clip.frames)).permute(3, 0, 1, 2)[None]
        picture = torch.from_numpy(reference_picture(corpus, clip)).permute(2, 0, 1)[None]
        video = system.video_autoencoder
        reference = video.encode_reference(picture.float() / 127.5 - 1)
        state, frames = None, []
        for part in (pixels.float() / 127.5 - 1).split(FRAMES_PER_CHUNK, 2):
            decoded, state = video.decode(video.encode(part), reference, state)
            frames.append(
                ((decoded[0].clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 3, 0).numpy()
            )
        audio = system.audio_autoencoder
        heard, _ = audio.decode(audio.encode(torch.from_numpy(clip.read_audio())[None]))
    return np.concatenate(frames), heard[0].numpy(), time.perf_counter() - began


def generation(
    generator: StreamingGenerator, corpus: Corpus, steps: int, seed: int
) -> Callable[[Clip], Material]:
    """One mode of one checkpoint."""

    def make(clip: Clip) -> Material:
        began = time.perf_counter()
        chunks = list(generator.stream(request_for(corpus, clip, steps, seed)))
        frames = np.concatenate([c.frames for c in chunks])
        audio = np.concatenate([c.audio for c in chunks])
        return frames, audio, time.perf_counter() - began

    return make


class Judge:
    """Measures material against what was asked for."""

    def __init__(self, corpus: Corpus, clips: list[Clip]) -> None:
        self.corpus, self.reader = corpus, load_reader()
        identities = {clip.identity: clip for clip in clips}
        self.gallery = {
            name: signature(reference_picture(corpus, clip)[None])
            for name, clip in identities.items()
        }

    def measure(self, clip: Clip, material: Material) -> dict[str, Any]:
        """The row of one clip."""
        frames, audio, seconds = material
        wanted = np.asarray(clip.row["viseme_openness"])
        correlation, lag, best = sync(read_openness(self.reader, frames), wanted)
        heard = transcribe(audio)
        words = normalise(clip.row["text"])
        scores = {n: similarity(signature(frames), s) for n, s in self.gallery.items()}
        return {
            "index": clip.index,
            "errors": edit_distance(words, normalise(heard)),
            "words": len(words),
            "heard": heard,
            "mouth": correlation,
            "lag": lag,
            "mouth_best": best,
            "identity": float(max(scores, key=lambda name: scores[name]) == clip.identity),
            "loudness": float(np.sqrt(np.mean(audio**2))),
            "motion": float(np.abs(np.diff(frames.astype(np.int16), axis=0)).mean()),
            "real_time": len(frames) / 25 / seconds if seconds else None,
        }


def evaluate(systems: list[System], judge: Judge, clips: list[Clip], out: Path) -> dict[str, Any]:
    """Measure every system on every clip and summarise; rows in `out` are not made again."""
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    for system in systems:
        rows = list(_rows(system, judge, clips, out / f"{system.name.replace(' ', '_')}.jsonl"))
        results[system.name] = {"nfe_per_chunk": system.nfe, **summarise(rows)}
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "results.md").write_text(table(results), encoding="utf-8")
    return results


def _rows(system: System, judge: Judge, clips: list[Clip], path: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    done = {row["index"]: row for row in map(json.loads, lines)}
    with path.open("a", encoding="utf-8") as file:
        for clip in tqdm(clips, desc=system.name):
            if clip.index not in done:
                done[clip.index] = judge.measure(clip, system.make(clip))
                file.write(json.dumps(done[clip.index]) + "\n")
                file.flush()
            yield done[clip.index]


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means with bootstrapped 95 % intervals; the word error rate is over all words."""
    rng = np.random.default_rng(0)
    errors, words = (np.array([row[key] for row in rows]) for key in ("errors", "words"))
    picks = rng.integers(len(rows), size=(1000, len(rows)))
    rates = errors[picks].sum(1) / words[picks].sum(1)
    mouths = np.array([row["mouth"] for row in rows])
    speeds = [row["real_time"] for row in rows if row["real_time"]]
    return {
        "clips": len(rows),
        "wer": _interval(errors.sum() / words.sum(), rates),
        "mouth": _interval(mouths.mean(), mouths[picks].mean(1)),
        "lag": float(np.median([row["lag"] for row in rows])),
        "identity": float(np.mean([row["identity"] for row in rows])),
        "loudness": float(np.mean([row["loudness"] for row in rows])),
        "motion": float(np.mean([row["motion"] for row in rows])),
        "real_time": float(np.median(speeds)) if speeds else None,
    }


def _interval(mean: float, samples: np.ndarray) -> list[float]:
    low, high = np.quantile(samples, [0.025, 0.975])
    return [round(float(value), 3) for value in (mean, low, high)]


def table(results: dict[str, Any]) -> str:
    """Markdown, one row per system."""
    columns = ("system", "clips", "NFE a chunk", "WER", "mouth correlation", "lag (frames)")
    columns += ("identity", "loudness", "motion", "x real time")
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for name, r in results.items():
        wer, mouth = (
            f"{m:.2f} ({low:.2f} to {high:.2f})" for m, low, high in (r["wer"], r["mouth"])
        )
        speed = f"{r['real_time']:.2f}" if r["real_time"] else ""
        lines.append(
            f"| {name} | {r['clips']} | {r['nfe_per_chunk'] or ''} | {wer} | {mouth} | {r['lag']:+.0f} "
            f"| {r['identity']:.2f} | {r['loudness']:.3f} | {r['motion']:.2f} | {speed} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--before", help="a checkpoint to compare with, same seeds")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--steps", default="4,8,50", help="step counts, commas between")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    corpus = Corpus(options.corpus)
    pool = corpus.split("heldout")
    clips = pool[:: max(1, len(pool) // options.clips)][: options.clips]
    generator = StreamingGenerator.from_pretrained(options.checkpoint, device="cpu")
    systems = [
        System("ground truth", truth, 0),
        System("autoencoders", lambda clip: reconstruction(generator, corpus, clip), 0),
    ]
    sources = {"": generator}
    if options.before:
        sources[" before"] = StreamingGenerator.from_pretrained(options.before, device="cpu")
    for suffix, source in sources.items():
        for steps in map(int, options.steps.split(",")):
            plan = source.plan(request_for(corpus, clips[0], steps, 0))
            make = generation(source, corpus, steps, options.seed)
            systems.append(System(f"{plan.mode} {steps}{suffix}", make, plan.nfe_per_chunk))
    results = evaluate(systems, Judge(corpus, clips), clips, options.out)
    sys.stdout.write(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
