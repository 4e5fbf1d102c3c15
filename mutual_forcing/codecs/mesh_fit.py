"""Films read by the points of the face: the latents that move the first frame's points to where they are.

The decoder moves a reference's points by a latent (face_mesh.MeshMotion). Read backwards this is an encoder
that sees no pixel, so it reads a film of a person as it reads a rendering.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..landmarks import Landmarks, follow_film
from ..motion import POSE, UNITS
from ..pixels import to_pixels
from .face_mesh import LOWER, POINTS, UPPER, MeshMotion, face_points, placed

STEPS, RATE = 80, 0.1
LIDS_AND_LIPS = 4.0
"""How much more their points count than the others."""
ANGLES, SHIFTS, FREE = 0.3, 0.2, 2.0
"""How far gaze and angles, places, and deviations of numbers without names may go where a unit goes from 0 to
1.
"""
REST, STILL, BOUNDS = 0.05, 0.1, 5.0
"""Cost of a control away from rest, of its change from frame to frame, and of a unit beyond 0..1; that of
points which are a pixel of 256 off is 1.
"""


def film_points(frames: Tensor) -> Tensor | None:
    """The points [T, 468, 2] of the face in frames [3, T, H, H] within -1..1, cut as faces.crop_of does.

    None where the first frame shows none. A frame that shows none has those of the one before.
    """
    first, found = face_points(frames[None, :, 0])
    if not found[0]:
        return None
    size = frames.shape[-1]
    pixels = to_pixels(frames).permute(1, 2, 3, 0).cpu().numpy()
    before = Landmarks(((first[0] + 1) * (size / 2)).cpu().numpy(), 1.0)
    others = (placed(found, size) for found in follow_film(pixels[1:], before))
    return torch.stack([first[0].cpu(), *others]).to(frames.device)


def point_weights(device: torch.device) -> Tensor:
    """How much each point counts where points tell what a face does, [468], 1 together."""
    weight = torch.ones(POINTS, device=device)
    weight[list({*UPPER, *LOWER})] = LIDS_AND_LIPS
    return weight / weight.sum()


def fit_latents(
    motion: MeshMotion, meshes: Tensor, pose: Tensor, mean: Tensor, std: Tensor
) -> Tensor:
    """Latents [T, C] that move the points meshes[0] to meshes [T, 468, 2], fitted to all frames at once.

    pose [8]: the first frame's, standardised, as the latents are by mean and std [C].
    """
    with torch.inference_mode(False), torch.enable_grad():
        meshes, pose, mean, std = (x.detach().clone() for x in (meshes, pose, mean, std))
        count = len(meshes)
        weight = 128 * point_weights(meshes.device)
        named = torch.tensor([1.0] * len(UNITS) + [ANGLES] * 5 + [SHIFTS] * 3, device=meshes.device)
        free = FREE * std[len(UNITS) : -len(POSE)]
        reach = torch.cat([named[: len(UNITS)], free, named[len(UNITS) :]])
        rest = F.pad(pose * std[-len(POSE) :] + mean[-len(POSE) :], (len(mean) - len(POSE), 0))
        away = torch.zeros(count, len(mean), device=meshes.device, requires_grad=True)
        optimiser = torch.optim.Adam([away], RATE)
        start, poses = meshes[:1].expand(count, -1, -1), pose.expand(count, -1)
        for step in range(STEPS):
            optimiser.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            controls = rest + away * reach
            moved = motion(start, (controls - mean) / std, poses)
            units = controls[:, : len(UNITS)]
            cost = (
                ((moved - meshes).abs().mean(2) * weight).sum()
                + REST * away.square().sum()
                + STILL * away.diff(dim=0).square().sum()
                + BOUNDS * (units - units.clamp(0, 1)).square().sum()
            )
            (away.grad,) = torch.autograd.grad(cost, away)
            optimiser.step()
        return ((rest + away * reach - mean) / std).detach()
