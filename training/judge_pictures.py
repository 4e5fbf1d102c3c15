"""How a checkpoint animates pictures that it has never seen, by judges from outside.

python -m training.judge_pictures --checkpoint tiny --pictures DIR --out DIR

Every picture of a folder says the same words with the same seed, through the whole path, and so do three
bundled characters: whatever a picture is, its lips should move as theirs do, and its eyes close when the
decoder is told so. MediaPipe reads lips and blinks, dlib who it is, and sharpness is that of the picture
itself. The part of a picture's name before its first dash is its kind, and each kind has a line; `python
-m training.evaluation.outside_pictures DIR` fetches the pictures that the figures of README.md are of. A
row is kept for each picture, so it resumes; it is made again when the picture, the weights or the options
changed. After a change of code take another --out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from tqdm import tqdm

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.blinks import find_blinks
from mutual_forcing.media import read_image
from mutual_forcing.motion import MOTION

from .atomic import written_whole
from .command import run
from .evaluation.face_judges import FaceJudges, sharpness
from .evaluation.judge import Row
from .evaluation.rows import whole_rows

TEXT = (
    "Please call Stella, and ask her to bring six spoons of fresh snow peas, five thick slabs of "
    "blue cheese, and maybe a snack for her brother Bob."
)
"""With most sounds of English, and long enough for two or three blinks."""
BASES = ("01-blond-bob", "04-grandfather", "09-cartoon")
"""Bundled characters whose lips are what is asked for."""
CHARACTERS = Path(__file__).parents[1] / "examples" / "characters"
KINDS = (".png", ".jpg", ".jpeg", ".webp")
EVERY = 10
"""Frames with a face from one that is looked at for sharpness and identity to the next."""
GOOD_R, GOOD_AMPLITUDE = 0.9, (0.7, 1.4)
SEEN, AROUND = 0.5, 3
"""A blink counts as seen if it is so deep, at most so many frames before or after where it is asked for."""


@dataclass(frozen=True)
class PictureOptions:
    """Raises ValueError for values that make no sense."""

    text: str = TEXT
    steps: int = 4
    seed: int = 0
    size: int = 512

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 50 or self.seed < 0:
            raise ValueError("Steps must be 1 to 50, and the seed must not be negative.")

    @property
    def made_by(self) -> str:
        """What of the options decides a row."""
        return f"{self.text} {self.steps} {self.seed} {self.size}"


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder by name; raises ValueError if there are none."""
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in KINDS)
    if not found:
        raise ValueError(f"There are no pictures in {folder}.")
    return found


def judge_pictures(
    generator: StreamingGenerator,
    judges: FaceJudges,
    options: PictureOptions,
    pictures: Sequence[Path],
    out: Path,
) -> str:
    """Measure everything, writing pictures.json and pictures.md; return the Markdown."""
    out.mkdir(parents=True, exist_ok=True)
    kept_at = out / "pictures.jsonl"
    made_by = f"{generator.system.digest} {options.made_by}"
    kept = {(row["made_by"], row["name"]): row for row in whole_rows(kept_at)}
    rows = []
    for path in tqdm([*(CHARACTERS / f"{base}.png" for base in BASES), *pictures]):
        key = f"{made_by} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}", path.stem
        if key not in kept:
            kept[key] = {
                "made_by": key[0],
                "name": path.stem,
                **_seen(generator, judges, options, path),
            }
            with kept_at.open("a", encoding="utf-8") as file:
                file.write(json.dumps(kept[key]) + "\n")
        rows.append(kept[key])
    bases, others = rows[: len(BASES)], rows[len(BASES) :]
    if refused := [row["name"] for row in bases if "refused" in row]:
        raise ValueError(f"The judge finds no face in the film of {', '.join(refused)}.")
    for row in others:
        row.update(compared(row, bases))
    text = table(others)
    with written_whole(out / "pictures.json") as path:
        path.write_text(json.dumps(others, indent=1) + "\n", encoding="utf-8")
    with written_whole(out / "pictures.md") as path:
        path.write_text(text, encoding="utf-8")
    return text


def _seen(
    generator: StreamingGenerator, judges: FaceJudges, options: PictureOptions, path: Path
) -> Row:
    """What the judges see in a picture's film; why there is none where the face cannot be animated."""
    try:
        request = GenerationRequest(
            read_image(path), text=options.text, steps=options.steps, seed=options.seed,
            size=options.size, framing="face",
        )  # fmt: skip
        with _lids_asked_for(generator.system.video_codec) as asked:
            frames = np.concatenate([chunk.frames for chunk in generator.stream(request)])
        still = generator.character(request).canvas.reference_frame
    except ValueError as error:
        return {"refused": str(error)}
    first = judges.face(still)
    if first is None:
        return {"refused": "The judge finds no face in the picture."}
    faces = [judges.face(frame) for frame in frames]
    looked = [(frame, face) for frame, face in zip(frames, faces, strict=True) if face][::EVERY]
    if not looked:
        return {"refused": "The judge finds no face in the film."}
    who, sharp = judges.identity(still, first), sharpness(still, first)
    return {
        "found": float(np.mean([face is not None for face in faces])),
        "lips": [face and round(face.lips, 4) for face in faces],
        "blink": [face and round(face.blink, 4) for face in faces],
        "asked": [round(lid, 4) for part in asked for lid in part],
        "sharpness": float(np.median([sharpness(frame, face) for frame, face in looked]) / sharp),
        "identity": max(
            float(np.linalg.norm(judges.identity(frame, face) - who)) for frame, face in looked
        ),
    }


@contextmanager
def _lids_asked_for(codec: Any) -> Iterator[list[list[float]]]:
    """How far closed the motion codec is told to show eyes while the block lasts, frame by frame."""
    mend, asked = codec.mend_blinks, []

    def noted(latents: Any, state: Any) -> Any:
        mended, after = mend(latents, state)
        asked.append(codec.read_motion(mended)[0, :, MOTION.index("eyeBlink")].tolist())
        return mended, after

    with patch.object(codec, "mend_blinks", noted):
        yield asked


def compared(row: Row, bases: Sequence[Row]) -> Row:
    """Lips of a film against those of the bundled characters (medians over these), and its blinks' peaks."""
    if "refused" in row:
        return {}
    lips = np.array(row["lips"], float)
    agreed = [agreement(np.array(base["lips"], float), lips) for base in bases]
    r, amplitude = (float(np.median(part)) for part in zip(*agreed, strict=True))
    asked = find_blinks(np.array(row["asked"]))
    blink = np.nan_to_num(np.array(row["blink"], float))
    peaks = [
        float(blink[max(0, b.first - AROUND) : b.first + b.frames + AROUND].max()) for b in asked
    ]
    return {"r": r, "amplitude": amplitude, "peaks": peaks}


def agreement(wanted: np.ndarray, made: np.ndarray) -> tuple[float, float]:
    """Correlation at lag 0 of two tracks [T] with NaN where no face was found, and ratio of deviations; 0 for
    one that does not move.
    """
    both = ~(np.isnan(wanted) | np.isnan(made))
    wanted, made = wanted[both], made[both]
    if not both.any() or min(wanted.std(), made.std()) < 1e-6:
        return 0.0, 0.0
    return float(np.corrcoef(wanted, made)[0, 1]), float(made.std() / wanted.std())


def table(rows: Sequence[Row]) -> str:
    """Markdown with a line for each kind of picture; what was refused is named below."""
    lines = [
        "| | lips, r (lowest) | amplitude (in) | both good | blinks | sharpness | identity |",
        "|---|---|---|---|---|---|---|",
    ]
    judged = [row for row in rows if "refused" not in row]
    for kind in dict.fromkeys(row["name"].split("-")[0] for row in judged):
        own = [row for row in judged if row["name"].split("-")[0] == kind]

        def middle(name: str, own: Sequence[Row] = own) -> float:
            return float(np.median([row[name] for row in own]))

        inside = [GOOD_AMPLITUDE[0] <= row["amplitude"] <= GOOD_AMPLITUDE[1] for row in own]
        both = sum(good and row["r"] >= GOOD_R for good, row in zip(inside, own, strict=True))
        peaks = [peak for row in own for peak in row["peaks"]]
        lines.append(
            f"| {kind}, {len(own)} | {middle('r'):.2f} ({min(row['r'] for row in own):.2f}) | "
            f"{middle('amplitude'):.2f} ({sum(inside)}) | {both} | "
            f"{sum(peak >= SEEN for peak in peaks)} of {len(peaks)} | {middle('sharpness'):.2f} | "
            f"{middle('identity'):.2f} |"
        )
    refused = [f"- {row['name']}: {row['refused']}" for row in rows if "refused" in row]
    return "\n".join([*lines, "", *refused]) + "\n"


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.judge_pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--pictures", type=Path, required=True, help="a folder of pictures")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    def judge() -> None:
        options = PictureOptions(given.text, given.steps, given.seed)
        pictures = pictures_in(given.pictures)
        generator = StreamingGenerator.from_pretrained(given.checkpoint, device="cpu")
        with closing(FaceJudges()) as judges:
            sys.stdout.write(judge_pictures(generator, judges, options, pictures, given.out))

    return run(judge)


if __name__ == "__main__":
    sys.exit(main())
