"""Following one face through a film: where its shots change, and in which of its frames the face can be used.

Every few frames the product's own detector looks (faces.py), so that a face is framed as the app frames an
upload; between these its landmark net follows (landmarks.py).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mutual_forcing.codecs.face_mesh import EYES, LOWER_LIP, MOUTH, UPPER_LIP
from mutual_forcing.config import FPS
from mutual_forcing.faces import SIDE_IN_UNITS, Face, crop_of, find_faces, place
from mutual_forcing.landmarks import Landmarks, find_landmarks, follow_landmarks
from mutual_forcing.types import FaceCrop

LOOK_SIDE = 1280
"""Pixels on the longer side of the pictures that are looked at."""
FOLLOW_EVERY, FIND_EVERY, RETRY = 2, 12, 4
"""Frames from one look to the next, from one at which the whole picture is searched to the next, and where a
face has just been lost.
"""
AS_LARGE = 0.6
"""Second faces of so much of the first one's size, or more, may be the ones that speak."""
JUMP = 0.5
"""Distances of the eyes by which a face moves at most from one look to the next."""
MOST_MISSED = 3
"""Looks in a row in which a face may be lost."""
NO_FACE = "No face is seen."
WANDER, GROW = 1.0, 1.35
"""How far, in the same, a face may be from where it is in the middle of a clip, and how many times as large
or small as there: a clip has one crop.
"""
SHARPEST = 2.0
"""Squares with fewer pixels than those of a clip over this are too small."""
_SHOT_SIDE = 256
_LIPS = np.array([*(p for rim in MOUTH for p in rim), *UPPER_LIP, *LOWER_LIP])
_INNER_LIPS = ((13, 14), (82, 87), (312, 317))
_CORNERS = (EYES[0][0][0], EYES[0][0][-1], EYES[1][0][0], EYES[1][0][-1])


@dataclass(frozen=True)
class Look:
    """What was seen in one frame. fault: why it cannot be used, a sentence, or "". The rest is in pixels of
    the film: middle [2], the middle of the eyes; unit, their distance; lips [4], the box of the mouth
    (left, top, right, bottom); gap, between the inner lips in distances of the eyes; face: what the detector
    found, where it looked.
    """

    frame: int
    fault: str
    middle: np.ndarray | None = None
    unit: float = 0.0
    lips: np.ndarray | None = None
    gap: float = 0.0
    face: Face | None = None


@dataclass(frozen=True)
class Run:
    """Frames `first` to `end` (without) of one shot that are usable (fault ""), or why they are not."""

    first: int
    end: int
    fault: str
    looks: tuple[Look, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return (self.end - self.first) / FPS


class FaceWatch:
    """Looks at the frames of one film, in order, and tells at its end which runs of them can be used."""

    def __init__(self, scale: float, size: int) -> None:
        """scale: pixels of the film in one of the pictures that are looked at. size: pixels on each side of
        a clip.
        """
        from scenedetect.common import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        self._timecode, self._shots = FrameTimecode, AdaptiveDetector(min_scene_len=FPS // 2)
        self._scale, self._least = scale, size / SHARPEST
        self._cuts: list[int] = []
        self._looks: list[Look] = []
        self._count = 0
        self._before: Landmarks | None = None
        self._found_at = self._lost_at = -2 * FIND_EVERY
        self._fault = ""

    def see(self, picture: np.ndarray) -> None:
        """Take the next frame, uint8 RGB [H, W, 3], its longer side LOOK_SIDE pixels or less."""
        shrink = min(1.0, _SHOT_SIDE / max(picture.shape[:2]))
        small = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        moment = self._timecode(self._count, float(FPS))
        cuts = self._shots.process_frame(moment, cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        self._cuts += [cut.frame_num for cut in cuts]
        if cuts:
            self._before, self._found_at = None, -FIND_EVERY
        if self._count % FOLLOW_EVERY == 0:
            self._looks.append(self._look(picture))
        self._count += 1

    def _look(self, picture: np.ndarray) -> Look:
        frame, last = self._count, self._before
        after = last and follow_landmarks(picture, last)
        face = None
        if after is None and last is not None:
            self._lost_at = frame
        # A face that was followed and is no longer there is looked for at once, and soon again.
        soon = after is None and frame - self._lost_at <= FIND_EVERY
        if frame == self._lost_at or frame - self._found_at >= (RETRY if soon else FIND_EVERY):
            self._found_at = frame
            face, after = self._find(picture, after)
        self._before = after
        if after is None:
            return Look(frame, self._fault or NO_FACE)
        return _seen(frame, after, self._scale, self._fault, face)

    def _find(
        self, picture: np.ndarray, followed: Landmarks | None
    ) -> tuple[Face | None, Landmarks | None]:
        """The largest face, or the one that is followed, and its points; sets what is wrong with it."""
        faces = find_faces(picture)
        if not faces:
            self._fault = NO_FACE
            return None, None
        if followed is not None:
            at = _middle(followed)
            faces = tuple(sorted(faces, key=lambda face: math.dist(face.middle, at)))
        face, others = faces[0], faces[1:]
        if followed is not None and math.dist(face.middle, _middle(followed)) > face.unit:
            followed = None  # the net goes on where there is no face any more
        self._fault = self._fault_of(picture, face, others)
        points = followed or find_landmarks(picture, (face.left_eye, face.right_eye), face.mouth)
        if points is None:
            self._fault = self._fault or "The points of the face are not found."
        return face, points

    def _fault_of(self, picture: np.ndarray, face: Face, others: Sequence[Face]) -> str:
        side = SIDE_IN_UNITS * face.unit * self._scale
        if any(other.unit > AS_LARGE * face.unit for other in others):
            return "Another face is as large."
        if side < self._least:
            return (
                f"The face is too small: the square around it has {side:.0f} pixels a side where "
                f"{self._least:.0f} are needed."
            )
        try:
            place(picture, 0, (face,))
        except ValueError as error:
            return str(error)
        return ""

    def runs(self) -> list[Run]:
        """What the film falls into, shot by shot, in order."""
        borders = [0, *sorted(c for c in set(self._cuts) if 0 < c < self._count), self._count]
        return [
            run for first, end in itertools.pairwise(borders) for run in self._of_shot(first, end)
        ]

    def _of_shot(self, first: int, end: int) -> Iterator[Run]:
        parts: list[list[Look]] = []
        missed = 0
        for look in (look for look in self._looks if first <= look.frame < end):
            part = parts[-1] if parts else []
            if look.fault == NO_FACE and part and not part[-1].fault and missed < MOST_MISSED:
                missed += 1
                continue
            if not part or bool(part[-1].fault) != bool(look.fault) or _jumps(part[-1], look):
                parts.append([])
            parts[-1].append(look)
            missed = 0
        for index, part in enumerate(parts):
            begin = part[0].frame if index else first
            until = parts[index + 1][0].frame if index + 1 < len(parts) else end
            faults = Counter(look.fault for look in part)
            fault = faults.most_common(1)[0][0]
            yield Run(begin, until, fault, () if fault else tuple(part))


def steady_crop(looks: Sequence[Look], scale: float) -> FaceCrop:
    """The one square of a clip, in pixels of the film: as the app crops the face in the middle of its places.

    Raises ValueError for a face that moves too far for that.
    """
    faces = [look.face for look in looks if look.face is not None]
    if not faces:
        raise ValueError("The face is seen for too short a time.")
    points = np.median(
        [[face.left_eye, face.right_eye, face.mouth, face.nose] for face in faces], axis=0
    )
    left, right, mouth, nose = (tuple((scale * point).tolist()) for point in points)
    crop = crop_of(Face(left, right, mouth, nose, min(face.score for face in faces)))
    middle = np.median([look.middle for look in looks if look.middle is not None], axis=0)
    unit = float(np.median([look.unit for look in looks]))
    for look in looks:
        assert look.middle is not None
        away, grown = math.dist(look.middle, middle) / unit, look.unit / unit
        if away > WANDER or not 1 / GROW < grown < GROW:
            raise ValueError("The face moves too far for one steady picture.")
    return crop


def lips_in_crop(looks: Sequence[Look], crop: FaceCrop, frames: range) -> np.ndarray:
    """The box of the mouth in every frame, [T, 4]: middle and size in fractions of the square."""
    inverse = np.linalg.inv(crop.to_picture)
    boxes = []
    for look in looks:
        assert look.lips is not None
        left, top, right, bottom = look.lips
        corners = np.array([[left, top], [right, top], [left, bottom], [right, bottom]])
        within = ((corners - (crop.x, crop.y)) @ inverse.T + 1) / 2
        low, high = within.min(0), within.max(0)
        boxes.append([*((low + high) / 2), *(MOUTH_MARGIN * (high - low))])
    return _every_frame(looks, np.array(boxes), frames)


MOUTH_MARGIN = 1.3
"""The corpus's boxes are the lips' plus 30 %."""


def gaps_of(looks: Sequence[Look], frames: range) -> np.ndarray:
    """How far apart the inner lips are in every frame, [T], in distances of the eyes."""
    return _every_frame(looks, np.array([[look.gap] for look in looks]), frames)[:, 0]


def _every_frame(looks: Sequence[Look], values: np.ndarray, frames: range) -> np.ndarray:
    at = [look.frame for look in looks]
    return np.stack([np.interp(frames, at, column) for column in values.T], 1)


def _jumps(before: Look, after: Look) -> bool:
    """Whether a face that is seen in both is not where it can have moved."""
    if before.middle is None or after.middle is None:
        return False
    most = JUMP * before.unit * (after.frame - before.frame) / FOLLOW_EVERY
    return math.dist(before.middle, after.middle) > most


def _seen(frame: int, found: Landmarks, scale: float, fault: str, face: Face | None) -> Look:
    points, unit = found.points, _unit(found)
    lips = points[_LIPS]
    gap = float(np.mean([np.linalg.norm(points[a] - points[b]) for a, b in _INNER_LIPS])) / unit
    box = scale * np.concatenate([lips.min(0), lips.max(0)])
    return Look(frame, fault, scale * _middle(found), scale * unit, box, gap, face)


def _middle(found: Landmarks) -> np.ndarray:
    return found.points[list(_CORNERS)].mean(0)


def _unit(found: Landmarks) -> float:
    a, b, c, d = found.points[list(_CORNERS)]
    return float(np.linalg.norm((a + b) / 2 - (c + d) / 2))
