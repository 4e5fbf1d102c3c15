"""Portraits: many people, a few faces each, sharp and as different as they come, to teach the motion
codec.

python -m training.data.portraits --identities 1500 --out DIR --seed 0

Films of speech show every person for seconds and hardly ever with closed eyes. A portrait is one person,
one camera and one light with 16 independent expressions: half of them moments of speech, half any mixture
of units and poses; every fourth person is a drawing (drawings.py). Written per person: NUMBER-FACE.jpg, the
same as .png that says what pixels show, and NUMBER.safetensors with their motion and places.
Person n depends on (seed, n) alone; an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from mutual_forcing.motion import MOTION, UNITS
from mutual_forcing.text.captions import EMOTIONS
from mutual_forcing.types import TimedPhoneme

from .synthesize import process_pool

SIZE = 512
FACES = 16
PORTRAIT_STREAM = 77
"""Keeps the random numbers of portraits apart from those of the corpus."""
HELDOUT_EVERY = 25
"""Every so many-th person is held out."""
DRAWN_EVERY = 4
"""Every so many-th person is drawn with flat shapes."""
RESHAPED = {
    "eye-height2-incr": (-1.1, 0.3),
    "eye-scale-incr": (-0.8, 0.3),
    "mouth-lowerlip-volume-incr": (-1.0, 0.4),
    "mouth-upperlip-volume-incr": (-1.0, 0.4),
    "mouth-lowerlip-height-incr": (-0.8, 0.3),
    "mouth-upperlip-height-incr": (-0.8, 0.3),
}
"""Shapes that are varied more than in the corpus, and by how much at least and at most."""
UNKNOWN = 2.0
"""Where points lie that nobody knows: outside the picture."""
QUALITY = 93
FORM = 3
"""Of the files: those before had no .png, then no units."""
BLINK = MOTION.index("eyeBlink")
ONE_SIDED = 0.6
"""Share of the mixed faces whose sides differ, and that do what has no name."""
UNNAMED = (
    "mouthLeft",
    "mouthRight",
    "jawLeft",
    "jawRight",
    "jawForward",
    "tongueOut",
    "mouthDimple",
)
BLINKING = 0.4
"""Share of the mixed faces whose lids are on their way down; half of these are closed."""


@dataclass(frozen=True)
class Portrait:
    """The truth of one person's faces; fractions of the picture, y down.

    motion float32 [16, 28] (mutual_forcing.motion); units float32 [16, 52] (head_model.UNIT_NAMES); landmarks
    [16, 64, 2], tracked [16, N, 2] with in_view bool [16, N], eyes [16, 2, 2] and mouth [16, 4] (centre and
    size) as in renderer.Rendered.
    """

    motion: np.ndarray
    units: np.ndarray
    landmarks: np.ndarray
    tracked: np.ndarray
    in_view: np.ndarray
    eyes: np.ndarray
    mouth: np.ndarray


class Portraits:
    """A folder of portraits. Raises ValueError if there are none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.numbers = sorted(int(path.stem) for path in root.glob("*.safetensors"))
        if not self.numbers:
            raise ValueError(
                f"No portraits in {root}: run python -m training.data.portraits first."
            )
        if json.loads((root / "portraits.json").read_text(encoding="utf-8")).get("form") != FORM:
            raise ValueError(f"The portraits in {root} are of an earlier form; make them anew.")

    def split(self, name: str) -> list[int]:
        """The numbers of the people of "train" or "heldout"."""
        heldout = name == "heldout"
        return [n for n in self.numbers if is_heldout(n) == heldout]

    def truth(self, number: int) -> Portrait:
        """What is known of a person's faces."""
        parts = load_file(_path(self.root, number))
        shown = parts.pop("in_view").astype(bool)
        return Portrait(in_view=shown, **{k: v.astype(np.float32) for k, v in parts.items()})

    def picture(self, number: int, face: int) -> np.ndarray:
        """One face, uint8 [H, H, 3]."""
        return self._read(number, face, "jpg")

    def kinds(self, number: int, face: int) -> np.ndarray:
        """What every pixel of a face shows (motion.KINDS), uint8 [H, H]."""
        return self._read(number, face, "png")

    def _read(self, number: int, face: int, kind: str) -> np.ndarray:
        with Image.open(self.root / f"{number:06d}-{face:02d}.{kind}") as image:
            return np.array(image)


def is_heldout(number: int) -> bool:
    """Whether a person is kept from training."""
    return number % HELDOUT_EVERY == HELDOUT_EVERY - 1


def is_drawn(number: int) -> bool:
    """Whether a person is a drawing."""
    return number % DRAWN_EVERY == 1


def sample_portrait_appearance(rng: np.random.Generator) -> Any:
    """An appearance with the face where faces.py puts it, lit and painted more freely than in the corpus."""
    from .appearance import BEARDS, sample_appearance
    from .head_model import SHAPES

    appearance = sample_appearance(rng)
    key = np.array([rng.normal(0, 0.8), rng.uniform(-0.2, 1.2), rng.uniform(0.5, 1.2)])
    power, tone = rng.uniform(0.6, 1.05), rng.normal(0, 0.08, 3)
    glasses = str(rng.choice(["round", "square"])) if rng.random() < 0.25 else "none"
    stubble = appearance.stubble
    if appearance.sex == "male" and rng.random() < 0.5:
        stubble = rng.uniform(0.3, 1)
    # Lips and lashes that hardly differ from the skin, as most people's do who wear no paint.
    skin, pale, thin = np.array(appearance.skin), rng.random() ** 1.5, rng.random() < 0.3
    lip = np.array(appearance.lip) * (1 - pale) + pale * skin * rng.uniform(0.7, 1.0)
    brow = skin * rng.uniform(0.4, 0.9) if thin else np.array(appearance.brow)
    # Narrow eyes and thin lips, which the corpus's people seldom have.
    shapes = dict(zip(SHAPES, appearance.shapes, strict=True))
    for name, (low, high) in RESHAPED.items():
        shapes[name] += rng.uniform(low, high)
    changed = replace(
        appearance,
        shapes=tuple(float(value) for value in shapes.values()),
        frame_height=float(rng.uniform(4.5, 5.6)),
        frame_center=(float(rng.normal(0, 0.12)), float(rng.normal(-0.35, 0.1))),
        camera_angles=(float(rng.normal(0, 0.16)), float(rng.normal(0.02, 0.1))),
        camera_distance=float(rng.uniform(9, 32)),
        key_direction=tuple(key / np.linalg.norm(key)),
        key_color=tuple(np.clip(power + tone, 0, 1)),
        fill_color=tuple(np.clip(rng.uniform(0.2, 0.65) - tone, 0, 1)),
        glasses=glasses,
        stubble=float(stubble),
        lip=tuple(np.clip(lip, 0, 1).tolist()),
        brow=tuple(np.clip(brow, 0, 1).tolist()),
        texture=float(rng.uniform(0.1, 0.9)) if rng.random() < 0.6 else 0.0,
        folds=float(rng.uniform(0.1, 1)) if rng.random() < 0.6 else 0.0,
        beard=str(rng.choice(BEARDS)),
        beard_grain=float(rng.uniform(0.1, 0.9)),
        lip_height=float(rng.uniform(0.15, 1.05)) if rng.random() < 0.6 else 1.0,
        lip_edge=float(rng.uniform(0.015, 0.15)),
        # The model's lower teeth are seen more than its upper ones, people's seldom.
        teeth_down=(float(rng.uniform(0.04, 0.13)), float(rng.uniform(0.0, 0.14))),
    )
    return changed


def sample_faces(rng: np.random.Generator, count: int = FACES) -> Any:
    """A performance of independent moments: the first half of speech, the others mixed at random."""
    from .head_motion import Manner
    from .renderer import Performance
    from .speech_motion import PHONEMES, animate

    names = rng.choice(PHONEMES, 60)
    ends = np.cumsum(rng.uniform(0.05, 0.19, len(names)))
    starts = np.concatenate([[0], ends[:-1]])
    said = [TimedPhoneme(str(n), s, e) for n, s, e in zip(names, starts, ends, strict=True)]
    frames = int(ends[-1] * 25)
    mood, lively = str(rng.choice(EMOTIONS)), bool(rng.random() < 0.6)
    spoken = animate(said, frames, mood, lively, rng, Manner.draw(rng))
    chosen = rng.choice(frames, count // 2, replace=False)
    mixed = _mixed(rng, count - count // 2)
    names = ("units", "rotation", "translation", "gaze")
    return Performance(
        *(
            np.concatenate([getattr(spoken.performance, n)[chosen], getattr(mixed, n)])
            for n in names
        )
    )


def _mixed(rng: np.random.Generator, count: int) -> Any:
    from .renderer import UNIT_NAMES, Performance
    from .speech_motion import scale_sides, set_unit

    units = np.zeros((count, len(UNIT_NAMES)), np.float32)
    for row in units:
        for name in rng.choice(UNITS, int(rng.integers(2, 8)), replace=False):
            set_unit(row, str(name), rng.random() ** 1.4)
        set_unit(row, "jawOpen", rng.choice([0.0, rng.random() * 0.4, rng.random()]))
        if rng.random() < 0.35:  # a smile that shows the teeth
            set_unit(row, "mouthSmile", rng.uniform(0.3, 1))
            set_unit(row, "mouthUpperUp", rng.uniform(0, 0.8))
        closing = rng.random() < BLINKING
        set_unit(row, "eyeBlink", rng.choice([1.0, rng.random()]) if closing else 0.0)
        if rng.random() < ONE_SIDED:
            for name in UNITS:
                if name != "eyeBlink":
                    scale_sides(row, name, float(np.clip(rng.normal(0, 0.4), -1, 1)))
            for name in rng.choice(UNNAMED, int(rng.integers(1, 3)), replace=False):
                set_unit(row, str(name), rng.random() ** 1.4 * 0.7)
    spread = [(0.17, 0.1, 0.07), (0.08, 0.08, 0.08), (0.22, 0.12)]
    rotation, translation, gaze = (
        (rng.normal(0, 1, (count, len(scale))) * scale).astype(np.float32) for scale in spread
    )
    return Performance(units, rotation, translation, gaze)


@dataclass(frozen=True)
class PortraitOptions:
    """What decides portraits. Raises ValueError for values that make no sense."""

    identities: int
    seed: int = 0
    size: int = SIZE

    def __post_init__(self) -> None:
        if self.identities < 1 or self.seed < 0:
            raise ValueError("Portraits need at least one person and a seed of 0 or more.")
        if self.size < 16:
            raise ValueError("Portraits need at least 16 pixels on each side.")

    def done(self, out: Path) -> int:
        """How many of them are in a folder; none of those of an earlier form."""
        told = out / "portraits.json"
        if told.exists() and json.loads(told.read_text(encoding="utf-8")).get("form") != FORM:
            return 0
        return sum(_path(out, number).exists() for number in range(self.identities))


def make_portraits(options: PortraitOptions, out: Path, workers: int) -> None:
    """Make or finish portraits. Raises ValueError if `out` holds others."""
    if workers < 1:
        raise ValueError("At least one worker is needed.")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "portraits.json"
    mine = {"seed": options.seed, "size": options.size, "form": FORM}
    if not path.exists():
        path.write_text(json.dumps(mine) + "\n", encoding="utf-8")
    elif json.loads(path.read_text(encoding="utf-8")) != mine:
        raise ValueError(
            f"{out} holds other portraits, or some of an earlier form: choose another folder, or delete it."
        )
    todo = [n for n in range(options.identities) if not _path(out, n).exists()]
    with process_pool(workers) as pool:
        jobs = [(options, number, out) for number in todo]
        for _ in tqdm(pool.imap_unordered(_make, jobs), "portraits", len(jobs), mininterval=5):
            pass


def make_portrait(options: PortraitOptions, number: int, out: Path) -> None:
    """Draw and write the faces of one person."""
    rng = np.random.default_rng([options.seed, PORTRAIT_STREAM, number])
    pictures, kinds, truth = (_drawn if is_drawn(number) else _rendered)(rng, options.size)
    for index, (pixels, shown) in enumerate(zip(pictures, kinds, strict=True)):
        path = out / f"{number:06d}-{index:02d}.jpg"
        Image.fromarray(pixels).save(path, quality=QUALITY, subsampling=0)
        Image.fromarray(shown).save(path.with_suffix(".png"))
    in_view = truth.pop("in_view").astype(np.uint8)
    parts = {name: part.astype(np.float16) for name, part in truth.items()}
    partial = out / f"{number:06d}.partial"
    save_file(parts | {"in_view": in_view}, partial)
    partial.replace(_path(out, number))


def _rendered(
    rng: np.random.Generator, size: int
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Pictures of one person, what their pixels show, and their truth by the names of Portrait."""
    from .renderer import Renderer
    from .tracked_points import motion

    appearance, faces = sample_portrait_appearance(rng), sample_faces(rng)
    if size not in _CACHE:
        _CACHE[size] = Renderer(size, samples=1)
    made = _CACHE[size].render(appearance, faces, track=True)
    truth = {"landmarks": made.landmarks, "mouth": made.mouth_box, "motion": motion(faces)}
    truth["units"] = faces.units
    truth |= {"tracked": made.tracked, "in_view": made.in_view, "eyes": made.eyes}
    return made.frames, made.kinds, truth


def _drawn(
    rng: np.random.Generator, size: int
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """As `_rendered`; a drawing has other points, fewer of them and no landmarks."""
    from .drawings import draw, sample_style
    from .tracked_points import LANDMARKS, motion, tracked_count

    style, faces = sample_style(rng), sample_faces(rng)
    moves = motion(faces)
    made = draw(style, moves, size)
    tracked = np.full((FACES, tracked_count(), 2), UNKNOWN, np.float32)
    in_view = np.zeros(tracked.shape[:2], bool)
    tracked[:, : made.tracked.shape[1]] = made.tracked
    in_view[:, : made.tracked.shape[1]] = made.in_view
    truth = {"landmarks": np.full((FACES, LANDMARKS, 2), UNKNOWN, np.float32), "mouth": made.mouth}
    # Both sides of a drawing do what the mean of them does: nothing of it has no name.
    truth |= {"motion": moves, "units": np.zeros_like(faces.units), "tracked": tracked}
    truth |= {"in_view": in_view, "eyes": made.eyes}
    return made.pictures, made.kinds, truth


def _make(job: tuple[PortraitOptions, int, Path]) -> None:
    make_portrait(*job)


def _path(out: Path, number: int) -> Path:
    return out / f"{number:06d}.safetensors"


_CACHE: dict[int, Any] = {}
"""One renderer of a size per process."""


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.data.portraits", description=__doc__)
    parser.add_argument("--identities", type=int, default=1500)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=SIZE, help="pixels on each side")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()

    from ..command import run  # with torch, which the workers do without

    def make() -> None:
        options = PortraitOptions(given.identities, given.seed, given.size)
        make_portraits(options, given.out, given.workers)

    return run(make)


if __name__ == "__main__":
    sys.exit(main())
