"""From nothing to a served checkpoint: python -m training.reproduce --preset tiny --run DIR.

Corpus, autoencoders, latents, every stage of the transformer in order, export. Everything is resumable:
run the same command again after an interruption. On a CPU stages that do not need each other run at
the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from mutual_forcing.checkpoint import PRETRAINED

from .command import run
from .data.dataset import Clip
from .data.portraits import PortraitOptions, make_portraits
from .data.synthesize import CorpusOptions, synthesize, unfinished
from .data.world import first_clips, frames_path, write_all
from .export import export
from .recipes import SCALES, Scale
from .stages import Workspace, pick_device
from .workers import Job, run_jobs, workers_for

JOBS: dict[str, tuple[float, tuple[str, ...]]] = {
    "corpus": (0.3, ()),
    "analysis": (0.03, ("corpus",)),
    "portraits": (0.04, ()),
    "video_codec": (0.23, ("corpus", "portraits")),
    "video_detail": (0.04, ("video_codec",)),
    "audio_codec": (0.1, ("analysis",)),
    "audio_detail": (0.06, ("audio_codec",)),
    "duration": (0.01, ("corpus",)),
    "encode_audio": (0.01, ("audio_codec",)),
    "encode_video": (0.01, ("corpus",)),
    "audio_pretrain": (0.1, ("encode_audio",)),
    "video_pretrain": (0.03, ("audio_pretrain", "encode_video")),
    "joint": (0.03, ("video_pretrain",)),
    "mutual_forcing": (0.07, ("joint", "video_detail")),
    "sound_reader": (0.03, ("mutual_forcing",)),
    "export": (0.0, ("sound_reader", "duration", "audio_detail")),
}
"""All jobs in order: each job's share of the work, for `tiny` on two cores, and the jobs that it waits for.

Of the transformer's stages only the last one needs the motion codec, because its monitors look at
pictures.
"""
FACE_JOBS = ("portraits", "video_detail")
"""Those that only a motion codec needs."""


def jobs_of(scale: Scale) -> dict[str, tuple[float, tuple[str, ...]]]:
    """The JOBS of a preset: a codec that makes whole frames learns from films, and encodes them."""
    if not scale.pixels:
        return JOBS
    jobs = {
        name: (share, tuple(other for other in after if other not in FACE_JOBS))
        for name, (share, after) in JOBS.items()
        if name not in FACE_JOBS
    }
    return {**jobs, "encode_video": (jobs["encode_video"][0], ("video_codec",))}


def reproduction_jobs(
    workspace: Workspace, seed: int, out: Path, hours: float | None = None
) -> list[Job]:
    """The jobs of a whole run in order. hours: the length of the corpus, if not the preset's.

    Raises ValueError for a preset that begins from public weights.
    """
    scale = SCALES[workspace.scale]
    if scale.public:
        raise ValueError(
            "This preset begins from public weights: python -m training.import_public."
        )
    options = CorpusOptions(hours or scale.hours, seed, scale.size, 0.08, 3, filmed=scale.filmed)
    corpus = workspace.corpus_folder

    def make_corpus() -> None:
        synthesize(options, corpus, os.cpu_count() or 1)

    def corpus_done() -> bool:
        path = corpus / "corpus.json"
        told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        # What is another run's (compare --corpus) stays as it is, and what is encoded already.
        mine = told.get("options") == asdict(options) and not corpus.is_symlink()
        mine = mine and (corpus / "parts").is_dir() and not workspace.latents_folder.exists()
        return "statistics" in told and not (mine and unfinished(options, corpus))

    people = PortraitOptions(scale.portraits, seed, scale.portrait_size)
    folder = workspace.portraits_folder

    def portraits_done() -> bool:
        return people.done(folder) == people.identities

    def make() -> None:
        make_portraits(people, folder, os.cpu_count() or 1)

    def speech() -> list[Clip]:
        return first_clips(workspace.corpus(), scale.analysed)

    def analysis_done() -> bool:
        return corpus_done() and all(frames_path(clip).exists() for clip in speech())

    jobs = jobs_of(scale)

    def job(name: str) -> Job:
        share, after = jobs[name]
        if name == "corpus":
            return Job(name, corpus_done, share, after, make_corpus)
        if name == "portraits":
            return Job(name, portraits_done, share, after, make)
        if name == "analysis":
            return Job(
                name, analysis_done, share, after, lambda: write_all(speech(), os.cpu_count() or 1)
            )
        if name == "export":
            return Job(name, lambda: False, share, after, lambda: export(workspace, out))
        where = ("--run", str(workspace.root), "--preset", workspace.scale)
        command = ("-m", "training.train", name, *where, "--device", str(workspace.device))
        if name.startswith("encode_"):
            branch = name.removeprefix("encode_")
            done, act = lambda: workspace.encoded(branch), lambda: workspace.encode(branch)
        else:
            done, act = lambda: workspace.complete(name), lambda: workspace.train(name)
        return Job(name, done, share, after, act, command)

    return [job(name) for name in jobs]


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

    def reproduce() -> None:
        run_jobs(reproduction_jobs(workspace, options.seed, out), workers_for(workspace.device))

    return run(reproduce)


if __name__ == "__main__":
    sys.exit(main())
