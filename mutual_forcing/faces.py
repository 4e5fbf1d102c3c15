"""The faces of any picture - photographs, paintings, drawings - and the square that is animated.

The detector is YuNet (53 104 numbers, MIT, see NOTICE), run by PyTorch on several sizes of the picture: large
ones show small heads, small ones show drawn faces, whose lines and flat colours look like a face only when
they are blurred together. What several sizes agree on counts more than what one of them sees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from .types import FaceCrop

SIDE_IN_UNITS = 5.0
"""The animated square's side in eye distances."""
EYES_AT = 0.43
"""How far down the square the eyes lie, of its height."""
USUAL, SHORTEST = 0.85, 0.5
"""Mouths that lie closer to the eyes than so much of the usual way, as drawn ones do, are drawn away from
them for the model, at most to twice the way.
"""
MIN_UNIT = 8.0
"""Pixels between the eyes below which too little of a face is left to animate."""

_WEIGHTS = Path(__file__).with_name("assets") / "yunet.safetensors"
_STRIDES = (8, 16, 32)
_SIDES = (640, 320, 160, 128)
"""Long sides, in pixels, of the pictures that are searched."""
_TURNED_SIDES = (320, 160, 128)
_TILE = 640
_MENTIONED = 0.25
"""What one size must give a place for it to be looked at further."""
_FOUND = 0.75
"""What all sizes together must give: `1 - product(1 - score)`. Measured: 53 of 59 drawn characters of 13
styles and all of 45 photographs lie above, 126 of 136 pictures without people below."""
MOST_FACES = 8
MOUTH_BELOW_EYES = 1.1
"""Eye distances from the middle of the eyes to the mouth, in a face seen from the front."""
_LIPS_BELOW_CORNERS = 0.06
"""Eye distances from the middle of the mouth's corners to where the lips meet, measured."""


@dataclass(frozen=True)
class Face:
    """One face; points (x, y) in pixels of the picture, x to the right, y down.

    left_eye is the one on the picture's left when the head is upright; mouth is the middle of the mouth.
    score: how sure the detector is, 0 to 1.
    """

    left_eye: tuple[float, float]
    right_eye: tuple[float, float]
    mouth: tuple[float, float]
    nose: tuple[float, float]
    score: float

    @property
    def middle(self) -> tuple[float, float]:
        """The middle of the eyes."""
        (ax, ay), (bx, by) = self.left_eye, self.right_eye
        return (ax + bx) / 2, (ay + by) / 2

    @property
    def unit(self) -> float:
        """The eye distance in pixels, as it would be if the head were not turned to the side."""
        apart = math.dist(self.left_eye, self.right_eye)
        return max(apart, math.dist(self.middle, self.mouth) / MOUTH_BELOW_EYES)

    @property
    def angle(self) -> float:
        """Radians, clockwise in the picture, of the line from the left eye to the right one."""
        (ax, ay), (bx, by) = self.left_eye, self.right_eye
        return math.atan2(by - ay, bx - ax)


@dataclass(frozen=True)
class Placement:
    """What is animated: the square, all faces (largest first), which of them, and a warning or "".

    index is None where no face was found and the square is a guess.
    """

    crop: FaceCrop
    faces: tuple[Face, ...]
    index: int | None
    note: str


def find_faces(picture: np.ndarray) -> tuple[Face, ...]:
    """Return the faces of uint8 RGB [H, W, 3], the largest first, whichever way up they are.

    Raises ValueError when the picture has another shape or type.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError("The picture must be an array of 8-bit RGB pixels [H, W, 3].")
    image = Image.fromarray(picture)
    places = _search(image, _SIDES) or _search_turned(image) or _search_tiles(image)
    places = sorted(places, key=lambda place: -place.size)[:MOST_FACES]
    faces: list[Face] = []
    for place in places:
        # People in one picture are rarely upside down to each other: the largest one tells.
        turns = _TURNS if not faces else faces[0].angle + _NEAR_TURNS
        faces.append(_placed(image, place, turns))
    return tuple(sorted(_distinct(faces), key=lambda face: -face.unit))


def crop_of(face: Face) -> FaceCrop:
    """Return the square around a face, turned as the face is, so that the cropped face is upright."""
    side, angle = SIDE_IN_UNITS * face.unit, face.angle
    below = math.dist(face.middle, face.mouth) / (MOUTH_BELOW_EYES * face.unit)
    tall = min(1.0, max(SHORTEST, below / USUAL))
    down = (0.5 - EYES_AT) * side * tall
    x, y = face.middle
    return FaceCrop(x - math.sin(angle) * down, y + math.cos(angle) * down, side, angle, tall)


def place(picture: np.ndarray, index: int = 0, faces: tuple[Face, ...] | None = None) -> Placement:
    """Return what is animated in uint8 RGB [H, W, 3]: face `index`, 0 being the largest.

    faces: those that `find_faces` has found, if it was asked before. Without any face the square is a guess
    and the note says so. Raises ValueError, in one sentence that says what to do, for a face that is too
    small, cut off, too large or seen from the side, and for an index that does not exist.
    """
    faces = find_faces(picture) if faces is None else faces
    if not faces:
        return Placement(_guess(picture), (), None, _NO_FACE)
    if not 0 <= index < len(faces):
        raise ValueError(_no_such_face(index, len(faces)))
    face = faces[index]
    _check_size(face)
    _check_inside(face, picture.shape[1], picture.shape[0])
    _check_frontal(face)
    return Placement(crop_of(face), faces, index, "")


_NO_FACE = (
    "No face was found in this picture; the square marks a guess and the result may look odd, "
    "so choose a picture in which a face is seen clearly from the front."
)


def _no_such_face(index: int, count: int) -> str:
    found = "one face" if count == 1 else f"{count} faces"
    return f"There is no face number {index + 1}: the picture shows {found}; choose another."


def _check_size(face: Face) -> None:
    if face.unit < MIN_UNIT:
        raise ValueError(
            f"The face is too small, its eyes are {face.unit:.0f} pixels apart where "
            f"{MIN_UNIT:.0f} are needed at least; use a larger picture or cut it closer to the head."
        )


def _check_inside(face: Face, width: int, height: int) -> None:
    """Eyes and mouth must lie inside, and so must a good part of the forehead and the chin."""
    unit, (x, y) = face.unit, face.middle
    down = np.array([-math.sin(face.angle), math.cos(face.angle)])
    needed = {"eyes": (face.left_eye, face.right_eye), "mouth": (face.mouth,)}
    needed["forehead"] = (tuple((x, y) - 0.35 * unit * down),)
    needed["chin"] = (tuple(np.array(face.mouth) + 0.2 * unit * down),)
    for name, points in needed.items():
        if not all(0 <= px < width and 0 <= py < height for px, py in points):
            raise ValueError(
                f"The face is cut off by the picture's border (the {name}); use a picture that shows "
                "the whole head with some space around it."
            )


def _check_frontal(face: Face) -> None:
    """Both eyes must be seen: in a profile they lie close together, or on one side of the nose."""
    eyes = np.subtract(face.right_eye, face.left_eye)
    apart = float(np.linalg.norm(eyes))
    across = eyes / max(apart, 1e-6)
    nose = float(np.dot(np.subtract(face.nose, face.middle), across))
    if apart < 0.45 * face.unit or abs(nose) > 0.62 * apart:
        raise ValueError(
            "The face is seen from the side and only one eye shows; use a picture in which it looks "
            "towards you."
        )


# --- searching ---


@dataclass(frozen=True)
class _Seen:
    """A place in a picture: box [4] (left, top, right, bottom) and how much it looks like a face, 0..1."""

    box: np.ndarray
    score: float

    @property
    def centre(self) -> np.ndarray:
        return (self.box[:2] + self.box[2:]) / 2

    @property
    def size(self) -> float:
        return float(np.sqrt(np.prod(np.maximum(self.box[2:] - self.box[:2], 1e-6))))


def _search(image: Image.Image, sides: Sequence[int]) -> list[_Seen]:
    """Return the faces in a picture brought to all `sides`; a score is that of all sides together."""
    groups: list[dict[int, _Seen]] = []
    for side in sides:
        for seen in _look(image, side):
            group = next((g for g in groups if side not in g and _same(g, seen)), None)
            if group is None:
                groups.append({side: seen})
            else:
                group[side] = seen
    found = []
    for group in groups:
        best = max(group.values(), key=lambda seen: seen.score)
        score = 1 - math.prod(1 - seen.score for seen in group.values())
        found.append(_Seen(best.box, score))
    kept: list[_Seen] = []
    for seen in sorted(found, key=lambda seen: -seen.score):
        if seen.score >= _FOUND and not any(_overlap(seen, other) for other in kept):
            kept.append(seen)
    return kept


def _same(group: Mapping[int, _Seen], seen: _Seen) -> bool:
    other = next(iter(group.values()))
    near = np.linalg.norm(other.centre - seen.centre) < 0.4 * max(other.size, seen.size)
    return bool(near and 0.5 < other.size / seen.size < 2)


def _overlap(a: _Seen, b: _Seen) -> bool:
    """Whether two places are one face: one's centre in the other's box, or a third of them in common."""
    for one, other in ((a, b), (b, a)):
        if np.all(other.box[:2] < one.centre) and np.all(one.centre < other.box[2:]):
            return True
    return _shared(a.box, b.box) > 0.3


def _shared(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes [4]."""
    common = np.prod(np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])))
    return float(common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common + 1e-9))


def _face(points: np.ndarray, score: float) -> Face:
    """Build a face from [5, 2] points: left eye, right eye, nose, corners of the mouth."""
    across = points[1] - points[0]
    mouth = (points[3] + points[4]) / 2 + _LIPS_BELOW_CORNERS * np.array([-across[1], across[0]])
    left, right, nose, mouth = ((float(x), float(y)) for x, y in (*points[:3], mouth))
    return Face(left, right, mouth, nose, float(score))


def _search_turned(image: Image.Image) -> list[_Seen]:
    """Look for faces in the picture turned by a quarter, a half and three quarters."""
    best: list[_Seen] = []
    for quarters, turn in _QUARTERS.items():
        found = _search(image.transpose(turn), _TURNED_SIDES)
        if max((f.score for f in found), default=0) > max((b.score for b in best), default=0):
            best = [
                _Seen(_turn_back(seen.box, quarters, *image.size), seen.score) for seen in found
            ]
    return best


_QUARTERS = {
    1: Image.Transpose.ROTATE_90,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
}


def _turn_back(box: np.ndarray, quarters: int, width: int, height: int) -> np.ndarray:
    """Undo `quarters` counter-clockwise quarter turns of a picture of `width` x `height`."""
    left, top, right, bottom = box
    if quarters == 1:
        return np.array([width - bottom, left, width - top, right])
    if quarters == 2:
        return np.array([width - right, height - bottom, width - left, height - top])
    return np.array([top, height - right, bottom, height - left])


def _search_tiles(image: Image.Image) -> list[_Seen]:
    """Look at a large picture's own pixels, piece by piece."""
    found: list[_Seen] = []
    if max(image.size) <= 1.25 * _TILE:
        return found
    for top in _starts(image.height):
        for left in _starts(image.width):
            right, bottom = min(left + _TILE, image.width), min(top + _TILE, image.height)
            tile = image.crop((left, top, right, bottom))
            for seen in _search(tile, (max(tile.size), 320)):
                place = _Seen(seen.box + np.array([left, top, left, top]), seen.score)
                if not any(_overlap(place, other) for other in found):
                    found.append(place)
    return found


def _starts(length: int) -> list[int]:
    last = max(0, length - _TILE)
    return sorted({*range(0, last, _TILE * 3 // 4), last})


def _distinct(faces: Sequence[Face]) -> list[Face]:
    """Drop faces whose eyes lie near a surer face's."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(math.dist(face.middle, k.middle) > 0.6 * max(face.unit, k.unit) for k in kept):
            kept.append(face)
    return kept


# --- placing the points ---

_TURNS = np.arange(12) * (math.pi / 6)
_NEAR_TURNS = np.arange(-2, 3) * (math.pi / 6)
_JUDGED = ((96, 5.5), (128, 7.0))
"""Pixels a side and eye distances a side of the views in which the way up is judged."""
_POINTED = (160, 7.0)
"""The same of the view from which the points are taken."""
_UPRIGHT_BONUS = 0.75
"""How much "upright", as most pictures are, counts where the network is unsure (times its doubt squared):
with this no photograph or painting of 95 and 3 of 52 drawings are turned wrongly, and none of the 95 when
they come on their side or upside down."""


def _placed(image: Image.Image, place: _Seen, turns: np.ndarray) -> Face:
    """Return the face at a place, which may be turned by any of `turns` (radians, evenly spaced).

    The network hardly sees how far a head is tilted, but likes upright heads best: so the head is turned
    until it looks most like a face, and the points are taken from there, the mean of the view and its mirror.
    """
    unit, middle = _UNIT_OF_BOX * place.size, place.centre
    angle = _way_up(image, unit, middle, turns)
    points = None
    for _ in range(2):  # the second look is at a better middle, size and angle
        view = _View.around(middle, unit, angle, *_POINTED)
        seen = _points(view, view.cut(image))
        if seen is None:
            break
        points = seen
        face = _face(points, place.score)
        unit, angle = face.unit, face.angle
        middle = (np.array(face.middle) + face.mouth) / 2
    if points is None:
        points = _View.around(middle, unit, angle, 1, 1.0).out(_TYPICAL)
    return _face(points, place.score)


_UNIT_OF_BOX = 0.4
"""Eye distances in the side of the network's box."""
_TYPICAL = np.array([[-0.5, -0.55], [0.5, -0.55], [0, 0.1], [-0.4, 0.5], [0.4, 0.5]]) + 0.5
"""Where the points lie in a view one eye distance wide around the middle of eyes and mouth."""


def _way_up(image: Image.Image, unit: float, middle: np.ndarray, turns: np.ndarray) -> float:
    """Return the angle among `turns`, and between them, at which the place looks most like a face."""
    liking = np.zeros(len(turns))
    for size, across in _JUDGED:
        views = [_View.around(middle, unit, angle, size, across) for angle in turns]
        seen = _run([view.cut(image) for view in views], 0.02)
        liking += np.array([_nearest(*found, size)[0] for found in seen]) / len(_JUDGED)
    liking += _UPRIGHT_BONUS * (1 - liking.max()) ** 2 * (1 + np.cos(turns)) / 2
    best = int(liking.argmax())
    around = (best + np.array([-1, 0, 1])) % len(turns)
    if len(turns) < len(_TURNS) and best in (0, len(turns) - 1):
        return float(turns[best])
    before, at, after = liking[around]
    bend = 2 * at - before - after
    shift = (after - before) / (2 * bend) if bend > 1e-6 else 0.0
    return float(turns[best] + float(np.clip(shift, -0.5, 0.5)) * (turns[1] - turns[0]))


def _nearest(
    boxes: np.ndarray, places: np.ndarray, scores: np.ndarray, size: int
) -> tuple[float, np.ndarray | None]:
    """Return the score and points of what looks most like a face near the middle of a view."""
    away = np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - size / 2, axis=1) / size
    near = np.flatnonzero(away < 0.2)
    if not len(near):
        return 0.0, None
    best = near[(scores[near] - away[near]).argmax()]
    return float(scores[best]), places[best]


def _points(view: _View, picture: Image.Image) -> np.ndarray | None:
    """Return a face's points [5, 2] in pixels of the whole picture, or None."""
    seen = _run([picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)], 0.02)
    plain, mirrored = (_nearest(*found, view.size)[1] for found in seen)
    if plain is None or mirrored is None:
        return None
    mirrored = mirrored[[1, 0, 2, 4, 3]] * (-1, 1) + (view.size, 0)
    return view.out((plain + mirrored) / 2)


@dataclass(frozen=True)
class _View:
    """A turned square of a picture, `size` pixels a side; its pixel p is the picture's turn @ p + corner."""

    turn: np.ndarray
    corner: np.ndarray
    size: int

    @staticmethod
    def around(middle: np.ndarray, unit: float, angle: float, size: int, across: float) -> _View:
        """A square `across` units wide around the middle, turned clockwise by `angle`."""
        cos, sin = math.cos(angle), math.sin(angle)
        turn = across * unit / size * np.array([[cos, -sin], [sin, cos]])
        return _View(turn, np.asarray(middle) - turn @ (size / 2, size / 2), size)

    def out(self, points: np.ndarray) -> np.ndarray:
        """Return points [N, 2] of the view in pixels of the picture."""
        return points @ self.turn.T + self.corner

    def cut(self, image: Image.Image) -> Image.Image:
        """Return what the view shows; outside the picture is black."""
        return _cut(image, self.turn, self.corner, self.size)


def _cut(image: Image.Image, turn: np.ndarray, corner: np.ndarray, size: int) -> Image.Image:
    """Return [size, size]: its pixel p shows the picture at turn @ p + corner."""
    factor = max(1, int(np.linalg.norm(turn[:, 0]) / 1.5))
    reach = np.array([turn @ p for p in ((0, 0), (size, 0), (0, size), (size, size))]) + corner
    low = np.maximum(0, np.floor(reach.min(0))).astype(int)
    high = np.minimum(image.size, np.ceil(reach.max(0))).astype(int)
    if np.any(high - low < factor):
        return Image.new("RGB", (size, size))
    part = image.crop((*low.tolist(), *high.tolist())).reduce(factor)
    (a, b), (c, d) = turn / factor
    x, y = (corner - low) / factor
    return part.transform(
        (size, size), Image.Transform.AFFINE, (a, b, x, c, d, y), Image.Resampling.BILINEAR
    )


# --- the network ---


def _look(image: Image.Image, side: int) -> list[_Seen]:
    """Return what is seen in the picture brought to `side` pixels, in the picture's own pixels."""
    scale = side / max(image.size)
    size = [max(1, round(length * scale)) for length in image.size]
    small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    boxes, _, scores = _run([small], _MENTIONED)[0]
    shrink = np.array(image.size) / size
    seen = [
        _Seen(box * np.tile(shrink, 2), float(score))
        for box, score in zip(boxes, scores, strict=True)
    ]
    kept: list[_Seen] = []
    for one in sorted(seen, key=lambda one: -one.score):
        if all(_shared(one.box, other.box) < 0.3 for other in kept):
            kept.append(one)
    return kept


@torch.inference_mode()
def _run(
    images: Sequence[Image.Image], least: float
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return boxes [N, 4], points [N, 5, 2] and scores [N] of at least `least` for pictures of one size."""
    width, height = images[0].size
    pixels = np.zeros((len(images), -(-height // 32) * 32, -(-width // 32) * 32, 3), np.float32)
    for row, image in enumerate(images):
        pixels[row, :height, :width] = np.asarray(image)[..., ::-1]  # the network wants BGR
    levels = _network(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    return [_decode([{k: v[row] for k, v in level.items()} for level in levels], least)
            for row in range(len(images))]  # fmt: skip


def _decode(
    levels: Sequence[Mapping[str, Tensor]], least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes, points, scores = [], [], []
    for stride, level in zip(_STRIDES, levels, strict=True):
        score = (level["face"].sigmoid() * level["object"].sigmoid()).sqrt()[0].numpy()
        row, column = np.nonzero(score >= least)
        cell = np.stack([column, row], 1)
        box, place = (level[name].numpy()[:, row, column].T for name in ("box", "points"))
        centre, half = cell + box[:, :2], np.exp(box[:, 2:]) / 2
        boxes.append(np.concatenate([centre - half, centre + half], 1) * stride)
        points.append((place.reshape(-1, 5, 2) + cell[:, None]) * stride)
        scores.append(score[row, column])
    return np.concatenate(boxes), np.concatenate(points), np.concatenate(scores)


def _network(x: Tensor) -> list[dict[str, Tensor]]:
    """YuNet: [B, 3, H, W] of 0..255, sides multiples of 32, to maps at a stride of 8, 16 and 32 pixels."""
    weights = _weights()
    x = x.contiguous(memory_format=torch.channels_last)
    x = F.conv2d(x, weights["stem.weight"], weights["stem.bias"], stride=2, padding=1).relu_()
    levels = []
    for block in range(6):
        if block in (1, 3, 4, 5):
            x = F.max_pool2d(x, 2)
        for part in "ab" if block else "a":
            x = _pair(x, f"backbone.{block}.{part}").relu_()
        if block >= 3:
            levels.append(x)
    above = None
    for level in (2, 1, 0):
        if above is not None:
            levels[level] = levels[level] + F.interpolate(above, scale_factor=2.0)
        above = levels[level] = _pair(levels[level], f"neck.{level}").relu_()
    heads = ("face", "object", "box", "points")
    return [{head: _pair(x, f"{head}.{level}") for head in heads} for level, x in enumerate(levels)]


def _pair(x: Tensor, name: str) -> Tensor:
    """A convolution across channels, then one within each channel."""
    weights = _weights()
    x = F.conv2d(x, weights[f"{name}.point.weight"], weights[f"{name}.point.bias"])
    within = weights[f"{name}.depth.weight"]
    return F.conv2d(x, within, weights[f"{name}.depth.bias"], padding=1, groups=len(within))


@lru_cache(maxsize=1)
def _weights() -> dict[str, Tensor]:
    return load_file(str(_WEIGHTS))


# --- no face at all ---

_GUESS_SIDE = 96
"""The long side while guessing: enough to find a figure."""


def _guess(picture: np.ndarray) -> FaceCrop:
    """Return the square, as wide as possible, that holds most of the figure's upper part.

    It slides along the longer side only, to where the picture differs from its own border and has skin-like
    colours; on tall pictures the upper of equally good places wins, where heads are.
    """
    height, width = picture.shape[:2]
    side = min(height, width)
    if height == width:
        return FaceCrop(width / 2, height / 2, side)
    tall = height > width
    profile = _profile(_interest(_reduced(picture)), tall)
    steps = max(1, len(profile) * side // max(height, width))
    start = _best_window(profile, steps, upper=tall) * max(height, width) / len(profile)
    middle = min(start, max(height, width) - side) + side / 2
    return FaceCrop(side / 2, middle, side) if tall else FaceCrop(middle, side / 2, side)


def _reduced(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture)
    image.thumbnail((_GUESS_SIDE, _GUESS_SIDE), Image.Resampling.BOX)
    return np.asarray(image, np.float32) / 255


def _interest(pixels: np.ndarray) -> np.ndarray:
    """How much each pixel of [H, W, 3] looks like a figure: [H, W], from 0 up."""
    border = np.concatenate([pixels[0], pixels[:, 0], pixels[:, -1]])  # not the bottom: shoulders
    away = np.abs(pixels - np.median(border, axis=0)).max(-1)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    # A wide range of skin: redder than green, greener than blue, neither black nor white.
    skin = (red > green) & (green > 0.9 * blue) & (red - blue > 0.06) & (red > 0.2) & (blue < 0.9)
    # A brown wall is no skin: only what also differs from the border counts.
    return away * (1 + 2 * (skin & (away > 0.1)))


def _profile(interest: np.ndarray, tall: bool) -> np.ndarray:
    rows = interest.sum(1 if tall else 0)
    return np.maximum(0, rows - 0.25 * rows.max())


def _best_window(profile: np.ndarray, length: int, upper: bool) -> int:
    """Where a window of `length` holds most of the profile; among near-equals the upper or middle."""
    sums = np.convolve(profile, np.ones(length), "valid")
    good = np.flatnonzero(sums >= (0.8 if upper else 0.97) * sums.max())
    if not upper:
        return int(good[len(good) // 2])
    # The head's top, with a little air above it, rather than the middle of the body.
    top = np.flatnonzero(profile > 0)
    first = max(0, int(top[0]) - length // 10) if len(top) else 0
    return int(good[np.abs(good - first).argmin()])
