"""Every method on one model, one corpus and one budget: python -m training.compare --run DIR.

Each recipe starts from the run's joint model and trains the same number of steps in a process of its own,
so that time and peak memory per step are its own; then all are evaluated with the same seeds. Resumable:
run the same command again.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .command import run
from .export import export
from .metrics import report
from .recipes import BASELINES, SCALES, STAGES
from .stages import Workspace, pick_device

log = logging.getLogger(__name__)
METHODS = (*BASELINES, "mutual_forcing")
NOT_STREAMING = ("bidirectional",)
"""Trained because another method needs them, but they cannot stream and are not evaluated."""


@dataclass(frozen=True)
class Comparison:
    """Where it happens, how long every method trains, and how it is evaluated.

    sampling: step counts as for training.evaluate.
    """

    base: Workspace
    folder: Path
    steps: int
    methods: tuple[str, ...]
    clips: int
    sampling: str
    seed: int


def prepare(comparison: Comparison) -> Workspace:
    """A workspace that shares everything up to the joint model with the base run."""
    base, folder = comparison.base, comparison.folder
    if not base.done("joint"):
        raise ValueError(f"Stage joint has not finished in {base.root}; train it first.")
    (folder / "stages").mkdir(parents=True, exist_ok=True)
    shared = STAGES[: STAGES.index("joint") + 1]
    links = {folder / "stages" / name: base.stage_folder(name) for name in shared}
    links |= {folder / "corpus": base.corpus_folder, folder / "latents": base.latents_folder}
    for link, target in links.items():
        if not link.exists():
            link.symlink_to(target.resolve())
    return Workspace(folder, base.scale, base.device)


def train(comparison: Comparison, workspace: Workspace, name: str) -> None:
    """Train one method for the budget; a finished one is left alone."""
    if workspace.done(name):
        done = workspace.record(name)["recipe"]["steps"]
        if done != comparison.steps:
            raise ValueError(f"{name} has {done} steps in {comparison.folder}: use a new folder.")
        return
    _run(
        "training.train", name, run=comparison.folder, preset=workspace.scale,
        steps=comparison.steps, device=workspace.device,
    )  # fmt: skip


def judge(comparison: Comparison, workspace: Workspace, name: str) -> dict[str, Any]:
    """Evaluate the checkpoint of one stage, by the figures of training.evaluate."""
    checkpoint, out = comparison.folder / "checkpoints" / name, comparison.folder / "eval" / name
    export(workspace, checkpoint, name)
    _run(
        "training.evaluate", checkpoint=checkpoint, corpus=workspace.corpus_folder, out=out,
        clips=comparison.clips, steps=comparison.sampling, seed=comparison.seed,
    )  # fmt: skip
    return json.loads((out / "results.json").read_text(encoding="utf-8"))["systems"]


def _run(module: str, *arguments: str, **options: object) -> None:
    """Run `python -m module arguments --option value ...`; raises ValueError if it fails."""
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", module, *arguments, *given]
    done = subprocess.run(command, stdout=sys.stderr, check=False)  # stdout is the comparison's own
    if done.returncode:
        raise ValueError(f"{module} {' '.join(arguments)} failed; its message is above.")


def compare(comparison: Comparison) -> str:
    """Train and evaluate every method; write comparison.json and comparison.md; return the Markdown."""
    workspace = prepare(comparison)
    rows: dict[str, Any] = {
        "joint": {"cost": None, "systems": judge(comparison, workspace, "joint")}
    }
    for number, name in enumerate(comparison.methods, start=1):
        log.info("[%d/%d] %s", number, len(comparison.methods), name)
        train(comparison, workspace, name)
        record = workspace.record(name)
        cost = {key: record[key] for key in ("seconds_per_step", "peak_memory_gb")}
        streams = name not in NOT_STREAMING
        systems = judge(comparison, workspace, name) if streams else {}
        rows[name] = {"cost": cost, "systems": systems}
    text = table(rows, comparison)
    comparison.folder.joinpath("comparison.json").write_text(json.dumps(rows, indent=1) + "\n")
    comparison.folder.joinpath("comparison.md").write_text(text, encoding="utf-8")
    return text


def table(rows: dict[str, Any], comparison: Comparison) -> str:
    """Markdown: one row per method and sampling, each with the method's cost of training."""
    flat: dict[str, Any] = {}
    for name, row in rows.items():
        made = {k: v for k, v in row["systems"].items() if k.startswith(("few", "multi"))}
        for sampling, figures in (made or {"does not stream": {}}).items():
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
    }
    notes = (
        f"\n{comparison.steps} steps each from the same joint model; {comparison.clips} held-out "
        f"clips, seed {comparison.seed}; 95 % intervals over clips. self_forcing also needs the "
        "bidirectional teacher, whose cost is its own row.\n"
    )
    return report.markdown(flat, columns, "method, sampling") + notes


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.compare", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="a run whose joint stage is done")
    parser.add_argument("--preset", choices=sorted(SCALES), default="tiny")
    parser.add_argument("--out", type=Path, help="default: RUN/compare")
    parser.add_argument("--steps", type=int, help="default: those of the recipe mutual_forcing")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--sampling", default="4,8", help="step counts, as for training.evaluate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu or cuda; default: cuda when present")
    options = parser.parse_args()
    return run(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> None:
    methods = tuple(options.methods.split(","))
    if unknown := set(methods) - set(METHODS):
        raise ValueError(f"Unknown methods: {', '.join(sorted(unknown))}.")
    comparison = Comparison(
        base=Workspace(options.run, options.preset, pick_device(options.device)),
        folder=options.out or options.run / "compare",
        steps=options.steps or SCALES[options.preset].steps["mutual_forcing"],
        methods=methods,
        clips=options.clips,
        sampling=options.sampling,
        seed=options.seed,
    )
    sys.stdout.write(compare(comparison))


if __name__ == "__main__":
    sys.exit(main())
