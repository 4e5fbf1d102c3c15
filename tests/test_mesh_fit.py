"""Films are read by the points of the face."""

from __future__ import annotations

import numpy as np
import portraits
import torch

from mutual_forcing import StreamingGenerator
from mutual_forcing.codecs.mesh_fit import film_points, fit_latents
from mutual_forcing.motion import MOTION, UNITS

FRAMES = 32


def spoken(frames: int = FRAMES) -> np.ndarray:
    """Motion [T, 28] of a face that begins at rest, opens its mouth twice, blinks and nods."""
    time = np.arange(frames) / frames
    motion = np.zeros((frames, len(MOTION)), np.float32)
    motion[:, MOTION.index("jawOpen")] = 0.5 * np.sin(2 * np.pi * time) ** 2
    motion[:, MOTION.index("mouthSmile")] = 0.4 * time
    motion[:, MOTION.index("eyeBlink")] = np.exp(-(((time - 0.6) / 0.05) ** 2))
    motion[:, MOTION.index("pitch")] = 0.1 * np.sin(np.pi * time)
    return motion


def apart(read: np.ndarray, true: np.ndarray, name: str) -> tuple[float, float]:
    """Correlation and amplitude of one control."""
    a, b = (x[:, MOTION.index(name)] for x in (read, true))
    return float(np.corrcoef(a, b)[0, 1]), float(a.std() / b.std())


def test_a_fit_undoes_what_moved_the_points(served_generator: StreamingGenerator) -> None:
    codec = served_generator.system.video_codec
    reference, true = codec.encode_reference(portraits.square("blond-bob")[None]), spoken()
    latents = codec.encode_motion(torch.from_numpy(true)[None])[0].T
    pose = -(codec.latent_mean / codec.latent_std)[len(UNITS) :]
    mesh = reference.mesh.expand(FRAMES, -1, -1)
    meshes = codec.animator.mesh_motion(mesh, latents, pose.expand(FRAMES, -1))
    meshes = meshes - meshes[:1] + mesh
    mean, std = codec.latent_mean, codec.latent_std
    with torch.inference_mode():
        found = fit_latents(codec.animator.mesh_motion, meshes, pose, mean, std)
    read = (found * std + mean).numpy()
    for name in ("jawOpen", "eyeBlink", "pitch"):
        r, size = apart(read, true, name)
        assert r > 0.95 and 0.6 < size < 1.3, (name, r, size)


def test_a_film_that_was_made_is_read_as_it_was_asked_for(
    served_generator: StreamingGenerator,
) -> None:
    """Pixels and all: decoded, found again, fitted."""
    codec, true = served_generator.system.video_codec, spoken()
    with torch.inference_mode():
        reference = codec.encode_reference(portraits.square("grandfather")[None])
        film = codec.decode(codec.encode_motion(torch.from_numpy(true)[None]), reference)
        read = codec.read_motion(codec.encode(film))[0].numpy()
    r, size = apart(read, true, "jawOpen")
    assert r > 0.95 and 0.6 < size < 1.5
    r, size = apart(read, true, "eyeBlink")
    assert r > 0.7 and size > 0.3


def test_a_film_without_a_face_has_no_points() -> None:
    assert film_points(torch.zeros(3, 2, 256, 256)) is None


def test_a_frame_without_a_face_has_the_points_of_the_one_before() -> None:
    square = portraits.square("blond-bob")
    points = film_points(torch.stack([square, torch.zeros_like(square), square], 1))
    assert points is not None and torch.equal(points[1], points[0])
    assert (points[2] - points[0]).abs().max() < 0.02
