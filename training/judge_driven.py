"""Whether lips follow given sound, by a judge from outside.

python -m training.judge_driven --checkpoint tiny --corpus RUN/corpus --films DIR --out DIR

A bundled character is driven by sounds alone, and MediaPipe reads its lips, the gap between them in
distances of the eyes. With real films (--films) the truth is what it reads in these; with clips of the
corpus that nothing was trained on, the same character moved by their own motion. Their sound is given as it
is, and in a room with noise and music. Last comes what nobody speaks in: silence, noise, music, hum.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.audio import excerpt
from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.media import read_image
from mutual_forcing.text.inventory import Language

from .atomic import written_whole
from .command import run
from .data.dataset import Clip, Corpus
from .data.own_films import FilmError, OwnFilm, find_films, read_pictures, read_sound
from .data.sound_augment import Surroundings, hum, music, noise, surround
from .evaluation.face_judges import FaceJudges
from .evaluation.judge import Row
from .evaluation.systems import moved
from .judge_pictures import CHARACTERS, agreement

CHARACTER = CHARACTERS / "01-blond-bob.png"
SIZE, STEPS = 256, 4
SHORTEST, LONGEST = 1.0, 12.0
"""Seconds of what is judged; other films are left out."""
AROUND = Surroundings(room=1.0, noise=1.0, music=0.5, hum=0.0, filtered=1.0)
LANGUAGES: dict[Language, str] = {"en": "English", "ja": "Japanese"}
NOBODY = 4.0
"""Seconds of each sound in which nobody speaks."""
LAGS = range(-3, 4)


@dataclass(frozen=True)
class Driving:
    """One sound [N] at 24 kHz, and the lips [T] that should be seen, None where nobody speaks."""

    kind: str
    name: str
    sound: np.ndarray
    lips: np.ndarray | None


class DrivenJudge:
    """Moves the character by sound or by motion and reads its lips."""

    def __init__(self, generator: StreamingGenerator, faces: FaceJudges, seed: int) -> None:
        self.generator, self._faces, self._seed = generator, faces, seed
        self._picture = read_image(CHARACTER)

    def lips_of(self, frames: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """The gap between the lips in each frame, NaN where no face is found."""
        seen = [self._faces.face(frame) for frame in frames]
        return np.array([face.lips if face else np.nan for face in seen])

    def driven(self, sound: np.ndarray) -> np.ndarray:
        """Lips [T] of the character under a sound [N]."""
        request = GenerationRequest(
            self._picture, audio=sound, steps=STEPS, seed=self._seed, size=SIZE, framing="face"
        )
        frames = [chunk.frames for chunk in self.generator.stream(request)]
        return self.lips_of(np.concatenate(frames)[: len(sound) * FPS // SAMPLE_RATE])

    def moved(self, clip: Clip) -> np.ndarray:
        """Lips [T] of the character under a clip's own motion."""
        request = GenerationRequest(self._picture, text="-", size=SIZE, framing="face")
        return self.lips_of(moved(self.generator, request, clip))


def films(judge: DrivenJudge, folder: Path) -> Iterator[Driving]:
    """The films of a folder; what cannot be read is named on stderr."""
    for film in find_films(folder):
        try:
            yield _film(judge, film)
        except FilmError as error:
            sys.stderr.write(f"{film.name}: {error}\n")


def _film(judge: DrivenJudge, film: OwnFilm) -> Driving:
    pictures = [pixels for _, pixels in read_pictures(film.path, LONGEST)]
    samples = len(pictures) * SAMPLE_RATE // FPS
    sound = excerpt(read_sound(film.path, LONGEST).astype(np.float32) / 32768, 0, samples)
    if len(sound) < SHORTEST * SAMPLE_RATE:
        raise FilmError(f"It is shorter than {SHORTEST:.0f} s.")
    lips = judge.lips_of(pictures)
    if np.isnan(lips).mean() > 0.5:
        raise FilmError("The judge finds a face in less than half of its pictures.")
    return Driving("real films", film.name, sound, lips)


def clips(judge: DrivenJudge, corpus: Corpus, count: int) -> Iterator[Driving]:
    """Test clips of each language, as they are and in their surroundings."""
    for language, name in LANGUAGES.items():
        of_it = [c for c in corpus.split("test") if c.language == language]
        of_it = [c for c in of_it if c.frames <= LONGEST * FPS]
        for clip in of_it[:: max(1, len(of_it) // count)][:count]:
            sound, lips = clip.read_audio(), judge.moved(clip)
            yield Driving(name, clip.path.stem, sound, lips)
            rng = np.random.default_rng(clip.index)
            around = surround(sound, np.zeros_like(sound), AROUND, rng)
            yield Driving(f"{name}, surrounded", clip.path.stem, around, lips)


def nobody(seed: int) -> Iterator[Driving]:
    """Sounds in which nobody speaks."""
    count, rng = round(NOBODY * SAMPLE_RATE), np.random.default_rng(seed)
    yield Driving("nobody", "silence", np.zeros(count, np.float32), None)
    for make in (noise, music, hum):
        for number in range(3):
            sound = make(count, rng)
            sound = (0.2 * sound / np.abs(sound).max()).astype(np.float32)
            yield Driving("nobody", f"{make.__name__} {number}", sound, None)


def judge_driven(judge: DrivenJudge, sounds: Iterator[Driving], out: Path) -> str:
    """Drive the character by every sound, write driven.json and driven.md, return the Markdown."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [_row(judge, sound) for sound in tqdm(sounds)]
    text = table(rows)
    with written_whole(out / "driven.json") as path:
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    with written_whole(out / "driven.md") as path:
        path.write_text(text, encoding="utf-8")
    return text


def _row(judge: DrivenJudge, driving: Driving) -> Row:
    made = judge.driven(driving.sound)
    row: Row = {"kind": driving.kind, "name": driving.name}
    if driving.lips is None:
        return {**row, "open": float(np.quantile(np.nan_to_num(made), 0.95))}
    wanted = driving.lips[: len(made)]
    made = made[: len(wanted)]
    r, amplitude = agreement(wanted, made)
    later = [agreement(wanted, np.roll(made, -lag))[0] for lag in LAGS]
    # 0 where nothing moves, whatever the lag.
    lag = LAGS[int(np.argmax(later))] if any(later) else 0
    return {**row, "r": r, "amplitude": amplitude, "lag": lag}


def table(rows: Sequence[Row]) -> str:
    """Markdown with a line for each kind of sound."""
    lines = ["| | lips, r (lowest) | amplitude | frames late |", "|---|---|---|---|"]
    spoken = [row for row in rows if "r" in row]
    for kind in dict.fromkeys(row["kind"] for row in spoken):
        own = [row for row in spoken if row["kind"] == kind]
        r, amplitude, lag = ([row[name] for row in own] for name in ("r", "amplitude", "lag"))
        lines.append(
            f"| {kind}, {len(own)} | {np.mean(r):.2f} ({min(r):.2f}) | {np.median(amplitude):.2f} | "
            f"{np.mean(lag):+.1f} |"
        )
    quiet = [f"- {row['name']}: lips {row['open']:.2f} open" for row in rows if "open" in row]
    return "\n".join([*lines, "", *quiet]) + "\n"


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.judge_driven",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--corpus", type=Path, help="of it the test clips")
    parser.add_argument("--films", type=Path, help="a folder of films in which somebody speaks")
    parser.add_argument("--clips", type=int, default=12, help="of each language")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()

    def act() -> None:
        generator = StreamingGenerator.from_pretrained(given.checkpoint, device="cpu")
        with closing(FaceJudges()) as faces:
            judge = DrivenJudge(generator, faces, given.seed)

            def sounds() -> Iterator[Driving]:
                if given.films:
                    yield from films(judge, given.films)
                if given.corpus:
                    yield from clips(judge, Corpus(given.corpus), given.clips)
                yield from nobody(given.seed)

            sys.stdout.write(judge_driven(judge, sounds(), given.out))

    return run(act)


if __name__ == "__main__":
    sys.exit(main())
