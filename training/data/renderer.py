"""Draws talking heads: an `Appearance` and a `Performance` in, frames with exact ground truth out.

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

from mutual_forcing.motion import KINDS
from training.data import appearance_geometry, appearance_paint
from training.data.appearance import STYLES, Appearance
from training.data.geometry import (
    PIVOT,
    NormalSolver,
    on_screen,
    on_screen_with_depth,
    rotation_matrices,
)
from training.data.head_model import PARTS, UNIT_NAMES, HeadModel, load_head_model
from training.data.tracked_points import iris_points, landmark_vertices, posed, tracked_corners

__all__ = ["Performance", "Rendered", "Renderer"]

WIDE_OPEN = 0.5
IN_VIEW = 0.15
"""Least cosine between a surface and the way to the camera for what is seen of it."""
BEFORE = 0.06
"""Eye distances by which what is drawn may lie before a point that is still seen."""
MATERIALS = {"eye": 0.14, "hollow": 0.40, "teeth": 0.45, "tongue": 0.42}
"""What the shaders write for kinds as the last part of a shape."""
SUNK = 0.3
"""How far, in eye distances, the mouth's inside is drawn behind its place (the shaders' `sink`)."""
TONGUE = np.array([0.72, 0.28, 0.30])
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
    [T, N, 2] (landmarks.tracked_count; N is 0 unless they are asked for) and eyes float32 [T, 2, 2] (x, y) in
    fractions of the picture, y down; in_view bool [T, N]: which of the tracked points the picture shows,
    nothing before them; kinds uint8 [T, size, size], T 0 unless asked for: what a pixel shows (KINDS).
    """

    frames: np.ndarray
    mouth_openness: np.ndarray
    mouth_box: np.ndarray
    landmarks: np.ndarray
    tracked: np.ndarray
    in_view: np.ndarray
    eyes: np.ndarray
    kinds: np.ndarray


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
        if self._context is not None:
            with self._context:
                self._drop_scene()
            self._context.release()
        self._context = None

    def render(
        self, appearance: Appearance, performance: Performance, track: bool = False
    ) -> Rendered:
        """Draw every frame; the same arguments give the same picture on the same machine.

        track: tell also kinds, and where the thousands of tracked points are: as long as a small frame.
        Raises ValueError for an unknown style, or if the renderer is closed.
        """
        if appearance.style not in STYLES:
            raise ValueError(
                f"Unknown style {appearance.style!r}; choose one of {', '.join(STYLES)}."
            )
        # OpenGL draws in whatever context is current: without this, two renderers of one process
        # write into each other's buffers and read past the ends of their own. Afterwards none is.
        if self._context is None:
            raise ValueError("The renderer is closed.")
        with self._context:
            return self._render(appearance, performance, track)

    def _render(self, appearance: Appearance, performance: Performance, track: bool) -> Rendered:
        scene = self._prepare(appearance)
        frames, openness, boxes, places, tracks, kinds = [], [], [], [], [], []
        for start in range(0, len(performance.units), BATCH_FRAMES):
            span = slice(start, start + BATCH_FRAMES)
            vertices = scene.base + _deform(self.model, performance.units[span])
            normals = self._normals(vertices)
            openness.append(_openness(self.model, vertices, scene.base))
            pose = _Pose(performance.rotation[span], performance.translation[span])
            boxes.append(_mouth_box(self.model, vertices, pose, scene.matrix))
            gaze = np.stack([_gaze(scene.camera, way) for way in performance.gaze[span]])
            depths = []
            for index in range(len(vertices)):
                scene.body.write(np.concatenate([vertices[index], normals[index]], axis=1))
                self._draw(scene, pose.rotation[index], pose.translation[index], gaze[index], track)
                frames.append(self._read())
                if track:
                    depths.append(self._read_depth())
                    kinds.append(self._read_kinds())
            landmarks, balls = _landmarks_and_eyes(self.model, vertices, pose)
            eyes = np.stack([on_screen(ball, scene.matrix).mean(1) for ball in balls], 1)
            places.append((on_screen(landmarks, scene.matrix), eyes))
            points = np.zeros((len(vertices), 0, 2)), np.zeros((len(vertices), 0), bool)
            if track:
                points = _track(self.model, vertices, normals, pose, gaze, balls, scene, depths)
            tracks.append(points)
        landmarks, eyes, tracked = (
            np.concatenate(part).astype(np.float32)
            for part in (*zip(*places, strict=True), [points for points, _ in tracks])
        )
        return Rendered(
            frames=np.stack(frames),
            mouth_openness=np.concatenate(openness),
            mouth_box=np.concatenate(boxes),
            landmarks=landmarks,
            tracked=tracked,
            in_view=np.concatenate([seen for _, seen in tracks]),
            eyes=eyes,
            kinds=np.array(kinds, np.uint8).reshape(-1, self.size, self.size),
        )

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
        depth = context.depth_texture(large)
        return {
            "color": color,
            "shape": shape,
            "depth": depth,
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

    def _prepare(self, appearance: Appearance) -> _Scene:
        """Upload everything that stays the same for one appearance; kept until another one comes."""
        if self._scene is not None and self._scene.appearance == appearance:
            return self._scene
        self._drop_scene()
        self._scene = _build_scene(self, appearance)
        return self._scene

    def _drop_scene(self) -> None:
        if self._scene is not None:
            for resource in self._scene.resources:
                resource.release()
        self._scene = None

    def _draw(
        self,
        scene: _Scene,
        rotation: np.ndarray,
        translation: np.ndarray,
        gaze: np.ndarray,
        shapes: bool,
    ) -> None:
        context, targets = self._context, self._targets
        # Only outlines and kinds need the second target.
        natural = scene.appearance.style == "natural"
        scene_target = targets["natural" if natural and not shapes else "scene"]
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
        if scene.appearance.style != "natural":
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

    def _read_kinds(self) -> np.ndarray:
        """What every pixel's middle shows, one of KINDS: uint8 [size, size], y down."""
        side, every = self.size * self.samples, self.samples
        data = self._targets["shape"].read(alignment=1)
        shapes = np.frombuffer(data, np.uint8).reshape(side, side, 4)[::-1]
        material = shapes[every // 2 :: every, every // 2 :: every, 3] / 255
        kinds = np.zeros(material.shape, np.uint8)
        for kind, value in MATERIALS.items():
            kinds[np.abs(material - value) < 0.01] = KINDS.index(kind)
        return kinds

    def _read_depth(self) -> np.ndarray:
        """What the depth buffer holds, 0 at the near plane to 1: float32 [large, large], y down."""
        side = self.size * self.samples
        data = self._targets["depth"].read(alignment=1)
        return np.frombuffer(data, np.float32).reshape(side, side)[::-1]


@dataclass(frozen=True)
class _Pose:
    rotation: np.ndarray
    translation: np.ndarray


@dataclass(frozen=True)
class _Scene:
    """GPU resources and camera of one appearance."""

    appearance: Appearance
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
    lips = np.flatnonzero(
        (rest[:, 2] > 0.2) & (appearance_paint.lip_mask(rest[:, 0], rest[:, 1]) > 0.5)
    )
    turn = rotation_matrices(pose.rotation)
    points = np.einsum("tij,tvj->tvi", turn, vertices[:, lips] - PIVOT) + PIVOT
    screen = on_screen(points + pose.translation[:, None], matrix)
    low, high = screen.min(1), screen.max(1)
    size = (high - low) * 1.3
    return np.concatenate([(low + high) / 2, size], axis=1).astype(np.float32)


def _landmarks_and_eyes(
    model: HeadModel, vertices: np.ndarray, pose: _Pose
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Where the landmarks are in the scene, [T, 64, 3], and the vertices of the left and the right eye."""
    ball = np.flatnonzero(model.part == PARTS.index("eyes"))
    left = model.mean[ball, 0] < 0
    balls = [posed(vertices, pose, ball[side]) for side in (left, ~left)]
    return posed(vertices, pose, landmark_vertices()), balls


def _track(
    model: HeadModel,
    vertices: np.ndarray,
    normals: np.ndarray,
    pose: _Pose,
    gaze: np.ndarray,
    balls: list[np.ndarray],
    scene: _Scene,
    depths: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Where the tracked points are, in fractions of the picture, and which of them are seen; see Rendered."""
    used, corners = np.unique(tracked_corners(), return_inverse=True)
    corners = corners.reshape(-1, 4)
    points = posed(vertices, pose, used)[:, corners].mean(2)
    way = scene.camera - points
    way /= np.linalg.norm(way, axis=-1, keepdims=True)
    turned = posed(vertices, pose, used, normals)[:, corners].mean(2)
    front = ((turned * way).sum(-1) > IN_VIEW) | (model.part[used][corners[:, 0]] > 0)
    irises = [iris_points(side, gaze, scene.appearance.iris_radius) for side in balls]
    places, far = on_screen_with_depth(np.concatenate([points, *irises], 1), scene.matrix)
    inside = np.where(model.part > 1, 1.0, _mouth_inside(model))[used][corners].mean(1)
    far[:, : len(corners)] += SUNK * inside
    drawn = _distances(np.stack(depths), places, scene.appearance.camera_distance)
    seen = far < drawn + BEFORE
    seen[:, : len(corners)] &= front
    return places, seen


def _distances(depths: np.ndarray, places: np.ndarray, camera_distance: float) -> np.ndarray:
    """How far before the camera lies what is drawn at places [T, N, 2]; 0 outside the picture: [T, N]."""
    side = depths.shape[-1]
    x, y = np.moveaxis(np.clip(places * side, 0, side - 1).astype(int), -1, 0)
    z = 2 * depths[np.arange(len(depths))[:, None], y, x] - 1
    near, far = _planes(camera_distance)
    inside = ((places > 0) & (places < 1)).all(-1)
    return np.where(inside, 2 * far * near / (far + near - z * (far - near)), 0.0)


def _planes(camera_distance: float) -> tuple[float, float]:
    """How far before the camera the near and the far plane lie."""
    return camera_distance - 5, camera_distance + 8


def _camera(appearance: Appearance) -> tuple[np.ndarray, np.ndarray]:
    """View-projection matrix [4, 4] and the camera's position [3]."""
    yaw, pitch = appearance.camera_angles
    aim = np.array([appearance.frame_center[0], appearance.frame_center[1], -0.3])
    back = rotation_matrices(np.array([yaw, -pitch, 0.0]))[:, 2]
    position = aim + back * appearance.camera_distance
    right = np.cross([0, 1.0, 0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    view = np.eye(4)
    view[:3, :3] = [right, up, back]
    view[:3, 3] = -view[:3, :3] @ position
    focal = 2 * appearance.camera_distance / appearance.frame_height
    near, far = _planes(appearance.camera_distance)
    projection = np.zeros((4, 4))
    projection[0, 0] = projection[1, 1] = focal
    projection[2, 2:] = (far + near) / (near - far), 2 * far * near / (near - far)
    projection[3, 2] = -1
    return projection @ view, position.astype(np.float32)


def _gaze(camera: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """World direction of the gaze: towards the camera, turned by yaw and pitch."""
    yaw = np.arctan2(camera[0], camera[2]) + gaze[0]
    pitch = np.arctan2(camera[1], np.hypot(camera[0], camera[2])) + gaze[1]
    return np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])


def _set(program: Any, name: str, value: Any) -> None:
    # A compiler drops the uniforms a material does not use.
    if name in program:
        program[name].value = value


def _build_scene(renderer: Renderer, appearance: Appearance) -> _Scene:
    context, model = renderer._context, renderer.model
    base = model.identity(appearance.corner_weights, appearance.builds, appearance.shapes)
    teeth = model.part == PARTS.index("teeth")
    base[teeth] = base[teeth] * (0.92, 1, 1) - (0, 0, 0.04)
    # The jaw takes the lower ones along.
    lower = teeth & (np.abs(model.units[UNIT_NAMES.index("jawOpen")]).max(1) > 0.1)
    for part, down in zip((teeth & ~lower, lower), appearance.teeth_down, strict=True):
        base[part] -= (0, down, 0)
    matrix, camera = _camera(appearance)
    face = context.texture(
        appearance_paint.FACE_SIZE[::-1], 4, appearance_paint.paint_face(appearance).tobytes()
    )
    picture = appearance_paint.paint_background(appearance)
    background = context.texture(picture.shape[1::-1], 3, picture.tobytes(), alignment=1)
    body = context.buffer(reserve=len(base) * 24, dynamic=True)
    resources = [face, background, body]
    arrays = [
        (name, _body_array(renderer, appearance, body, name, resources))
        for name in ("cloth", "skin", "eye")
    ]
    for name, shell in (
        ("hair", appearance_geometry.hair_shell(appearance, base)),
        ("plain", appearance_geometry.accessories(appearance, base, model)),
    ):
        if shell is not None:
            arrays.append((name, _shell_array(renderer, shell, name, resources)))
    resources.extend(array for _, array in arrays)
    _set_uniforms(renderer, appearance, matrix, camera)
    return _Scene(appearance, base, matrix, camera, body, face, background, arrays, resources)


def _body_array(
    renderer: Renderer, appearance: Appearance, body: Any, name: str, resources: list[Any]
) -> Any:
    context, model = renderer._context, renderer.model
    rest = model.mean
    quads = model.quads[(model.quad_part > 0) if name == "eye" else (model.quad_part == 0)]
    depth = appearance_geometry.neckline(appearance, rest)
    if name == "skin":
        # What lies well under the clothes never shows.
        quads = quads[(depth[quads] < 0.5).any(1)]
    if name == "cloth":
        thickness = appearance_geometry.garment_thickness(appearance, rest)
        extra = np.stack([model.occlusion, thickness, depth, 0 * depth], 1)
        quads = quads[(depth[quads] > -0.6).any(1)]
    else:
        extra = np.stack(
            [
                model.occlusion,
                model.part.astype(np.float32),
                appearance_geometry.hairline(rest, appearance, roots=True),
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
    renderer: Renderer, shell: appearance_geometry.Shell, name: str, resources: list[Any]
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


def _set_uniforms(
    renderer: Renderer, appearance: Appearance, matrix: np.ndarray, camera: np.ndarray
) -> None:
    key = np.array(appearance.key_direction)
    values: dict[str, Any] = {
        "view_projection": tuple(matrix.T.astype(np.float32).ravel()),
        "pivot": tuple(PIVOT),
        "inflate": 0.0,
        "camera": tuple(camera),
        "key_direction": tuple(key / np.linalg.norm(key)),
        "key_color": appearance.key_color,
        "fill_color": appearance.fill_color,
        "rim_color": appearance.rim_color,
        "style": STYLES.index(appearance.style),
        "tint": appearance.tint,
        "face": 0,
        "noise": 1,
        "skin": appearance.skin,
        "hair": appearance.hair,
        "scalp": _scalp_shade(appearance),
        "iris": appearance.iris,
        "iris_radius": appearance.iris_radius,
        "lash": tuple(0.35 * np.array(appearance.brow) + 0.01),
        "tongue": tuple(TONGUE * _mouth_light(appearance)),
        "strand": 2.0 if appearance.hair_style in appearance_geometry.CURLY_STYLES else 9.0,
        "curl": 1.0 if appearance.hair_style in appearance_geometry.CURLY_STYLES else 0.0,
        "part": appearance.hair_part if appearance.hair_style in ("long", "wavy", "bob") else 9.0,
        "garment": appearance.garment,
        "garment_second": appearance.garment_second,
        "pattern": ("plain", "stripes", "dots", "gradient", "checks").index(appearance.pattern),
        "pattern_scale": appearance.pattern_scale,
        "hem": 0.16,
        "plain_color": appearance.glasses_color,
        "picture": 0,
        "shapes": 1,
        "reach": 0.3 * renderer.samples * (renderer.samples > 1),
        "strength": appearance.outline,
        "ink": tuple(0.25 * np.array(appearance.hair) * (appearance.style == "toon") + 0.05),
    }
    for program in renderer._programs.values():
        for name, value in values.items():
            _set(program, name, value)
    _set(renderer._programs["cloth"], "inflate", 1.0)
    _set(renderer._programs["skin"], "sink", (SUNK, 0.0))
    _set(renderer._programs["eye"], "sink", (0.0, SUNK))


def _mouth_light(appearance: Appearance) -> float:
    """How much light the inside of this mouth gets: 0.25 to 0.85."""
    return 0.25 + 0.6 * (appearance.seed % 101) / 100


def _scalp_shade(appearance: Appearance) -> float:
    return {"bald": 0.0, "balding": 0.25, "buzz": 0.7, "mohawk": 0.45}.get(
        appearance.hair_style, 0.9
    )
