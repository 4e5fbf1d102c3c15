"""Clips of one's own as a corpus: python -m training.data.clips IN OUT.

IN is a folder of films, or one film. Their shots are found, and in each the one face that can be followed;
where somebody speaks in it for long enough, it becomes clips of the corpus's own format (README.md): a steady
square around the face at 25 frames a second, sound as loud as all others, timed phonemes, and the motion that
a checkpoint's codec reads. Whatever cannot be used is told in OUT/left_out.jsonl, with the reason.

A film is the unit of work: its clips depend on it, the options and the seed alone. Run the same command again
to go on after an interruption; films that are done are left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tqdm import tqdm

from ..atomic import written_whole
from .film_workers import run_apart
from .own_films import SUFFIXES, FilmError, OwnFilm, check_file, film_seconds, find_films

log = logging.getLogger(__name__)
LEFT_OUT, KIND = "left_out.jsonl", "own clips"
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of film, {remaining} left"
TRANSCRIPTS = (".align", ".srt", ".vtt", ".txt")
MEASURED = 60.0
"""Seconds within which a film must say how long it lasts."""
HELD_OUT_BY = {"identity": "speaker", "film": "film"}
FEWEST_SPEAKERS = 5
"""With fewer, whole films are held out instead of whole speakers."""
PACKAGES = ("av", "numpy", "torch", "scenedetect-headless", "silero-vad", "pocketsphinx")


@dataclass(frozen=True)
class OwnClipOptions:
    """What decides the content of a corpus of clips. Raises ValueError for values that make no sense.

    checkpoint: whose codec reads the motion. size: pixels on each side. heldout: share of the speakers, or of
    the films where there are fewer than FEWEST_SPEAKERS. speaker_from: "film" if everybody appears in one
    film only, "folder" if all films of a folder show the same person, whose picture and voice then are
    references in any of them. hours: that a film lasts at most.
    """

    checkpoint: str = "tiny"
    size: int = 256
    seed: int = 0
    heldout: float = 0.1
    speaker_from: str = "film"
    hours: float = 2.0

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 2:
            raise ValueError("The size must be an even number of pixels, 16 or more.")
        if self.seed < 0:
            raise ValueError("The seed must not be negative.")
        if not 0 <= self.heldout < 1:
            raise ValueError("The held-out share must be 0 or more and less than 1.")
        if self.speaker_from not in ("film", "folder"):
            raise ValueError('Speakers are told apart by "film" or by "folder".')
        if not 0 < self.hours <= 100:
            raise ValueError("Films may last more than 0 and at most 100 hours.")

    @property
    def longest(self) -> float:
        """Seconds."""
        return self.hours * 3600

    def speaker(self, film: str) -> str:
        """Who is seen in the film of a name; "" for those that lie in no folder of IN."""
        return film if self.speaker_from == "film" else film.rpartition("/")[0]


def make_corpus(options: OwnClipOptions, source: Path, out: Path, workers: int) -> list[Any]:
    """Make or finish the corpus of `source` in `out`; returns the rows of its clips.

    Raises ValueError if `out` holds another corpus, for a folder without films, and if no clip can be made.
    """
    if workers < 1:
        raise ValueError("At least one worker is needed.")
    root, own = (source if source.is_dir() else source.parent).resolve(), out.resolve()
    films = [film for film in find_films(source) if not _real(film.path).is_relative_to(own)]
    _claim(options, out)
    unmade = [film for film in films if not _is_made(options, film, out)]
    left: dict[OwnFilm, float] = {}
    # Opening a film decodes a little of it already: apart, too.
    measure = partial(_measure_film, options=options, root=root, out=out)
    for film, said in run_apart(measure, unmade, min(workers, 2), MEASURED):
        if isinstance(said, float):
            left[film] = said
        elif isinstance(said, str):
            _write_part(options, film, out, [], [_left_out(film, said)], again=True)
    log.info("%d films, %d of them to be read, %.0f s", len(films), len(left), sum(left.values()))
    with tqdm(total=sum(left.values()), desc="clips", bar_format=BAR, mininterval=2) as bar:
        task = partial(_make_film, options=options, out=out)
        for film, said in run_apart(task, list(left), workers):
            step = min(said, left[film]) if isinstance(said, float) else left[film]
            left[film] -= step
            bar.update(step)
            if isinstance(said, str):
                _write_part(options, film, out, [], [_left_out(film, said)], again=True)
    rows = _write_manifest(options, films, out)
    if not rows:
        raise ValueError(f"No clip could be made: {out / LEFT_OUT} says why, film by film.")
    return rows


def _real(path: Path) -> Path:
    """Where a path leads; of a link to itself, the link."""
    return Path(os.path.realpath(path))


def _measure_film(
    film: OwnFilm, tell: Callable[[float], None], options: OwnClipOptions, root: Path, out: Path
) -> None:
    """Tell how many seconds a film lasts, or note why it cannot be used."""
    try:
        check_file(film, root)
        tell(film_seconds(film, options.longest))
    except FilmError as error:
        _write_part(options, film, out, [], [_left_out(film, str(error))])


def _make_film(
    film: OwnFilm, tell: Callable[[float], None], options: OwnClipOptions, out: Path
) -> None:
    """Make all clips of one film and its part of the manifest.

    Raises ValueError where the checkpoint cannot be used: then no film can be read.
    """
    from .film_cutter import cut_film, motion_codec  # with all that they load, in workers only

    motion_codec(options.checkpoint)
    rows, left, again = [], [], False
    try:
        for made in cut_film(film.path, options, out, f"clips/{_key(film)}", tell):
            if isinstance(made, dict):
                rows.append({**made, "film": film.name})
            else:
                left.append({"film": film.name, **made.to_dict()})
    except FilmError as error:
        rows, left = [], [_left_out(film, str(error))]
    except MemoryError:
        raise
    except Exception as error:  # whatever else is wrong with a film, the others are not
        reason = f"It cannot be gone through ({type(error).__name__}: {str(error)[:100]})."
        rows, left, again = [], [_left_out(film, reason)], True
    _write_part(options, film, out, rows, left, again)


def _left_out(film: OwnFilm, reason: str) -> dict[str, Any]:
    return {"film": film.name, "start": None, "end": None, "reason": reason}


def _key(film: OwnFilm) -> str:
    """What files of a film are called, whatever its name."""
    return hashlib.sha256(film.name.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _part_path(film: OwnFilm, out: Path) -> Path:
    return out / "parts" / f"{_key(film)}.json"


def _stamp(film: OwnFilm) -> list[list[int]]:
    """What changes when the film or its transcript is another: sizes and times."""
    paths = [film.path, *(film.path.with_suffix(suffix) for suffix in TRANSCRIPTS)]
    states = [path.stat() if path.exists() else None for path in paths]  # a loop of links is none
    return [[s.st_size, s.st_mtime_ns] if s else [] for s in states]


def _is_made(options: OwnClipOptions, film: OwnFilm, out: Path) -> bool:
    """Whether nothing is to be done for a film: not where its process died, which another number of workers
    may avoid, nor where all of it was left out and films may be longer now.
    """
    path = _part_path(film, out)
    if not path.exists():
        return False
    part = json.loads(path.read_text(encoding="utf-8"))
    if part["again"] or (not part["rows"] and part["hours"] != options.hours):
        return False
    return part["stamp"] == _stamp(film)


def _write_part(
    options: OwnClipOptions,
    film: OwnFilm,
    out: Path,
    rows: Sequence[Any],
    left: Sequence[Any],
    again: bool = False,
) -> None:
    """again: whether the film is to be tried anew when the command is run the next time."""
    part = {"film": film.name, "stamp": _stamp(film), "hours": options.hours, "again": again}
    part |= {"rows": rows, "left_out": left}
    with written_whole(_part_path(film, out)) as partial_path:
        partial_path.write_text(json.dumps(part), encoding="utf-8")


def _write_manifest(options: OwnClipOptions, films: Sequence[OwnFilm], out: Path) -> list[Any]:
    """Join the parts of these films; say of every clip in which split it is."""
    parts = [json.loads(_part_path(film, out).read_text(encoding="utf-8")) for film in films]
    rows = [row for part in parts for row in part["rows"]]
    for row in rows:
        row["identity"] = row["voice"] = options.speaker(row["film"])
    speakers = {row["identity"] for row in rows}
    unit = "identity" if len(speakers) >= FEWEST_SPEAKERS else "film"
    names = {row[unit] for row in rows}
    splits = split_of(names, options.heldout, options.seed, _splits_before(out, unit))
    rows = [
        {"index": n, "split": splits[row[unit]], "seed": options.seed, **row}
        for n, row in enumerate(rows)
    ]
    left = [line for part in parts for line in part["left_out"]]
    for name, lines in (("manifest.jsonl", rows), (LEFT_OUT, left)):
        with written_whole(out / name) as partial_path:
            text = "".join(json.dumps(line) + "\n" for line in lines)
            partial_path.write_text(text, encoding="utf-8")
    origin = _origin(options)
    origin["statistics"] = _statistics(rows, left, unit)
    with written_whole(out / "corpus.json") as partial_path:
        partial_path.write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    return rows


def _splits_before(out: Path, unit: str) -> dict[str, str]:
    """In which split every speaker or film is by the manifest that is there, if those are held out still."""
    told = json.loads((out / "corpus.json").read_text(encoding="utf-8")).get("statistics")
    if told is None or told["held_out_by"] != HELD_OUT_BY[unit]:
        return {}
    lines = (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {row[unit]: row["split"] for row in map(json.loads, lines)}


def split_of(
    names: set[str], heldout: float, seed: int, before: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """The split of every speaker or film. Whoever is in one `before` stays there, so that nothing is learnt
    from what was held out; new ones are drawn by their name and the seed.

    Half of the held-out share is for tests, half for development. Each has one at least where there are
    three or more in all, taken from the new ones; one new one at least is learnt from where nothing else is.
    """

    def draw(name: str) -> float:
        digest = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    found = {name: before[name] for name in sorted(names) if name in before}
    new = sorted(names - found.keys(), key=lambda name: (draw(name), name))
    for name in new:
        share = draw(name)
        kept = "development" if share < heldout else "train"
        found[name] = "test" if share < heldout / 2 else kept
    for place in ("test", "development") if heldout > 0 and len(names) >= 3 else ():
        learnt = [name for name in new if found[name] == "train"]
        if place not in found.values() and learnt:
            found[learnt[0]] = place
    if new and "train" not in found.values():
        found[new[-1]] = "train"
    return found


def _origin(options: OwnClipOptions) -> dict[str, Any]:
    try:
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(
            f"{error.name} is not installed: pip install -r training/requirements.txt."
        ) from error
    return {
        "kind": KIND,
        "options": asdict(options),
        "versions": {"python": platform.python_version(), **versions},
    }


def _statistics(rows: Sequence[Any], left: Sequence[Any], unit: str) -> dict[str, Any]:
    def counted(name: str) -> dict[str, int]:
        values = [row[name] for row in rows]
        return {value: values.count(value) for value in dict.fromkeys(values)}

    return {
        "hours": round(sum(row["seconds"] for row in rows) / 3600, 3),
        "clips": len(rows),
        "identities": len({row["identity"] for row in rows}),
        "languages": counted("language"),
        "films": len(rows),
        "splits": counted("split"),
        "held_out_by": HELD_OUT_BY[unit],
        "text_from": counted("text_from"),
        "left_out": len(left),
    }


def _claim(options: OwnClipOptions, out: Path) -> None:
    (out / "parts").mkdir(parents=True, exist_ok=True)
    path = out / "corpus.json"
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8"))
        same = asdict(replace(options, hours=old["options"].get("hours", 1.0)))
        if old.get("kind") != KIND or old["options"] != same:
            raise ValueError(
                f"{out} holds a corpus made with other options; choose another folder."
            )
    else:
        path.write_text(json.dumps(_origin(options), indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Command line; returns the exit status."""
    defaults = OwnClipOptions()
    parser = argparse.ArgumentParser(
        prog="python -m training.data.clips",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Films end in {', '.join(sorted(SUFFIXES))}.",
    )
    parser.add_argument("source", metavar="IN", type=Path, help="folder of films, or one film")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the corpus")
    parser.add_argument(
        "--checkpoint", default=defaults.checkpoint, help="whose codec reads the motion"
    )
    parser.add_argument("--size", type=int, default=defaults.size, help="pixels on each side")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of what is held out")
    parser.add_argument(
        "--heldout", type=float, default=defaults.heldout, help="share of speakers or films"
    )
    parser.add_argument(
        "--speaker-from", choices=("film", "folder"), default=defaults.speaker_from,
        help="whether all films of a folder show one person; default: every film another",
    )  # fmt: skip
    parser.add_argument(
        "--longest", type=float, default=defaults.hours, help="hours that a film lasts at most"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()

    from ..command import run  # with all of training, which the workers do without

    def make() -> None:
        options = OwnClipOptions(
            given.checkpoint,
            given.size,
            given.seed,
            given.heldout,
            given.speaker_from,
            given.longest,
        )
        rows = make_corpus(options, given.source, given.out, given.workers)
        seconds = sum(row["seconds"] for row in rows)
        log.info(
            "%d clips, %.0f s, in %s; %s says what was left out",
            len(rows), seconds, given.out, given.out / LEFT_OUT,
        )  # fmt: skip

    return run(make)


if __name__ == "__main__":
    sys.exit(main())
