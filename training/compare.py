"""Every method on one model, one corpus and one budget: python -m training.compare --run DIR.

Each recipe starts from the run's joint model and trains the same number of steps in a process of its own,
so that time and peak memory per step are its own; then all are evaluated with the same seeds. With
--checkpoint NAME the run begins as that checkpoint, and corpus and latents are made if it has none, so that
a clean clone needs this one command: python -m training.compare --checkpoint tiny --run runs/compare.
Resumable: run the same command again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .adopt import adopt
from .command import INTERRUPTED, run
from .data.dataset import Corpus
from .evaluation.results import ENDS
from .export import commit, export
from .metrics import report
from .recipes import BASELINES, SCALES, STAGES, recipe
from .reproduce import parts
from .stages import Workspace, pick_device

log = logging.getLogger(__name__)
METHODS = (*BASELINES, "mutual_forcing")
NOT_STREAMING = ("bidirectional",)
"""Trained because another method needs them, but they cannot stream and are not evaluated."""
CORPUS_SEED = 0
"""That of training.reproduce: what is held out from a checkpoint is held out here."""
MADE = ("corpus", "encode_audio", "encode_video")
"""Parts of training.reproduce that a run begun from a checkpoint still needs."""
Rows = dict[str, dict[str, Any]]
"""Cost, systems and streams by label: a method, and its seed where there are several."""


@dataclass(frozen=True)
class Comparison:
    """Where it happens, how long every method trains, and how it is evaluated.

    sampling: step counts as for training.evaluate. seed: of the evaluation. seeds: of the training; every
    method is trained with each. long_seconds: of one long stream for each method, 0 for none.
    """

    base: Workspace
    folder: Path
    steps: int
    methods: tuple[str, ...]
    clips: int
    sampling: str
    seed: int
    seeds: tuple[int, ...] = (0,)
    long_seconds: float = 0.0


def begin(
    base: Workspace, checkpoint: str | None, corpus: Path | None, hours: float | None
) -> None:
    """Make what the comparison starts from and the run does not have yet.

    checkpoint: adopted as the joint model. corpus: used instead of one made here. hours: of the one made
    here, if not the preset's. Raises ValueError if there is nothing to start from, or something else.
    """
    if checkpoint:
        adopt(checkpoint, base, again=True)
    if not base.done("joint"):
        raise ValueError(
            f"Stage joint has not finished in {base.root}: train it first, or name a --checkpoint."
        )
    if corpus:
        _take_corpus(base, corpus)
    every = {part.name: part for part in parts(base, CORPUS_SEED, base.root, hours)}
    for name in MADE[1:] if corpus else MADE:
        if not every[name].done():
            log.info("%s is missing in %s and is made now", name, base.root)
            every[name].run()


def _take_corpus(base: Workspace, corpus: Path) -> None:
    """Let the run's corpus be this one. Raises ValueError if it has another already, or this is none."""
    Corpus(corpus)
    mine = base.corpus_folder
    if mine.exists() and mine.resolve() != corpus.resolve():
        raise ValueError(
            f"{base.root} has a corpus already: leave --corpus out, or use a new --run."
        )
    if not mine.exists():
        mine.symlink_to(corpus.resolve())


def prepare(comparison: Comparison, seed: int) -> Workspace:
    """A workspace for one seed of training that shares everything up to the joint model with the base run."""
    base, folder = comparison.base, comparison.folder / f"seed-{seed}"
    (folder / "stages").mkdir(parents=True, exist_ok=True)
    shared = [name for name in STAGES[: STAGES.index("joint") + 1] if base.done(name)]
    links = {folder / "stages" / name: base.stage_folder(name) for name in shared}
    links |= {folder / "corpus": base.corpus_folder, folder / "latents": base.latents_folder}
    for link, target in links.items():
        if not link.is_symlink():
            link.symlink_to(target.resolve())
    return Workspace(folder, base.scale, base.device)


def with_needed(methods: Sequence[str], scale: str) -> tuple[str, ...]:
    """The methods, each after those that it starts from."""
    found: dict[str, None] = {}
    for name in methods:
        needed = [earlier for earlier in recipe(name, scale).init if earlier in METHODS]
        found |= dict.fromkeys([*needed, name])
    return tuple(found)


def train(comparison: Comparison, workspace: Workspace, name: str, seed: int) -> None:
    """Train one method for the budget; a finished one is left alone."""
    if workspace.done(name):
        done = workspace.record(name)["recipe"]["steps"]
        if done != comparison.steps:
            raise ValueError(f"{name} has {done} steps in {comparison.folder}: use a new folder.")
        return
    _run(
        "training.train", name, run=workspace.root, preset=workspace.scale,
        steps=comparison.steps, seed=seed, device=workspace.device,
    )  # fmt: skip


def judge(comparison: Comparison, workspace: Workspace, name: str) -> dict[str, Any]:
    """Evaluate the checkpoint of one stage: systems and streams as training.evaluate has them."""
    checkpoint, out = workspace.root / "checkpoints" / name, workspace.root / "eval" / name
    export(workspace, checkpoint, name)
    _run(
        "training.evaluate", checkpoint=checkpoint, corpus=workspace.corpus_folder, out=out,
        clips=comparison.clips, steps=comparison.sampling, seed=comparison.seed,
        **{"long-seconds": comparison.long_seconds},
    )  # fmt: skip
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return {name: found[name] for name in ("systems", "streams")}


def _run(module: str, *arguments: str, **options: object) -> None:
    """Run `python -m module arguments --option value ...`; raises ValueError if it fails.

    Ctrl-C reaches it as well; it is given the time to save what it has.
    """
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", module, *arguments, *given]
    # stdout is the comparison's own
    with subprocess.Popen(command, stdout=sys.stderr) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        raise ValueError(f"{module} {' '.join(arguments)} failed; its message is above.")


def compare(comparison: Comparison) -> str:
    """Train and evaluate every method; write comparison.json and comparison.md; return the Markdown."""
    workspaces = {seed: prepare(comparison, seed) for seed in comparison.seeds}
    first = comparison.seeds[0]
    rows: Rows = {"joint": {"cost": None, **judge(comparison, workspaces[first], "joint")}}
    jobs = [(name, seed) for seed in comparison.seeds for name in comparison.methods]
    began, made = time.monotonic(), 0
    for number, (name, seed) in enumerate(jobs):
        workspace, label = workspaces[seed], name if seed == first else f"{name}, seed {seed}"
        minutes = (time.monotonic() - began) / 60 / max(1, made) * (len(jobs) - number)
        left = f", about {minutes:.0f} min left" if made else ""
        log.info("[%d/%d] %s%s", number + 1, len(jobs), label, left)
        made += not workspace.done(name)
        train(comparison, workspace, name, seed)
        record = workspace.record(name)
        cost = {key: record[key] for key in ("seconds_per_step", "peak_memory_gb")}
        streams = name not in NOT_STREAMING
        found = judge(comparison, workspace, name) if streams else {"systems": {}, "streams": {}}
        rows[label] = {"cost": cost, **found}
        write(rows, comparison)
    return write(rows, comparison)


def write(rows: Rows, comparison: Comparison) -> str:
    """Write comparison.json and comparison.md with what there is so far; return the Markdown."""
    text = table(rows) + spread(rows, comparison) + long_table(rows) + notes(rows, comparison)
    dumped = json.dumps(rows, indent=1) + "\n"
    comparison.folder.joinpath("comparison.json").write_text(dumped, encoding="utf-8")
    comparison.folder.joinpath("comparison.md").write_text(text, encoding="utf-8")
    return text


def table(rows: Rows) -> str:
    """Markdown: one row per method and sampling, each with the method's cost of training."""
    flat: dict[str, Any] = {}
    for name, row in rows.items():
        for sampling, figures in (_modes(row) or {"does not stream": {}}).items():
            flat[f"{name}, {sampling}"] = {**figures, **(row["cost"] or {})}

    def interval(key: str) -> Callable[[dict[str, Any]], str]:
        return lambda r: report.written(r[key]) if key in r else ""

    def number(key: str) -> Callable[[dict[str, Any]], str]:
        return lambda r: f"{r[key]:.2f}" if key in r else ""

    columns = {
        "s a step": number("seconds_per_step"),
        "peak GB": number("peak_memory_gb"),
        "WER": interval("wer"),
        "WER, closed": interval("wer_closed"),
        "mouth correlation": interval("mouth"),
        "sync pair": interval("sync"),
        "similarity, face": number("similarity"),
        "motion": number("motion"),
        "border over inner motion": number("jump"),
    }
    return report.markdown(flat, columns, "method, sampling")


def _modes(row: dict[str, Any]) -> dict[str, Any]:
    """What the method generated, without the truth and the ceilings."""
    return {k: v for k, v in row["systems"].items() if k.startswith(("few", "multi"))}


def spread(rows: Rows, comparison: Comparison) -> str:
    """Markdown: mean, lowest and highest of each method over the seeds; nothing for one seed."""
    if len(comparison.seeds) < 2:
        return ""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for label, row in rows.items():
        for sampling, figures in _modes(row).items():
            for key in ("wer", "mouth", "sync"):
                found[f"{label.split(', seed ')[0]}, {sampling}"][key].append(figures[key][0])
    several = {name: f for name, f in found.items() if len(f["wer"]) > 1}
    names = {"wer": "WER", "mouth": "mouth correlation", "sync": "sync pair"}

    def cell(key: str) -> Callable[[dict[str, list[float]]], str]:
        return lambda f: report.written((float(np.mean(f[key])), min(f[key]), max(f[key])))

    columns = {"seeds": lambda f: str(len(f["wer"]))} | {names[k]: cell(k) for k in names}
    title = "\nOver seeds of training, mean (lowest to highest):\n"
    return title + report.markdown(several, columns, "method, sampling", "\n")


def long_table(rows: Rows) -> str:
    """Markdown: the first and the last 10 s of every method's long stream; nothing where there is none."""
    flat: dict[str, Any] = {}
    for label, row in rows.items():
        for mode, stretches in row["streams"].items():
            name = mode if mode == "ground truth" else f"{label}, {mode}"
            if all(part in stretches for part in ENDS):
                flat[name] = [stretches[part] for part in ENDS]
    if not flat:
        return ""

    def cell(key: str) -> Callable[[list[dict[str, Any]]], str]:
        return lambda both: " to ".join("" if r[key] is None else f"{r[key]:.2f}" for r in both)

    columns = {
        "mouth correlation": cell("mouth"),
        "WER": cell("wer"),
        "similarity, face": cell("similarity"),
        "sharpness": cell("sharpness"),
        "motion": cell("motion"),
        "loudness": cell("loudness"),
    }
    title = "\nLong streams, first 10 s to last 10 s:\n"
    return title + report.markdown(flat, columns, "method, sampling", "\n")


def notes(rows: Rows, comparison: Comparison) -> str:
    """What a reader of the tables has to know."""
    base = comparison.base
    start = base.record("joint")
    origin = f", adopted from {start['adopted']}" if "adopted" in start else ""
    costs = [row["cost"]["seconds_per_step"] for row in rows.values() if row["cost"]]
    hours = sum(costs) * comparison.steps / 3600
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, {base.device}, torch {torch.__version__}"
    )
    return (
        f"\n{comparison.steps} steps each from the same joint model{origin}; {comparison.clips} held-out "
        f"clips, seed {comparison.seed}; 95 % intervals over clips. Seeds of training: "
        f"{', '.join(map(str, comparison.seeds))}. self_forcing also needs the bidirectional teacher, whose "
        "cost is its own row. Peak memory: of the whole training process on a CPU, of its tensors on CUDA. "
        f"Commit {commit()}; {machine}; {hours:.2f} hours of training steps.\n"
    )


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--run", type=Path, required=True, help="folder of the run; its joint stage is the start"
    )
    parser.add_argument(
        "--checkpoint", help="begin the run as this one: embedded name, folder, Hub id"
    )
    parser.add_argument(
        "--corpus", type=Path, help="use this corpus; default: RUN/corpus, made if missing"
    )
    parser.add_argument(
        "--hours", type=float, help="of a corpus that is made; default: the preset's"
    )
    parser.add_argument("--preset", choices=sorted(SCALES), default="tiny")
    parser.add_argument("--out", type=Path, help="default: RUN/compare")
    parser.add_argument("--steps", type=int, help="default: those of the recipe mutual_forcing")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--sampling", default="4,8", help="step counts, as for training.evaluate")
    parser.add_argument(
        "--long-seconds", type=float, default=30.0, help="of long streams, 0 for none"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the evaluation")
    parser.add_argument("--seeds", default="0", help="of the training, such as 0,1,2")
    parser.add_argument("--device", help="cpu or cuda; default: cuda when present")
    options = parser.parse_args()
    return run(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> None:
    methods = tuple(options.methods.split(","))
    if unknown := set(methods) - set(METHODS):
        raise ValueError(f"Unknown methods: {', '.join(sorted(unknown))}.")
    seeds = options.seeds.split(",")
    if not all(seed.isdecimal() for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError("The seeds of training must be different whole numbers, such as 0,1,2.")
    base = Workspace(options.run, options.preset, pick_device(options.device))
    comparison = Comparison(
        base=base,
        folder=options.out or options.run / "compare",
        steps=options.steps or SCALES[options.preset].steps["mutual_forcing"],
        methods=with_needed(methods, options.preset),
        clips=options.clips,
        sampling=options.sampling,
        seed=options.seed,
        seeds=tuple(map(int, seeds)),
        long_seconds=options.long_seconds,
    )
    begin(base, options.checkpoint, options.corpus, options.hours)
    sys.stdout.write(compare(comparison))


if __name__ == "__main__":
    sys.exit(main())
