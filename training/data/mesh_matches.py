"""Which of the renderer's points are those of MediaPipe's face mesh.

python -m training.data.mesh_matches PORTRAITS

Found once on portraits of open mouths and open eyes, where the net finds every point of the mesh and the
renderer knows every point of the head: the one that lies nearest over all faces. Written to
mesh_matches.json, which is part of this package.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import numpy as np

from mutual_forcing.codecs.face_mesh import POINTS
from mutual_forcing.motion import MOTION

from .tracked_points import tracked_count

MATCHES = Path(__file__).with_name("mesh_matches.json")
FAR = 0.15
"""Halves of the picture beyond which a point is as bad as a hidden one."""
OPEN_MOUTH, OPEN_EYES = 0.25, 0.3
"""jawOpen at least, and eyeBlink at most, of faces that are looked at: lips that touch are one line."""
PEOPLE = 300


@functools.cache
def matches() -> np.ndarray:
    """Numbers of the tracked points that are the mesh's, int [468]."""
    found = np.array(json.loads(MATCHES.read_text(encoding="utf-8")))
    assert found.shape == (POINTS,)
    return found


def mesh_of(tracked: np.ndarray) -> np.ndarray:
    """The mesh [..., 468, 2] of rendered faces whose tracked points are [..., N, 2]."""
    return tracked[..., matches(), :]


def match(root: Path) -> np.ndarray:
    """Find the numbers on portraits in a folder, int [468]. Raises ValueError if no face is found there."""
    import torch
    from tqdm import tqdm

    from mutual_forcing.codecs.face_mesh import face_points
    from mutual_forcing.pixels import to_signal

    from .portraits import Portraits, is_drawn

    portraits = Portraits(root)
    rendered = [number for number in portraits.numbers if not is_drawn(number)]
    total, seen = np.zeros((POINTS, tracked_count())), 0
    jaw, lids = MOTION.index("jawOpen"), MOTION.index("eyeBlink")
    for number in tqdm(rendered[:PEOPLE], "people"):
        truth = portraits.truth(number)
        chosen = (truth.motion[:, jaw] > OPEN_MOUTH) & (truth.motion[:, lids] < OPEN_EYES)
        for face in np.flatnonzero(chosen):
            picture = torch.from_numpy(portraits.picture(number, int(face))).permute(2, 0, 1)
            mesh, has_mesh = face_points(to_signal(picture[None]))
            if has_mesh[0]:
                points = truth.tracked[face] * 2 - 1
                away = np.linalg.norm(mesh[0].numpy()[:, None] - points, axis=2)
                total += np.minimum(np.where(truth.in_view[face], away, FAR), FAR)
                seen += 1
    if not seen:
        raise ValueError(f"No face was found in the portraits of {root}.")
    return total.argmin(1)


def main() -> int:
    """Command line; returns the exit status."""
    found = match(Path(sys.argv[1]))
    MATCHES.write_text(json.dumps(found.tolist()) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
