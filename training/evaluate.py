"""Held-out evaluation: python -m training.evaluate --checkpoint tiny --out DIR --suite full.

Words, lips, identity, distances, drift, diversity, controls and speed of the truth, of a static
reference, of the autoencoders, of the true motion animated, and of every mode, on held-out identities
that say held-out sentences; --before adds another checkpoint. Without --corpus it first makes a few
identities that are held out from every checkpoint that `reproduce` made with its default seed.
results.json and results.md are the same for the same seed; what depends on the clock is in timings.json and
timings.md. Rows are kept per clip, so it resumes; a row is made again when the weights, the seed or the
judges changed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mutual_forcing import StreamingGenerator

from .command import run
from .data.dataset import Corpus
from .data.sentences import HELDOUT
from .evaluation import film, long, memory, plots, results, rows
from .evaluation.heldout import heldout_corpus, split_warning
from .evaluation.judge import Judge
from .evaluation.suites import (
    SUITES,
    Suite,
    build_systems,
    control_setting,
    describe,
    pool,
)
from .evaluation.systems import Setting, encode, evenly
from .machine import peak_memory

PICTURE_SIZE = 256
"""Pixels on each side of the held-out clips that are made on the spot, and of the films compared with
them."""


def evaluate(
    suite: Suite,
    judge: Judge,
    generators: dict[str, StreamingGenerator],
    out: Path,
    seed: int = 0,
) -> str:
    """Measure everything of `suite`, writing all figures anew after each part; return the Markdown.

    generators: "" is measured, " before" (optional) compared with it.
    """
    out.mkdir(parents=True, exist_ok=True)
    systems = build_systems(suite, judge, generators, seed)
    found = results.Results(systems, describe(suite, systems, judge, seed))
    found.notes += split_warning(judge.corpus, generators[""].system.folder)
    if suite.reference:
        clips = evenly(judge.corpus.films("train"), suite.reference)
        found.reference = rows.reference_features(judge, clips)
    for system in systems:
        found.rows[system.name] = rows.measure(system, judge, out)
        results.write(found, out)
    if suite.long_seconds:
        _streams(found, suite, judge, generators[""], out, seed)
    if suite.diversity:
        setting = control_setting(suite)
        clips = evenly(list(systems[0].clips), suite.diversity)
        seeds = [seed + 1000 * number for number in range(suite.seeds)]
        spread = long.diversity(generators[""], judge.corpus, clips, setting, seeds)
        found.diversity = {"mode": setting.name, **spread}
    return _finish(found, suite, generators[""], out)


def _streams(
    found: results.Results,
    suite: Suite,
    judge: Judge,
    generator: StreamingGenerator,
    out: Path,
    seed: int,
) -> None:
    """The long streams of the suite, beside the truth of the same sentences (one of the ceilings); means over
    the characters.
    """
    scripts = long.write_scripts(pool(judge), suite.long_seconds, suite.long_streams, suite.opening)
    settings = {(s := Setting.parse(text)).name: s for text in suite.long_steps}
    for name in ("ground truth", *settings) if suite.ceilings else settings:
        streams = []
        for number, script in enumerate(tqdm(scripts, desc=f"long, {name}"), start=1):
            said = f"{script.clips[0].index} {len(script.clips)} {script.seconds:g}"
            said += f" {script.opening:g}"
            made_by = f"{judge.digest} {generator.system.digest} {seed} {said}"
            kept = long.kept_stream(out, f"{name} {number}", made_by)
            if kept is None:
                stream = _stream(name, script, settings.get(name), judge, generator, seed)
                kept = {"made_by": made_by, **stream}
                long.keep_stream(out, f"{name} {number}", kept)
            streams.append(kept)
        found.streams[name] = long.mean([stream["parts"] for stream in streams])
        if spent := long.mean([stream["timing"] for stream in streams]):
            found.stream_timings[name] = spent
        results.write(found, out)


def _stream(
    name: str,
    script: long.Script,
    setting: Setting | None,
    judge: Judge,
    generator: StreamingGenerator,
    seed: int,
) -> dict[str, Any]:
    """Figures by stretch and timing of one long stream; without a setting, of the truth."""
    if setting:
        sample = long.long_stream(generator, judge.corpus, script, setting, seed)
    else:
        sample = long.long_truth(script)
    latents, timing = encode(generator, sample), sample.timing
    return {
        "parts": long.judge_stream(name, sample, judge, latents, script),
        "timing": results.stream_timing(timing.chunks, timing.first) if timing else None,
    }


def _finish(found: results.Results, suite: Suite, generator: StreamingGenerator, out: Path) -> str:
    """Memory, the tables, the plots and the film."""
    folder = generator.system.folder
    if suite.memory and folder:
        found.memory = {Setting.parse(s).name: memory.peak_of(folder, s) for s in suite.steps}
    text = results.write(found, out)
    machine = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    timings = results.write_timings(found, out, machine, peak_memory(torch.device("cpu")))
    plots.quality(found.figures(), out / "quality.png")
    if found.streams:
        plots.drift(found.streams, out / "drift.png")
    spent = results.read_timings(out)
    if spent:
        plots.chunk_time(spent, out / "chunk_time.png")
    film.grid(rows.first_clips(found.systems, out), out / "grid.mp4")
    return f"{text}\n{timings}"


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--before", help="a checkpoint to compare with, same seeds")
    parser.add_argument(
        "--corpus",
        type=Path,
        help="default: OUT/corpus, a few held-out identities made on the spot",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--suite",
        choices=sorted(SUITES),
        default="rows",
        help="what to measure; default: rows only",
    )
    parser.add_argument("--clips", type=int, help="clips for the truth and Few mode")
    parser.add_argument("--multi-clips", type=int, help="clips for Multi mode")
    parser.add_argument("--steps", help="such as 4,8,50: up to 8 is Few mode, above or m8 is Multi")
    parser.add_argument("--long-seconds", type=float, help="length of the long streams, 0 for none")
    parser.add_argument("--long-streams", type=int, help="characters of the long streams")
    parser.add_argument(
        "--opening-seconds",
        type=float,
        help="what long streams say at both ends, so that these can be compared; default: 10",
    )
    parser.add_argument(
        "--no-ceilings", action="store_true", help="leave out what no transformer has a part in"
    )
    parser.add_argument(
        "--split",
        choices=HELDOUT,
        default="test",
        help="development for whatever is chosen by the figures; default: test",
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def suite_of(options: argparse.Namespace) -> Suite:
    """The chosen suite with what the command line changes. Raises ValueError for a wrong number."""
    suite = replace(SUITES[options.suite], ceilings=not options.no_ceilings, split=options.split)
    if options.clips is not None:
        suite = replace(suite, clips=options.clips)
    if options.multi_clips is not None:
        suite = replace(suite, multi_clips=options.multi_clips, slow_clips=options.multi_clips)
    if options.steps is not None:
        suite = replace(suite, steps=tuple(map(str.strip, options.steps.split(","))))
    if options.long_seconds is not None:
        suite = replace(suite, long_seconds=options.long_seconds)
    if options.long_streams is not None:
        suite = replace(suite, long_streams=options.long_streams)
    if options.opening_seconds is not None:
        suite = replace(suite, opening=options.opening_seconds)
    counts = (suite.clips, suite.multi_clips, suite.slow_clips, suite.long_streams)
    if min(counts) < 1 or options.seed < 0:
        raise ValueError(
            "Numbers of clips and streams must be 1 or more, and the seed must not be negative."
        )
    if suite.long_seconds and not 5 <= suite.long_seconds <= 590:
        raise ValueError("Long streams must last 5 to 590 seconds, or 0 for none.")
    if suite.opening < 1:
        raise ValueError("What long streams say at both ends must last a second or more.")
    return suite


def evaluate_as(options: argparse.Namespace) -> str:
    """What the command line asks for; returns the Markdown. Raises ValueError for what makes no sense."""
    suite = suite_of(options)
    measured = StreamingGenerator.from_pretrained(options.checkpoint, device="cpu")
    generators = {"": measured}
    if options.before:
        generators[" before"] = StreamingGenerator.from_pretrained(options.before, device="cpu")
    if options.corpus:
        corpus = Corpus(options.corpus)
    else:
        corpus = heldout_corpus(options.out / "corpus", suite.choice, PICTURE_SIZE)
    judge = Judge(corpus, suite.split)
    return evaluate(suite, judge, generators, options.out, options.seed)


def main() -> int:
    """Command line; returns the exit status."""
    options = options_of()
    return run(lambda: sys.stdout.write(evaluate_as(options)))


if __name__ == "__main__":
    sys.exit(main())
