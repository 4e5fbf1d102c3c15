"""Every method on one model, one corpus and one budget: python -m training.compare --run DIR.

Each recipe starts from the run's joint model and trains the same number of steps in a process of its own,
so that time and peak memory per step are its own; then all are evaluated with the same seeds. On a CPU two
methods run at the same time. --workers sets how many, also on a GPU that one small model leaves idle; the
measured times are then those of methods that share the machine. With --checkpoint NAME the run begins as
that checkpoint, and corpus and latents are made if it has none, so that a clean clone needs this one command:
python -m training.compare --checkpoint tiny --run runs/compare. Resumable: run the same command again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mutual_forcing.metrics import report

from .command import run
from .evaluate import evaluate_as, options_of
from .evaluation.comparison_tables import Clips, Rows, differences, long_table, modes, spread, table
from .evaluation.long import OPENING_SECONDS
from .evaluation.rows import read_rows
from .export import commit, export
from .import_checkpoint import import_checkpoint, take_corpus
from .recipes import BASELINES, MULTI_MODE_METHODS, SCALES, STAGES, recipe
from .reproduce import reproduction_jobs
from .stages import ORIGIN, Workspace, pick_device
from .trainer import differences as recipe_differences
from .workers import Job, run_jobs, workers_for

log = logging.getLogger(__name__)
METHODS = (*BASELINES, "mutual_forcing")
NOT_STREAMING = ("bidirectional",)
"""Trained because another method needs them, but they cannot stream and are not evaluated."""
CORPUS_SEED = 0
"""That of training.reproduce: what is held out from a checkpoint is held out here."""
MADE = ("corpus", "encode_audio", "encode_video")
"""Jobs of training.reproduce that a run which began from a checkpoint still needs."""


@dataclass(frozen=True)
class MethodComparison:
    """Where it happens, how long every method trains, and how it is evaluated.

    sampling: step counts as for training.evaluate. seed: of the evaluation. seeds: of the training; every
    method is trained with each. long_seconds: of one long stream for each method, 0 for none; opening: of
    what it says at both ends. workers: how many processes run at the same time.
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
    opening: float = OPENING_SECONDS
    workers: int = 1


def begin(
    base: Workspace, checkpoint: str | None, corpus: Path | None, hours: float | None
) -> None:
    """Make what the comparison starts from and the run does not have yet.

    checkpoint: imported as the joint model. corpus: used instead of one made here. hours: of the one made
    here, if not the preset's. Raises ValueError if there is nothing to start from, or something else.
    """
    if checkpoint:
        import_checkpoint(checkpoint, base, again=True)
    if not base.done("joint"):
        raise ValueError(
            f"Stage joint has not finished in {base.root}: train it first, or name a --checkpoint."
        )
    if corpus:
        take_corpus(base, corpus)
    made = MADE[1:] if corpus else MADE
    jobs = reproduction_jobs(base, CORPUS_SEED, base.root, hours)
    missing = [job for job in jobs if job.name in made and not job.done()]
    for job in missing:
        log.info("%s is missing in %s and is made now", job.name, base.root)
        job.run()


def prepare(comparison: MethodComparison, seed: int) -> Workspace:
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


@dataclass(frozen=True)
class Entry:
    """One row of the comparison: a method trained with one seed, in its workspace."""

    workspace: Workspace
    name: str
    seed: int
    label: str


def entries(comparison: MethodComparison) -> list[Entry]:
    """All rows in order; the joint model that every method starts from is the first."""
    found = []
    for seed in comparison.seeds:
        workspace, first = prepare(comparison, seed), seed == comparison.seeds[0]
        for name in ("joint", *comparison.methods) if first else comparison.methods:
            label = name if first else f"{name}, seed {seed}"
            found.append(Entry(workspace, name, seed, label))
    return found


def comparison_jobs(comparison: MethodComparison) -> list[Job]:
    """All jobs: every method is trained, exported and evaluated."""
    found, rows = [], entries(comparison)
    for entry in rows:
        if entry.name != "joint":
            needed = recipe(entry.name, entry.workspace.scale).init
            after = [o.label for o in rows if o.seed == entry.seed and o.name in needed]
            after = [f"train {label}" for label in after if label != "joint"]
            found.append(_training(comparison, entry, tuple(after)))
        if entry.name not in NOT_STREAMING:
            found += _judging(comparison, entry)
    return found


def _training(comparison: MethodComparison, entry: Entry, after: tuple[str, ...]) -> Job:
    workspace, name = entry.workspace, entry.name

    def done() -> bool:
        if not workspace.done(name):
            return False
        saved = workspace.record(name)["recipe"]
        if saved["steps"] != comparison.steps:
            told = f"{name} has {saved['steps']} steps in {comparison.folder}"
            raise ValueError(f"{told}: use a new folder.")
        if other := recipe_differences(workspace.plan(name, comparison.steps, entry.seed), saved):
            told = f"{name} was trained with other {', '.join(other)} in {comparison.folder}"
            raise ValueError(f"{told}: use a new folder.")
        return True

    command = _command(
        "training.train", name, run=workspace.root, preset=workspace.scale,
        steps=comparison.steps, seed=entry.seed, device=workspace.device,
    )  # fmt: skip
    return Job(f"train {entry.label}", done, 1.0, after, command=command)


def _judging(comparison: MethodComparison, entry: Entry) -> list[Job]:
    """Export one stage and evaluate its checkpoint. Figures that were measured before are kept."""
    root, name = entry.workspace.root, entry.name
    checkpoint = root / "checkpoints" / name
    exporting = _command(
        "training.export", run=root, preset=entry.workspace.scale, stage=name, out=checkpoint
    )
    once = () if name == "joint" else ("--no-ceilings",)  # which are the same for all
    judging = _command(
        "training.evaluate", *once, checkpoint=checkpoint, corpus=entry.workspace.corpus_folder,
        out=_judged(entry), clips=comparison.clips, steps=sampling_of(name, comparison.sampling),
        seed=comparison.seed,
        **{"long-seconds": comparison.long_seconds, "opening-seconds": comparison.opening},
    )  # fmt: skip
    trained = () if name == "joint" else (f"train {entry.label}",)
    made = f"export {entry.label}"

    def make() -> None:
        # As its command does: nothing of it stays on the device that trainings need.
        export(Workspace(root, entry.workspace.scale, torch.device("cpu")), checkpoint, name)

    def judge() -> None:
        _, _, *arguments = judging
        evaluate_as(options_of(arguments))

    return [
        Job(made, lambda: False, 0.01, trained, make, exporting),
        Job(f"judge {entry.label}", lambda: False, 0.6, (made,), judge, judging),
    ]


def sampling_of(method: str, sampling: str) -> str:
    """The step counts of a method, by the sampler that it was trained for: Multi mode, guided, where no
    intervals are.
    """
    if method not in MULTI_MODE_METHODS:
        return sampling
    return ",".join(f"m{count.strip().removeprefix('m')}" for count in sampling.split(","))


def _judged(entry: Entry) -> Path:
    return entry.workspace.root / "eval" / entry.name


def _command(module: str, *arguments: str, **options: object) -> tuple[str, ...]:
    """Arguments of python: `-m module arguments --option value ...`."""
    given = [argument for name, value in options.items() for argument in (f"--{name}", str(value))]
    return ("-m", module, *arguments, *given)


def compare(comparison: MethodComparison) -> str:
    """Train and evaluate every method; write comparison.json and comparison.md; return the Markdown."""
    run_jobs(comparison_jobs(comparison), comparison.workers)
    rows = rows_of(comparison)
    apart = differences(clips_of(comparison, rows), "mutual_forcing", MULTI_MODE_METHODS)
    return write(rows, comparison, apart)


def clips_of(comparison: MethodComparison, rows: Rows) -> Clips:
    """Every clip that was generated; the joint model's under no seed of training (-1)."""
    found: Clips = {}
    for entry in entries(comparison):
        seed = -1 if entry.name == "joint" else entry.seed
        for system in modes(rows[entry.label]):
            read = read_rows(_judged(entry), system)
            found.setdefault((entry.name, system), {})[seed] = read
    return found


def rows_of(comparison: MethodComparison) -> Rows:
    """What was measured of every method."""
    rows: Rows = {}
    for entry in entries(comparison):
        row: dict[str, Any] = {"cost": None, "systems": {}, "streams": {}}
        if entry.name != "joint":
            record = entry.workspace.record(entry.name)
            row["cost"] = {n: record[n] for n in ("seconds_per_step", "peak_memory_gb")}
        if entry.name not in NOT_STREAMING:
            text = (_judged(entry) / "results.json").read_text(encoding="utf-8")
            row |= {n: json.loads(text)[n] for n in ("systems", "streams")}
        rows[entry.label] = row
    return rows


def write(rows: Rows, comparison: MethodComparison, apart: dict[str, report.Figures]) -> str:
    """Write comparison.json and comparison.md; return the Markdown. apart: paired differences."""
    seeds = spread(rows) if len(comparison.seeds) > 1 else ""
    text = table(rows) + seeds + report.comparisons(apart) + long_table(rows)
    text += notes(rows, comparison)
    dumped = json.dumps({"methods": rows, "differences": apart}, indent=1) + "\n"
    comparison.folder.joinpath("comparison.json").write_text(dumped, encoding="utf-8")
    comparison.folder.joinpath("comparison.md").write_text(text, encoding="utf-8")
    return text


def notes(rows: Rows, comparison: MethodComparison) -> str:
    """What a reader of the tables has to know."""
    base = comparison.base
    start = base.record("joint")
    origin = f", imported from {start[ORIGIN]}" if ORIGIN in start else ""
    costs = [row["cost"]["seconds_per_step"] for row in rows.values() if row["cost"]]
    hours = sum(costs) * comparison.steps / 3600
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, {base.device}, torch {torch.__version__}, "
        f"{comparison.workers} processes at the same time"
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
    parser.add_argument(
        "--sampling",
        default="4,8",
        help="step counts, as for training.evaluate; methods without intervals take them in Multi mode",
    )
    parser.add_argument(
        "--long-seconds", type=float, default=30.0, help="of long streams, 0 for none"
    )
    parser.add_argument(
        "--opening-seconds",
        type=float,
        default=OPENING_SECONDS,
        help="what a long stream says at both ends, so that these can be compared",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the evaluation")
    parser.add_argument("--seeds", default="0", help="of the training, such as 0,1,2")
    parser.add_argument("--device", help="cpu or cuda; default: cuda when present")
    parser.add_argument(
        "--workers", type=int, help="processes at the same time; default: 2 on a CPU, 1 on a GPU"
    )
    options = parser.parse_args()
    return run(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> None:
    methods = tuple(options.methods.split(","))
    if unknown := set(methods) - set(METHODS):
        raise ValueError(f"Unknown methods: {', '.join(sorted(unknown))}.")
    seeds = options.seeds.split(",")
    if not all(seed.isdecimal() for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError("The seeds of training must be different whole numbers, such as 0,1,2.")
    if options.workers is not None and options.workers < 1:
        raise ValueError("--workers must be 1 or more.")
    base = Workspace(options.run, options.preset, pick_device(options.device))
    comparison = MethodComparison(
        base=base,
        folder=options.out or options.run / "compare",
        steps=options.steps or SCALES[options.preset].steps["mutual_forcing"],
        methods=with_needed(methods, options.preset),
        clips=options.clips,
        sampling=options.sampling,
        seed=options.seed,
        seeds=tuple(map(int, seeds)),
        long_seconds=options.long_seconds,
        opening=options.opening_seconds,
        workers=options.workers or workers_for(base.device),
    )
    begin(base, options.checkpoint, options.corpus, options.hours)
    sys.stdout.write(compare(comparison))


if __name__ == "__main__":
    sys.exit(main())
