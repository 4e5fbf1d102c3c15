"""The expression that a picture has stays in its film: whoever smiles in it smiles while they talk.

Latents are about a face at rest. Where a reference smiles, a film of them alone would wipe the smile away
with the first word, and wrinkle the cheeks that it has raised.

Shape letters: T frames, C numbers of a latent, U units.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..motion import POSE, UNITS
from .face_mesh import MeshMotion
from .mesh_fit import point_weights

OWN = (
    "browDown", "browInnerUp", "browOuterUp", "cheekSquint", "eyeSquint", "eyeWide", "mouthFrown",
    "mouthSmile", "noseSneer",
)  # fmt: skip
"""Units that stay as a picture has them: what the others do in it is of the moment, and speech needs them."""
SMALL, STEP = 3e-5, 0.05
"""Cost of a whole unit, where that of points which are half a picture off is 1; and the change of a unit by
which is measured where points go.
"""
MOST = 0.9
"""Of a unit: what a film adds to a whole one could not be read again."""
ROUNDS, SWEEPS = 3, 40
"""How often that is measured, and how often each unit is fitted after it."""


@torch.no_grad()
def own_expression(
    motion: MeshMotion, mesh: Tensor, pose: Tensor, mean: Tensor, std: Tensor
) -> Tensor:
    """What a face in a picture does by itself: units [U] within 0..MOST, 0 for all but OWN.

    It is the motion that leaves the face's points where they are: any other would move those of a smile.
    mesh [468, 2], pose [8], standardised as latents are by mean and std [C].
    """
    count, others = len(UNITS), len(mean) - len(UNITS)
    weight = point_weights(mesh.device).sqrt()[:, None]
    rest = torch.cat([(-mean / std)[: -len(POSE)], pose])
    # The face as it is found, and with a little more of each unit.
    more = F.pad(STEP * torch.eye(count, device=mesh.device), (0, others, 1, 0))
    found = np.zeros(count)
    for _ in range(ROUNDS):
        at = F.pad(torch.from_numpy(found).to(mesh), (0, others))
        latents = rest + (at + more) / std
        rows = len(latents)
        with torch.autocast(mesh.device.type, enabled=False):
            moved = motion(mesh.expand(rows, -1, -1), latents, pose.expand(rows, -1))
        off = ((moved - mesh) * weight).flatten(1).cpu().double().numpy()
        slopes = (off[1:] - off[0]) / STEP
        square = slopes @ slopes.T + SMALL * np.eye(count)
        wanted = square @ found - slopes @ off[0] - SMALL * found
        for _ in range(SWEEPS):
            # Unit by unit within bounds: what is beyond that for one is for the others to explain.
            for unit in range(count):
                missing = (wanted[unit] - square[unit] @ found) / square[unit, unit]
                found[unit] = np.clip(found[unit] + missing, 0, MOST)
    stays = [name in OWN for name in UNITS]
    return torch.from_numpy(np.where(stays, found, 0.0)).to(mesh)


def add_own(motion: Tensor, own: Tensor) -> Tensor:
    """Motion [T, C] of a face whose own expression is own [U]: a unit that does nothing is as it is there,
    and one that is whole stays whole.
    """
    units = motion[:, : len(UNITS)]
    return torch.cat([units + own * (1 - units.clamp(0, 1)), motion[:, len(UNITS) :]], 1)


def take_own(motion: Tensor, own: Tensor) -> Tensor:
    """Undo `add_own`."""
    units = motion[:, : len(UNITS)]
    beyond = (units - own) / (1 - own)
    units = torch.where(units > own, torch.where(units < 1, beyond, units), units - own)
    return torch.cat([units, motion[:, len(UNITS) :]], 1)
