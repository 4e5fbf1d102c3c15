"""Drawn faces: flat shapes and strokes, moved by the units that move the rendered heads.

What people upload is often a drawing, and no rendered head looks like one: eyes are dots, a mouth is a
stroke that opens to a dark shape. A drawing is a pile of shapes; a shape's corners are material points, so
where every point goes is known, and what lies on top says which are seen.

Coordinates: eye distances from the middle of the eyes, x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mutual_forcing.motion import INSIDE, KINDS, MOTION

SHIFT = 4
"""Binary digits of a pixel's fractions, for cv2."""
WITHIN = (0.35, 0.7, 0.94)
"""Tracked points of a filled shape: between its middle and its corners."""
NECK = np.array([0.0, 1.6])
"""What a drawn head rolls about."""


@dataclass(frozen=True)
class Shape:
    """corners float [N, 2]; width of the stroke in eye distances, 0 for a filled shape; color RGB 0..255;
    within: the name of the shape that it is cut to, or "".
    """

    name: str
    corners: np.ndarray
    color: np.ndarray
    width: float = 0.0
    within: str = ""

    @property
    def kind(self) -> str:
        """What it shows, one of KINDS."""
        part = self.name.rstrip("01")
        ball = part in ("eye", "eye0iris", "eye1iris", "eye0pupil", "eye1pupil")
        return "eye" if ball else part if part in INSIDE else "rest"


@dataclass(frozen=True)
class Drawn:
    """pictures uint8 [T, H, H, 3]; tracked float32 [T, N, 2], eyes [T, 2, 2] and mouth [T, 4] (centre and
    size) in fractions of the picture; in_view bool [T, N]; kinds uint8 [T, H, H], what a pixel shows (KINDS).
    N depends on the drawing.
    """

    pictures: np.ndarray
    tracked: np.ndarray
    in_view: np.ndarray
    eyes: np.ndarray
    mouth: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True)
class Style:
    """One drawn character; lengths in eye distances, colours RGB 0..255."""

    skin: np.ndarray
    ink: np.ndarray
    hair: np.ndarray
    cloth: np.ndarray
    behind: np.ndarray
    lip: np.ndarray
    hollow: np.ndarray
    stroke: float
    head: tuple[float, float, float, float]
    eye: str
    eye_size: tuple[float, float]
    iris: np.ndarray
    mouth: str
    mouth_y: float
    mouth_width: float
    lips: tuple[float, float]
    curve: float
    teeth: bool
    tongue: bool
    nose: str
    brow: tuple[float, float]
    hair_cut: str
    beard: str
    glasses: bool
    blush: bool
    frame: tuple[float, float, float]
    seed: int


def sample_style(rng: np.random.Generator) -> Style:
    """Draw a character at random."""

    def color(low: float, high: float) -> np.ndarray:
        grey = rng.uniform(low, high)
        return np.clip(grey + rng.normal(0, 45, 3) * (rng.random() < 0.8), 0, 255)

    tones = np.array(
        [(90, 56, 40), (150, 100, 72), (200, 150, 115), (235, 195, 165), (250, 225, 205)]
    )
    skin = np.clip(tones[rng.integers(5)] + rng.normal(0, 12, 3), 0, 255)
    if rng.random() < 0.2:
        skin = color(90, 240)
    if rng.random() < 0.2:  # lines on paper
        skin = np.full(3, rng.uniform(225, 255))
    ink = np.clip(skin * 0.25, 0, 60) if rng.random() < 0.3 else np.full(3, rng.uniform(0, 40))
    pale = rng.random() < 0.45
    return Style(
        skin=skin,
        ink=ink,
        hair=color(10, 220) if rng.random() < 0.8 else skin,
        cloth=color(20, 240),
        behind=color(60, 255),
        lip=skin * (0.8, 0.6, 0.6) if pale else np.clip(rng.normal((190, 70, 80), 30), 0, 255),
        hollow=np.clip(rng.normal((70, 20, 25), 25) * rng.choice([0.0, 1.0, 1.4]), 0, 255),
        stroke=float(rng.choice([0.0, rng.uniform(0.015, 0.07)], p=(0.25, 0.75))),
        head=(
            rng.uniform(0.95, 1.6),
            rng.uniform(1.0, 1.7),
            rng.uniform(1.5, 2.1),
            rng.uniform(1.8, 3.4),
        ),
        eye=str(rng.choice(["dot", "ball", "almond"], p=(0.35, 0.3, 0.35))),
        eye_size=(rng.uniform(0.06, 0.2), rng.uniform(0.07, 0.24)),
        iris=color(10, 150),
        mouth=str(rng.choice(["stroke", "lips"], p=(0.6, 0.4))),
        mouth_y=rng.uniform(0.9, 1.3),
        mouth_width=rng.uniform(0.35, 0.95),
        lips=(rng.uniform(0.03, 0.11), rng.uniform(0.05, 0.15)),
        curve=rng.normal(0.05, 0.07),
        teeth=bool(rng.random() < 0.55),
        tongue=bool(rng.random() < 0.5),
        nose=str(rng.choice(["hook", "line", "dots", "triangle", "blob", "none"])),
        brow=(
            float(rng.choice([0.0, rng.uniform(0.03, 0.13)], p=(0.12, 0.88))),
            rng.uniform(0.3, 0.55),
        ),
        hair_cut=str(
            rng.choice(["bald", "cap", "long", "spikes", "curls"], p=(0.12, 0.3, 0.25, 0.15, 0.18))
        ),
        beard=str(rng.choice(["none", "full", "moustache"], p=(0.76, 0.12, 0.12))),
        glasses=bool(rng.random() < 0.15),
        blush=bool(rng.random() < 0.2),
        frame=(rng.uniform(4.4, 5.6), rng.normal(0, 0.1), rng.normal(0, 0.1)),
        seed=int(rng.integers(2**31)),
    )


def draw(style: Style, motion: np.ndarray, size: int) -> Drawn:
    """Draw a character in every state of motion [T, 28] (mutual_forcing.motion)."""
    made = [_draw_one(style, dict(zip(MOTION, row.tolist(), strict=True)), size) for row in motion]
    return Drawn(*(np.stack(part) for part in zip(*made, strict=True)))


def _draw_one(style: Style, state: dict[str, float], size: int) -> tuple[np.ndarray, ...]:
    height, right, down = style.frame
    corner = np.array([-height / 2 + right, -0.43 * height + down])
    shapes = shapes_of(style, state)
    pixels = {shape.name: (shape.corners - corner) * (size / height) for shape in shapes}
    picture = np.broadcast_to(style.behind, (size, size, 3)).astype(np.uint8).copy()
    top = np.zeros((size, size), np.int16)  # which shape lies on top
    masks: dict[str, np.ndarray] = {}
    for number, shape in enumerate(shapes, 1):
        thick = max(1, round(shape.width * size / height)) if shape.width else 0
        mask = _mask(pixels[shape.name], thick, size)
        if shape.within:
            mask = np.minimum(mask, masks[shape.within])
        masks[shape.name] = mask
        _blend(picture, mask, shape.color, pixels[shape.name], thick)
        top[mask > 127] = number
    tracked, view = [], []
    for number, shape in enumerate(shapes, 1):
        points = pixels[shape.name]
        if not shape.width:
            points = np.concatenate(
                [points.mean(0) + s * (points - points.mean(0)) for s in WITHIN]
            )
        tracked.append(points)
        x, y = np.clip(points, 0, size - 1).astype(int).T
        view.append((top[y, x] == number) & ((points >= 0) & (points < size)).all(1))
    numbers = [KINDS.index(shape.kind) for shape in shapes]
    lips = np.concatenate([pixels[name] for name in ("upper", "lower")])
    low, high = lips.min(0), lips.max(0)
    eyes = np.stack([pixels[f"eye{side}"].mean(0) for side in (0, 1)])
    mouth = np.concatenate([(low + high) / 2, np.maximum(high - low, 0.1 * size / height) * 1.3])
    return (
        picture,
        (np.concatenate(tracked) / size).astype(np.float32),
        np.concatenate(view),
        (eyes / size).astype(np.float32),
        (mouth / size).astype(np.float32),
        np.array([0, *numbers], np.uint8)[top],
    )


def _mask(points: np.ndarray, thick: int, size: int) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    fixed = np.round(np.clip(points, -4 * size, 5 * size) * (1 << SHIFT)).astype(np.int32)
    if thick:
        cv2.polylines(mask, [fixed], False, 255, thick, cv2.LINE_AA, SHIFT)
    else:
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, SHIFT)
    return mask


def _blend(
    picture: np.ndarray, mask: np.ndarray, color: np.ndarray, points: np.ndarray, thick: int
) -> None:
    low = np.clip(points.min(0) - thick - 2, 0, len(mask)).astype(int)
    high = np.clip(points.max(0) + thick + 3, 0, len(mask)).astype(int)
    rows, columns = slice(low[1], high[1]), slice(low[0], high[0])
    share = mask[rows, columns, None].astype(np.float32) / 255
    part = picture[rows, columns]
    part[:] = (part + share * (np.clip(color, 0, 255) - part) + 0.5).astype(np.uint8)


# --- the shapes, from the back to the front ---


def shapes_of(style: Style, state: dict[str, float]) -> list[Shape]:
    """All shapes of a character, those in front last: always the same ones, with as many corners."""
    rng = np.random.default_rng(style.seed)
    pose = _Pose(state)
    shapes = [*_back(style, pose, rng), *_head(style, pose, state)]
    for side in (0, 1):
        shapes += _eye(style, pose, state, side)
    shapes += _nose(style, pose, rng)
    shapes += _mouth(style, pose, state)
    shapes += _front(style, pose, rng)
    return shapes


class _Pose:
    """Where a head's points go: nearer ones move more when it turns; then it rolls and shifts."""

    def __init__(self, state: dict[str, float]) -> None:
        self.turn = np.sin([state["yaw"], state["pitch"]])
        roll = -state["roll"]
        self.roll = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        self.shift = np.array([state["x"], -state["y"]])

    def __call__(self, points: np.ndarray, depth: float) -> np.ndarray:
        return (points + depth * self.turn - NECK) @ self.roll.T + NECK + self.shift


def _back(style: Style, pose: _Pose, rng: np.random.Generator) -> list[Shape]:
    wide, top, _, chin = style.head[0], style.head[1], style.head[2], style.head[2]
    shapes = []
    if style.hair_cut == "long":
        long = _ellipse(0, 0.6, wide * 1.25, top + 1.3, 40)
        shapes.append(Shape("behind", pose(long, -0.3), style.hair))
    right = [(0.45, chin - 0.3), (0.5, 2.2), (2.2, 2.8), (2.4, 5.0)]
    shoulders = np.array(right + [(-x, y) for x, y in reversed(right)])
    neck = np.array([(-0.4, 0.8), (0.4, 0.8), (0.45, 2.6), (0, 3.0), (-0.45, 2.6)])
    shapes += [Shape("cloth", shoulders, style.cloth), Shape("neck", neck, style.skin * 0.93)]
    for side, name in ((-1, "ear0"), (1, "ear1")):
        ear = _ellipse(side * wide, 0.25, 0.2, 0.28, 16)
        shapes.append(Shape(name, pose(ear, -0.1), style.skin))
        shapes += _outline(name, pose(ear, -0.1), style)
    return shapes


def _head(style: Style, pose: _Pose, state: dict[str, float]) -> list[Shape]:
    wide, top, chin, power = style.head
    angle = np.arange(72) * (2 * np.pi / 72)
    cos, sin = np.cos(angle), np.sin(angle)
    x = wide * np.sign(cos) * np.abs(cos) ** (2 / power)
    y = np.sign(sin) * np.abs(sin) ** (2 / power)
    y = np.where(y < 0, top * y, chin * y + 0.3 * state["jawOpen"] * np.clip(y, 0, 1) ** 2)
    outline = pose(np.stack([x, y], 1), 0.0)
    shapes = [Shape("head", outline, style.skin)]
    if style.beard == "full":
        beard = np.stack([x * 0.98, np.maximum(y, 0.55 + 0.25 * (1 - np.abs(x / wide)))], 1)
        shapes.append(Shape("beard", pose(beard, 0.05), style.hair * 0.9))
    if style.blush:
        for side in (-1, 1):
            cheek = pose(_ellipse(side * 0.62, 0.62, 0.2, 0.13, 16), 0.15)
            shapes.append(Shape(f"blush{side}", cheek, style.skin * (1.0, 0.78, 0.78)))
    return [*shapes, *_outline("head", outline, style)]


def _eye(style: Style, pose: _Pose, state: dict[str, float], number: int) -> list[Shape]:
    side = 2 * number - 1
    rx, ry = style.eye_size
    name = f"eye{number}"
    opened = (1 - min(1.0, max(0.0, state["eyeBlink"]))) * (1 - 0.35 * state["eyeSquint"])
    opened *= 1 + 0.25 * state["eyeWide"]
    gaze = np.array([np.sin(state["gazeX"]), -np.sin(state["gazeY"])])
    ink = max(style.stroke, 0.025)
    if style.eye == "dot":
        dot = _ellipse(side * 0.5, 0, rx, max(ry * opened, 0.018), 24) + 0.12 * gaze
        shapes = [Shape(name, pose(dot, 0.2), style.ink)]
    else:
        rx, ry = (1.5 * rx, 1.5 * ry) if style.eye == "ball" else (1.9 * rx, 1.1 * ry)
        white = _ellipse(side * 0.5, 0, rx, ry, 32)
        # The upper lid comes down over the ball: its edge is an arc from corner to corner.
        t = np.linspace(-1, 1, 17)
        arc = np.sqrt(1 - t * t)
        edge = -ry * arc * (2 * min(opened, 1.0) - 1) * (0.9 + 0.1 * min(opened, 1.0))
        lid = np.stack([side * 0.5 + rx * t, edge], 1)
        brim = np.stack([side * 0.5 + 1.04 * rx * t, -1.06 * ry * arc - 0.01], 1)
        iris_size = min(rx, ry) * 0.62
        iris = _ellipse(side * 0.5, 0, iris_size, iris_size, 20) + 0.3 * gaze * (rx, ry)
        pupil = _ellipse(side * 0.5, 0, iris_size * 0.5, iris_size * 0.5, 12) + 0.3 * gaze * (
            rx,
            ry,
        )
        paper = np.full(3, 250.0)
        shapes = [
            Shape(name, pose(white, 0.2), paper),
            Shape(f"{name}iris", pose(iris, 0.2), style.iris, within=name),
            Shape(f"{name}pupil", pose(pupil, 0.2), style.ink, within=name),
            Shape(f"{name}lid", pose(np.concatenate([brim, lid[::-1]]), 0.2), style.skin * 0.95),
            Shape(f"{name}edge", pose(lid, 0.2), style.ink, 1.3 * ink),
            Shape(f"{name}below", pose(white[:17], 0.2), style.ink, 0.7 * ink),
        ]
    thick, above = style.brow
    if thick:
        t = np.linspace(-1, 1, 9)
        inner = -side * t  # 1 towards the nose
        lift = 0.14 * state["browInnerUp"] * (0.5 + 0.5 * inner)
        lift += 0.14 * state["browOuterUp"] * (0.5 - 0.5 * inner) - 0.13 * state["browDown"]
        y = -above - 0.07 * (1 - t * t) - lift
        brow = pose(np.stack([side * 0.5 + 0.3 * t, y], 1), 0.18)
        shapes.append(Shape(f"brow{number}", brow, style.hair * 0.7, thick))
    if style.glasses:
        rim = _ellipse(side * 0.5, 0.05, 0.42, 0.36, 33)
        shapes.append(Shape(f"rim{number}", pose(rim, 0.25), style.ink, 0.05))
    return shapes


def _nose(style: Style, pose: _Pose, rng: np.random.Generator) -> list[Shape]:
    low = 0.3 + 0.3 * style.mouth_y * rng.uniform(0.8, 1.2)
    wide = rng.uniform(0.08, 0.22)
    t = np.linspace(0, np.pi, 12)
    ink = max(style.stroke, 0.03)
    if style.nose == "hook":
        path = np.stack([wide * np.cos(t), low - 0.1 + 0.1 * np.sin(t)], 1)
    elif style.nose == "line":
        path = np.array([(0.0, 0.1), (0.06, low - 0.2), (0.12, low - 0.02), (0.0, low)])
    elif style.nose == "triangle":
        path = np.array([(0.0, low - 0.4), (wide, low), (-wide, low), (0.0, low - 0.4)])
    elif style.nose == "blob":
        blob = pose(_ellipse(0, low - 0.12, wide, 0.14, 20), 0.35)
        return [Shape("nose", blob, style.skin * (0.93, 0.8, 0.78))]
    elif style.nose == "dots":
        return [
            Shape(f"nostril{s}", pose(_ellipse(s * 0.1, low, 0.035, 0.03, 8), 0.3), style.ink)
            for s in (-1, 1)
        ]
    else:
        return []
    return [Shape("nose", pose(path, 0.32), style.ink, ink)]


def _mouth(style: Style, pose: _Pose, state: dict[str, float]) -> list[Shape]:
    """A mouth opens between two curves from corner to corner; lips lie along them, or a stroke does."""
    t = np.linspace(-1, 1, 25)
    bow = 1 - t * t
    jaw, pucker, funnel = state["jawOpen"], state["mouthPucker"], state["mouthFunnel"]
    smile, frown, stretch = state["mouthSmile"], state["mouthFrown"], state["mouthStretch"]
    gap = jaw * 0.62
    upper = 0.18 * gap + 0.09 * state["mouthUpperUp"] + 0.05 * funnel
    lower = 0.82 * gap + 0.1 * state["mouthLowerDown"] + 0.05 * funnel
    half = style.mouth_width / 2
    half *= max(0.25, 1 + 0.3 * smile + 0.2 * stretch - 0.5 * pucker - 0.35 * funnel - 0.15 * jaw)
    curve = style.curve + 0.16 * smile - 0.14 * frown
    middle = style.mouth_y + 0.15 * gap - 0.06 * state["mouthShrugLower"]
    line = middle - curve * (t * t - 0.5)
    ups, lows = line - upper * bow**0.7, line + lower * bow**0.7
    x = half * t
    inner = [np.stack([x, y], 1) for y in (ups, lows)]
    hollow = np.concatenate([inner[0], inner[1][::-1]])
    shapes = [Shape("hollow", pose(hollow, 0.22), style.hollow)]
    if style.teeth:
        high, low = np.stack([x, ups], 1), np.stack([x, line - 0.09 * bow + 0.12], 1)
        row = np.concatenate([high, low[::-1] - np.array([0.0, upper])])
        shapes.append(Shape("teeth", pose(row, 0.22), np.full(3, 248.0), within="hollow"))
    if style.tongue:
        tongue = _ellipse(0, middle + lower + 0.02, half * 0.6, 0.16, 24)
        shapes.append(
            Shape("tongue", pose(tongue, 0.22), np.array([215.0, 95, 100]), within="hollow")
        )
    roll_up, roll_low = (1 - 0.7 * state[f"mouthRoll{part}"] for part in ("Upper", "Lower"))
    thick = np.array([style.lips[0] * max(0.2, roll_up), style.lips[1] * max(0.2, roll_low)])
    thick = thick * (1 + 0.4 * pucker)
    if style.beard == "moustache":
        hair = np.stack([1.2 * x, ups - 0.06 - 0.1 * bow], 1)
        shape = np.concatenate([hair, hair[::-1] + np.array([0.0, 0.09])])
        shapes.append(Shape("moustache", pose(shape, 0.26), style.hair * 0.8))
    if style.mouth == "lips":
        round_ = np.sqrt(bow)
        dip = 0.25 * np.exp(-((t / 0.18) ** 2))
        outer = (ups - thick[0] * (round_ - dip * round_), lows + thick[1] * round_)
        for name, edge, out in zip(("upper", "lower"), inner, outer, strict=True):
            ring = np.concatenate([edge, np.stack([x, out], 1)[::-1]])
            shapes.append(
                Shape(name, pose(ring, 0.22), style.lip * (0.9 if name == "upper" else 1.0))
            )
        shapes.append(Shape("parting", pose(inner[0], 0.22), style.ink, 0.02))
    else:
        ink = max(style.stroke, 0.03)
        shapes += [
            Shape("upper", pose(inner[0], 0.22), style.ink, ink),
            Shape("lower", pose(inner[1], 0.22), style.ink, ink),
        ]
    return shapes


def _front(style: Style, pose: _Pose, rng: np.random.Generator) -> list[Shape]:
    """Hair that lies before the head."""
    wide, top = style.head[0], style.head[1]
    if style.hair_cut == "bald":
        return []
    low = -rng.uniform(0.55, 0.75) * top
    t = np.linspace(0, np.pi, 24)
    over = np.stack([-1.08 * wide * np.cos(t), -1.12 * top * np.sin(t) + 0.1], 1)
    fringe = np.linspace(1.05 * wide, -1.05 * wide, 24)
    y = low + 0.45 * top * np.abs(fringe / wide) ** rng.uniform(1.5, 4)
    if style.hair_cut == "spikes":
        over[1::2] *= 1.18
        y[::3] += 0.15
    shapes = []
    if style.hair_cut == "curls":
        for number, place in enumerate(over[2:-2:3]):
            curl = pose(_ellipse(*place, 0.35, 0.33, 16), 0.05)
            shapes += [
                Shape(f"curl{number}", curl, style.hair),
                *_outline(f"curl{number}", curl, style),
            ]
    cap = pose(np.concatenate([over, np.stack([fringe, np.minimum(y, 0.1)], 1)]), 0.06)
    return [*shapes, Shape("hair", cap, style.hair), *_outline("hair", cap, style)]


def _outline(name: str, corners: np.ndarray, style: Style) -> Sequence[Shape]:
    if not style.stroke:
        return ()
    closed = np.concatenate([corners, corners[:1]])
    return (Shape(f"{name}outline", closed, style.ink, style.stroke),)


def _ellipse(x: float, y: float, rx: float, ry: float, count: int) -> np.ndarray:
    angle = np.arange(count) * (2 * np.pi / (count - 1))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)
