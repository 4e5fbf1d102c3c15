"""The corpus of an evaluation that was given none: a few identities of the corpus that the models train on.

Identity n and its sentences depend on the seed and n alone, so the held-out identities made here are held out
from every checkpoint that `training.reproduce` made with that seed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from ..data.dataset import Corpus
from ..data.synthesize import CorpusOptions, is_made, make_identities, write_manifest
from ..recipes import SCALES

SEED, HELDOUT, CLIPS = 0, 0.08, 3
"""The defaults of `training.reproduce`: seed, held-out share, clips per identity."""


@dataclass(frozen=True)
class Choice:
    """How many identities of `split` and of the training split are made, each with `CLIPS` clips."""

    heldout: int
    train: int
    split: str = "test"


def heldout_corpus(folder: Path, choice: Choice, size: int, workers: int = 0) -> Corpus:
    """Make, finish or reuse the corpus in `folder`, with pictures of `size` pixels; 0 workers: one per core.

    Raises ValueError if the folder holds another corpus.
    """
    options = CorpusOptions(SCALES["tiny"].hours, SEED, size, HELDOUT, CLIPS)
    _claim(options, folder)
    wanted = identities(options, choice)
    todo = [n for n in wanted if not is_made(n, folder)]
    if todo:
        _make(options, todo, folder, min(len(todo), workers or os.cpu_count() or 1))
        write_manifest(folder)
    elif not (folder / "manifest.jsonl").exists():
        write_manifest(folder)
    return Corpus(folder)


def identities(options: CorpusOptions, choice: Choice) -> list[int]:
    """The first English identities of each split, because the judges know English alone. Raises ValueError if
    the corpus has fewer.
    """
    wanted = {choice.split: choice.heldout, "train": choice.train}
    chosen = []
    for split, count in wanted.items():
        english = (n for n in range(options.identities) if options.language(n) == "en")
        found = [n for n in english if options.split(n) == split]
        if count > len(found):
            raise ValueError(
                f"The corpus has {len(found)} identities of the split {split}, fewer than the evaluation "
                f"asks for ({count})."
            )
        chosen += found[:count]
    return sorted(chosen)


def _make(options: CorpusOptions, todo: list[int], folder: Path, workers: int) -> None:
    with tqdm(total=len(todo), desc="held-out corpus", unit="identity") as bar:
        for _ in make_identities(options, todo, folder, workers):
            bar.update()


def _claim(options: CorpusOptions, folder: Path) -> None:
    """Mark the folder as this corpus's. Raises ValueError if it is another's."""
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    path, mine = folder / "corpus.json", {"options": asdict(options), "part": "evaluation"}
    if not path.exists():
        path.write_text(json.dumps(mine, indent=1) + "\n", encoding="utf-8")
    elif json.loads(path.read_text(encoding="utf-8")) != mine:
        raise ValueError(f"{folder} holds another corpus: name it with --corpus, or change --out.")


def split_warning(corpus: Corpus, checkpoint: Path | None) -> str:
    """What to say if the checkpoint in this folder may have been trained on what is held out here.

    Nothing if its corpus had the same seed and held-out share, or if it does not say.
    """
    path = checkpoint / "record.json" if checkpoint else None
    if path is None or not path.exists():
        return ""
    told = json.loads(path.read_text(encoding="utf-8")).get("corpus")
    if not told:
        return ""
    here = json.loads((corpus.clips[0].root / "corpus.json").read_text(encoding="utf-8"))["options"]
    theirs = told["options"]
    differ = [n for n in ("seed", "heldout") if n in theirs and here[n] != theirs[n]]
    if not differ:
        return ""
    found = " and ".join(f"{name} {here[name]} instead of {theirs[name]}" for name in differ)
    return (
        f" WARNING: this corpus ({found}) is not split as the checkpoint's was: what is held out here may "
        "have been trained on."
    )
