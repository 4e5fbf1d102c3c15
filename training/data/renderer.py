"""Draws talking heads: a `Look` and a `Performance` in, frames with exact ground truth out.

A small OpenGL rasteriser on EGL (llvmpipe without a GPU): vertices and normals are computed with
NumPy for a batch of frames, posing and shading happen in the shaders, and every frame is drawn
at `samples` times the size and filtered down.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.data import look_geometry, look_paint
from training.data.geometry import PIVOT, NormalSolver, on_screen, rotation_matrices
from training.data.head_model import PARTS, UNIT_NAMES, HeadModel, load_head_model
from training.data.landmarks import facing, landmark_vertices, project, tracked_vertices
from training.data.looks import STYLES, Look

__all__ = ["Performance", "Rendered", "Renderer"]

WIDE_OPEN = 0.5
IN_VIEW = 0.15
"""Least cosine between a surface and the way to the camera for what is seen of it."""
BATCH_FRAMES = 32
_SHADERS = Path(__file__).with_name("shaders")
_MATERIALS = ("skin", "eye", "cloth", "hair", "plain")
_ATTRIBUTES = ("position", "normal", "rest", "extra", "direction")


@dataclass(frozen=True)
class Performance:
    """Motion of T frames at 25 frames a second.

    units float32 [T, 52] in `UNIT_NAMES` order, about 0..1; rotation float32 [T, 3] yaw (to the
    picture's right), pitch (down) and roll in radians; translation float32 [T, 3] in eye
    distances; gaze float32 [T, 2] yaw and pitch (up) in radians away from the camera: zero looks
    into it, however the head is turned. Raises ValueError for wrong shapes or no frames.
    """

    units: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    gaze: np.ndarray

    def __post_init__(self) -> None:
        frames = len(self.units)
        wanted = {"units": len(UNIT_NAMES), "rotation": 3, "translation": 3, "gaze": 2}
        for name, width in wanted.items():
            if frames == 0 or getattr(self, name).shape != (frames, width):
                raise ValueError(f"A performance needs {name} of shape [T, {width}] with T > 0.")


@dataclass(frozen=True)
class Rendered:
    """frames uint8 [T, size, size, 3]; mouth_openness float32 [T], 0 closed, about 1 wide open,
    at most 1.5; mouth_box float32 [T, 4] (cx, cy, w, h), landmarks float32 [T, 64, 2], tracked float32
    [T, 384, 2] and eyes float32 [T, 2, 2] (x, y) in fractions of the picture, y down; in_view bool [T, 384]:
    which of the tracked points face the camera."""

    frames: np.ndarray
    mouth_openness: np.ndarray
    mouth_box: np.ndarray
    landmarks: np.ndarray
    tracked: np.ndarray
    in_view: np.ndarray
    eyes: np.ndarray


class Renderer:
    """Draws square pictures of `size` pixels with `samples` x `samples` samples per pixel.

    Raises ValueError for sizes below 16 or samples outside 1..4. Not thread-safe; one per process.
    """

    def __init__(self, size: int, samples: int = 2) -> None:
        if size < 16 or not 1 <= samples <= 4:
            raise ValueError("A renderer needs a size of at least 16 and 1 to 4 samples.")
        # One llvmpipe thread per process: the corpus is rendered by several processes.
        os.environ.setdefault("LP_NUM_THREADS", "1")
        import moderngl

        self.size, self.samples = size, samples
        self.model = load_head_model()
        self._normals = NormalSolver(self.model.quads, len(self.model.mean))
        self._context = moderngl.create_standalone_context(backend="egl")
        self._programs = self._build_programs()
        self._targets = self._build_targets()
        corners = np.array([-1, -1, 3, -1, -1, 3], np.float32)
        self._corners = self._context.buffer(corners.tobytes())
        self._screens = {
            name: self._context.vertex_array(self._programs[name], self._corners, "corner")
            for name in ("background", "outline", "downsample")
        }
        self._noise = self._build_noise()
        self._scene: _Scene | None = None

    def close(self) -> None:
        """Free the OpenGL context; the renderer cannot be used afterwards."""
        self._drop_scene()
        self._context.release()

    def render(self, look: Look, performance: Performance) -> Rendered:
        """Draw every frame; the same arguments give the same picture on the same machine.

        Raises ValueError for an unknown style.
        """
        if look.style not in STYLES:
            raise ValueError(f"Unknown style {look.style!r}; choose one of {', '.join(STYLES)}.")
        scene = self._prepare(look)
        frames, openness, boxes, places = [], [], [], []
        for start in range(0, len(performance.units), BATCH_FRAMES):
            span = slice(start, start + BATCH_FRAMES)
            vertices = scene.base + _deform(self.model, performance.units[span])
            normals = self._normals(vertices)
            openness.append(_openness(self.model, vertices, scene.base))
            pose = _Pose(performance.rotation[span], performance.translation[span])
            boxes.append(_mouth_box(self.model, vertices, pose, scene.matrix))
            places.append(_places(self.model, vertices, normals, pose, scene))
            for index in range(len(vertices)):
                gaze = _gaze(scene.camera, performance.gaze[start + index])
                scene.body.write(np.concatenate([vertices[index], normals[index]], axis=1))
                self._draw(scene, pose.rotation[index], pose.translation[index], gaze)
                frames.append(self._read())
        truth = (np.concatenate(part) for part in (openness, boxes, *zip(*places, strict=True)))
        return Rendered(np.stack(frames), *truth)

    def _build_programs(self) -> dict[str, Any]:
        source = {path.stem: path.read_text() for path in _SHADERS.glob("*.glsl")}
        head = "#version 330\n" + source["light"]
        programs = {
            name: self._context.program(source["vertex"], head + source[name])
            for name in _MATERIALS
        }
        for name in ("background", "outline", "downsample"):
            programs[name] = self._context.program(source["screen"], source[name])
        return programs

    def _build_targets(self) -> dict[str, Any]:
        context, large = self._context, (self.size * self.samples,) * 2
        color, shape, inked = (context.texture(large, 4) for _ in range(3))
        small = context.texture((self.size,) * 2, 4)
        shape.filter = (0x2600, 0x2600)
        depth = context.depth_renderbuffer(large)
        return {
            "color": color,
            "shape": shape,
            "inked": inked,
            "scene": context.framebuffer([color, shape], depth),
            "natural": context.framebuffer([color], depth),
            "ink": context.framebuffer([inked]),
            "small": context.framebuffer([small]),
        }

    def _build_noise(self) -> Any:
        values = np.random.default_rng(11).random((256, 256))
        spread = np.fft.rfft2(values)
        frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
        smooth = np.fft.irfft2(spread * np.exp(-((frequency * 9) ** 2)), s=(256, 256))
        smooth = np.clip((smooth - smooth.mean()) / smooth.std() * 0.22 + 0.5, 0, 1)
        texture = self._context.texture((256, 256), 1, (smooth * 255).astype(np.uint8).tobytes())
        # Plain bilinear: mip levels cost more than the slight shimmer is worth.
        texture.filter = (0x2601, 0x2601)
        return texture

    def _prepare(self, look: Look) -> _Scene:
        """Upload everything that stays the same within a look; kept until another look comes."""
        if self._scene is not None and self._scene.look == look:
            return self._scene
        self._drop_scene()
        self._scene = _build_scene(self, look)
        return self._scene

    def _drop_scene(self) -> None:
        if self._scene is not None:
            for resource in self._scene.resources:
                resource.release()
        self._scene = None

    def _draw(
        self, scene: _Scene, rotation: np.ndarray, translation: np.ndarray, gaze: np.ndarray
    ) -> None:
        context, targets = self._context, self._targets
        # Only outlines need the second target.
        scene_target = targets["natural" if scene.look.style == "natural" else "scene"]
        scene_target.use()
        scene_target.clear(depth=1.0)
        context.disable(context.DEPTH_TEST)
        scene.background.use(0)
        self._screens["background"].render(vertices=3)
        context.enable(context.DEPTH_TEST)
        scene.face.use(0)
        self._noise.use(1)
        for name in _MATERIALS:
            program = self._programs[name]
            _set(program, "rotation", tuple(rotation))
            _set(program, "translation", tuple(translation))
        _set(self._programs["eye"], "gaze", tuple(gaze))
        for name, array in scene.arrays:
            # Skin is closed, so its far side never shows; lashes, hair and cloth are not.
            (context.enable if name == "skin" else context.disable)(context.CULL_FACE)
            array.render()
        context.disable(context.CULL_FACE)
        context.disable(context.DEPTH_TEST)
        source = targets["color"]
        if scene.look.style != "natural":
            targets["ink"].use()
            targets["color"].use(0)
            targets["shape"].use(1)
            self._screens["outline"].render(vertices=3)
            source = targets["inked"]
        targets["small"].use()
        source.use(0)
        self._screens["downsample"].render(vertices=3)

    def _read(self) -> np.ndarray:
        data = self._targets["small"].read(components=3, alignment=1)
        return np.frombuffer(data, np.uint8).reshape(self.size, self.size, 3)[::-1]


@dataclass(frozen=True)
class _Pose:
    rotation: np.ndarray
    translation: np.ndarray


@dataclass(frozen=True)
class _Scene:
    """GPU resources and camera of one look."""

    look: Look
    base: np.ndarray
    matrix: np.ndarray
    camera: np.ndarray
    body: Any
    face: Any
    background: Any
    arrays: list[tuple[str, Any]]
    resources: list[Any]


def _deform(model: HeadModel, units: np.ndarray) -> np.ndarray:
    """Offsets [T, V, 3] by the face units that move at all."""
    used = np.flatnonzero(np.any(units != 0, axis=0))
    count = len(model.mean)
    basis = model.units[used].reshape(len(used), 3 * count)
    return (units[:, used].astype(np.float32) @ basis).reshape(len(units), count, 3)


def _openness(model: HeadModel, vertices: np.ndarray, base: np.ndarray) -> np.ndarray:
    upper, lower = model.lips
    gap = np.linalg.norm(vertices[:, upper] - vertices[:, lower], axis=-1)
    sign = vertices[:, upper, 1] > vertices[:, lower, 1]
    rest = np.linalg.norm(base[upper] - base[lower])
    return np.clip((gap * sign - rest) / WIDE_OPEN, 0, 1.5).astype(np.float32)


def _mouth_box(
    model: HeadModel, vertices: np.ndarray, pose: _Pose, matrix: np.ndarray
) -> np.ndarray:
    rest = model.mean
    lips = np.flatnonzero((rest[:, 2] > 0.2) & (look_paint.lip_mask(rest[:, 0], rest[:, 1]) > 0.5))
    turn = rotation_matrices(pose.rotation)
    points = np.einsum("tij,tvj->tvi", turn, vertices[:, lips] - PIVOT) + PIVOT
    screen = on_screen(points + pose.translation[:, None], matrix)
    low, high = screen.min(1), screen.max(1)
    size = (high - low) * 1.3
    return np.concatenate([(low + high) / 2, size], axis=1).astype(np.float32)


def _places(
    model: HeadModel, vertices: np.ndarray, normals: np.ndarray, pose: _Pose, scene: _Scene
) -> tuple[np.ndarray, ...]:
    """Where landmarks, tracked points and eyes are, and which of them face the camera; see Rendered."""
    landmarks, tracked = landmark_vertices(), tracked_vertices()
    ball = np.flatnonzero(model.part == PARTS.index("eyes"))
    shown = project(vertices, pose, scene.matrix, np.concatenate([landmarks, tracked, ball]))
    ends = np.cumsum([len(landmarks), len(tracked)])
    places, ways, balls = np.split(shown, ends, axis=1)
    left = model.mean[ball, 0] < 0
    eyes = np.stack([balls[:, left].mean(1), balls[:, ~left].mean(1)], 1)
    cosine = facing(normals, vertices, pose, scene.camera, tracked)
    return places, ways, cosine > IN_VIEW, eyes


def _camera(look: Look) -> tuple[np.ndarray, np.ndarray]:
    """View-projection matrix [4, 4] and the camera's position [3]."""
    yaw, pitch = look.camera_angles
    aim = np.array([look.frame_center[0], look.frame_center[1], -0.3])
    back = rotation_matrices(np.array([yaw, -pitch, 0.0]))[:, 2]
    position = aim + back * look.camera_distance
    right = np.cross([0, 1.0, 0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    view = np.eye(4)
    view[:3, :3] = [right, up, back]
    view[:3, 3] = -view[:3, :3] @ position
    focal = 2 * look.camera_distance / look.frame_height
    near, far = look.camera_distance - 5, look.camera_distance + 8
    projection = np.zeros((4, 4))
    projection[0, 0] = projection[1, 1] = focal
    projection[2, 2:] = (far + near) / (near - far), 2 * far * near / (near - far)
    projection[3, 2] = -1
    return projection @ view, position.astype(np.float32)


def _gaze(camera: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """World direction of the look: towards the camera, turned by yaw and pitch."""
    yaw = np.arctan2(camera[0], camera[2]) + gaze[0]
    pitch = np.arctan2(camera[1], np.hypot(camera[0], camera[2])) + gaze[1]
    return np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])


def _set(program: Any, name: str, value: Any) -> None:
    # A compiler drops the uniforms a material does not use.
    if name in program:
        program[name].value = value


def _build_scene(renderer: Renderer, look: Look) -> _Scene:
    context, model = renderer._context, renderer.model
    base = model.identity(look.corner_weights, look.builds, look.shapes)
    teeth = model.part == PARTS.index("teeth")
    base[teeth] = base[teeth] * (0.92, 1, 1) - (0, 0, 0.04)
    matrix, camera = _camera(look)
    face = context.texture(look_paint.FACE_SIZE[::-1], 4, look_paint.paint_face(look).tobytes())
    picture = look_paint.paint_background(look)
    background = context.texture(picture.shape[1::-1], 3, picture.tobytes(), alignment=1)
    body = context.buffer(reserve=len(base) * 24, dynamic=True)
    resources = [face, background, body]
    arrays = [
        (name, _body_array(renderer, look, body, name, resources))
        for name in ("cloth", "skin", "eye")
    ]
    for name, shell in (
        ("hair", look_geometry.hair_shell(look, base)),
        ("plain", look_geometry.accessories(look, base, model)),
    ):
        if shell is not None:
            arrays.append((name, _shell_array(renderer, shell, name, resources)))
    resources.extend(array for _, array in arrays)
    _set_uniforms(renderer, look, matrix, camera)
    return _Scene(look, base, matrix, camera, body, face, background, arrays, resources)


def _body_array(renderer: Renderer, look: Look, body: Any, name: str, resources: list[Any]) -> Any:
    context, model = renderer._context, renderer.model
    rest = model.mean
    quads = model.quads[(model.quad_part > 0) if name == "eye" else (model.quad_part == 0)]
    depth = look_geometry.neckline(look, rest)
    if name == "skin":
        # What lies well under the clothes never shows.
        quads = quads[(depth[quads] < 0.5).any(1)]
    if name == "cloth":
        thickness = look_geometry.garment_thickness(look, rest)
        extra = np.stack([model.occlusion, thickness, depth, 0 * depth], 1)
        quads = quads[(depth[quads] > -0.6).any(1)]
    else:
        extra = np.stack(
            [
                model.occlusion,
                model.part.astype(np.float32),
                look_geometry.hairline(rest, look, roots=True),
                _mouth_inside(model),
            ],
            1,
        )
    fixed = np.concatenate([rest, model.weight[:, None], extra, model.eye_direction], axis=1)
    buffer = context.buffer(fixed.astype(np.float32).tobytes())
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    index = context.buffer(triangles.astype(np.int32).tobytes())
    resources += [buffer, index]
    return _vertex_array(
        renderer, name, [(body, ("position", "normal")), (buffer, _ATTRIBUTES[2:])], index
    )


def _mouth_inside(model: HeadModel) -> np.ndarray:
    x, y, z = model.mean.T
    box = (np.abs(x) < 0.75) & (y < -0.45) & (y > -1.75) & (z > -1.2)
    hidden = np.clip((0.17 - model.occlusion) / 0.08, 0, 1)
    behind = z < 0.46 - 0.5 * x * x
    return (hidden * (box & behind & (model.part == PARTS.index("body")))).astype(np.float32)


def _shell_array(
    renderer: Renderer, shell: look_geometry.Shell, name: str, resources: list[Any]
) -> Any:
    fields = [getattr(shell, attribute) for attribute in _ATTRIBUTES]
    data = np.concatenate(fields, axis=1).astype(np.float32)
    buffer = renderer._context.buffer(data.tobytes())
    index = renderer._context.buffer(shell.triangles.tobytes())
    resources += [buffer, index]
    return _vertex_array(renderer, name, [(buffer, _ATTRIBUTES)], index)


def _vertex_array(
    renderer: Renderer, name: str, buffers: list[tuple[Any, tuple[str, ...]]], index: Any
) -> Any:
    """Bind the attributes that the program kept; the others become padding."""
    program = renderer._programs[name]
    width = {"rest": 4, "extra": 4}
    content = []
    for buffer, attributes in buffers:
        formats, used = [], []
        for attribute in attributes:
            count = width.get(attribute, 3)
            kept = attribute in program
            formats.append(f"{count}f" if kept else f"{4 * count}x")
            used += [attribute] if kept else []
        content.append((buffer, " ".join(formats), *used))
    return renderer._context.vertex_array(program, content, index)


def _set_uniforms(renderer: Renderer, look: Look, matrix: np.ndarray, camera: np.ndarray) -> None:
    key = np.array(look.key_direction)
    values: dict[str, Any] = {
        "view_projection": tuple(matrix.T.astype(np.float32).ravel()),
        "pivot": tuple(PIVOT),
        "inflate": 0.0,
        "camera": tuple(camera),
        "key_direction": tuple(key / np.linalg.norm(key)),
        "key_color": look.key_color,
        "fill_color": look.fill_color,
        "rim_color": look.rim_color,
        "style": STYLES.index(look.style),
        "tint": look.tint,
        "face": 0,
        "noise": 1,
        "skin": look.skin,
        "hair": look.hair,
        "scalp": _scalp_shade(look),
        "iris": look.iris,
        "iris_radius": look.iris_radius,
        "lash": tuple(0.35 * np.array(look.brow) + 0.01),
        "strand": 2.0 if look.hair_style in look_geometry.CURLY_STYLES else 9.0,
        "curl": 1.0 if look.hair_style in look_geometry.CURLY_STYLES else 0.0,
        "part": look.hair_part if look.hair_style in ("long", "wavy", "bob") else 9.0,
        "garment": look.garment,
        "garment_second": look.garment_second,
        "pattern": ("plain", "stripes", "dots", "gradient", "checks").index(look.pattern),
        "pattern_scale": look.pattern_scale,
        "hem": 0.16,
        "plain_color": look.glasses_color,
        "picture": 0,
        "shapes": 1,
        "reach": 0.3 * renderer.samples * (renderer.samples > 1),
        "strength": look.outline,
        "ink": tuple(0.25 * np.array(look.hair) * (look.style == "toon") + 0.05),
    }
    for program in renderer._programs.values():
        for name, value in values.items():
            _set(program, name, value)
    _set(renderer._programs["cloth"], "inflate", 1.0)
    _set(renderer._programs["skin"], "sink", (0.3, 0.0))
    _set(renderer._programs["eye"], "sink", (0.0, 0.3))


def _scalp_shade(look: Look) -> float:
    return {"bald": 0.0, "balding": 0.25, "buzz": 0.7, "mohawk": 0.45}.get(look.hair_style, 0.9)
