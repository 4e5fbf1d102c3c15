"""From nothing to a served checkpoint: python -m training.reproduce --preset tiny --run DIR.

Corpus, autoencoders, latents, every stage of the transformer in order, export. Everything is resumable:
run the same command again after an interruption.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mutual_forcing.checkpoint import PRETRAINED

from .command import run
from .data.synthesize import CorpusOptions, synthesize
from .export import export
from .recipes import SCALES, STAGES
from .stages import Workspace, pick_device

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """One part of the whole: what it is called, whether it is done, how to do it, its rough share."""

    name: str
    done: Callable[[], bool]
    run: Callable[[], None]
    share: float


def parts(workspace: Workspace, seed: int, out: Path, hours: float | None = None) -> list[Part]:
    """The whole run in order. Shares are fractions of the time measured for `tiny` on two cores.

    hours: of the corpus, if not the preset's.
    """
    scale = SCALES[workspace.scale]
    options = CorpusOptions(hours or scale.hours, seed, scale.size, 0.08, 3)
    corpus = workspace.corpus_folder

    def make_corpus() -> None:
        synthesize(options, corpus, os.cpu_count() or 1)

    def corpus_done() -> bool:
        path = corpus / "corpus.json"
        return path.exists() and "statistics" in json.loads(path.read_text(encoding="utf-8"))

    shares = dict(zip(STAGES, (0.27, 0.17, 0.01, 0.14, 0.06, 0.1, 0.05), strict=True))

    def stage(name: str) -> Part:
        return Part(name, lambda: workspace.done(name), lambda: workspace.train(name), shares[name])

    def encoding(branch: str) -> Part:
        name = f"encode_{branch}"
        return Part(
            name, lambda: workspace.encoded(branch), lambda: workspace.encode(branch), 0.015
        )

    before, after = STAGES[:3], STAGES[3:]
    return [
        Part("corpus", corpus_done, make_corpus, 0.17),
        *map(stage, before),
        encoding("audio"),
        encoding("video"),
        *map(stage, after),
        Part("export", lambda: False, lambda: export(workspace, out), 0.0),
    ]


def reproduce(workspace: Workspace, seed: int, out: Path) -> None:
    """Run every part that is not done, telling how much of the whole is left."""
    every = parts(workspace, seed, out)
    total = sum(part.share for part in every)
    spent = 0.0
    began, done_now = time.monotonic(), 0.0
    for number, part in enumerate(every, start=1):
        if not part.done():
            left = ""
            if done_now:
                seconds = (time.monotonic() - began) / done_now * (total - spent)
                left = f", about {seconds / 60:.0f} min left"
            log.info(
                "[%d/%d] %s (%.0f %%%s)", number, len(every), part.name, 100 * spent / total, left
            )
            part.run()
            done_now += part.share
        spent += part.share


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.reproduce", description=__doc__)
    parser.add_argument("--preset", choices=sorted(SCALES), default="tiny")
    parser.add_argument("--run", type=Path, default=None, help="default: runs/PRESET")
    parser.add_argument("--seed", type=int, default=0, help="seed of the corpus")
    parser.add_argument("--device", help="cpu or cuda; default: cuda when present")
    parser.add_argument("--out", type=Path, help=f"default: {PRETRAINED}/PRESET")
    options = parser.parse_args()
    folder = options.run or Path("runs") / options.preset
    out = options.out or PRETRAINED / options.preset
    workspace = Workspace(folder, options.preset, pick_device(options.device))
    return run(lambda: reproduce(workspace, options.seed, out))


if __name__ == "__main__":
    sys.exit(main())
