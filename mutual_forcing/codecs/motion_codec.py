"""Motion codec: a frame becomes one small latent of its motion; the reference picture brings the looks.

The encoder looks at each frame alone. The decoder animates the reference: from coarse to fine it predicts
where every pixel of the frame lies in the reference, warps the reference's features and pixels there, and
paints what the reference does not show (the inside of a mouth, closed lids). Inside a mouth the paint has a
name, hollow, teeth or tongue, and each of these one colour in more or less light: a name is sharp where a
colour would be the mean of what may be there. No state is carried, so decoding chunk by chunk equals
decoding at once. The idea is that of first-order motion models and latent
image animators (arXiv 2003.00196, 2203.09043).

A flow is smooth, so it is predicted small and can be enlarged to any picture (canvas.py). Where eyes and
mouth are, in the middle half of the square, the detail's own flow and paint are four times as fine: they
look at the reference's own pixels there.

Shape letters: B batch, T frames (one latent each), S picture size, C latent channels, K code width.
"""

from __future__ import annotations

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from threading import Barrier
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blinks import BlinkClock, BlinkState
from ..chunks import FRAMES_PER_CHUNK
from ..config import MotionCodecConfig, TokenGrid
from ..motion import INSIDE, MOTION, POSE, UNITS
from ..pixels import frame_array
from ..precision import as_here
from .detail import BLUR, FLOW_SCALE, Detail, skin_around
from .drawn_faces import DrawnFaces, find_drawn_faces
from .face_mesh import (
    MeshMotion,
    between_lids,
    face_points,
    geometry,
    iris_ways,
    nods_of,
    openings,
    rounder,
    taller,
)
from .mesh_fit import film_points, fit_latents
from .motion_encoder import Downsample, MotionEncoder, ResidualBlock
from .mouth_colors import INSIDE_COLORS, plausible, upper_teeth
from .own_expression import add_own, own_expression, take_own
from .steering import SteeringState
from .warping import (
    FINE,
    cut_detail,
    detail_places,
    detail_window,
    enlarge,
    identity_places,
    matching,
    sample,
    warp,
)

if TYPE_CHECKING:
    from ..canvas import Canvas
    from ..types import Steering

AT_ONCE = 4
"""Frames that are decoded together: more no longer fit the caches of a CPU."""
PATCH = 4
"""The reference enters its encoder at 1/4 of its size, as large as the flow."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of a reference's colours around its face: all that decides what colours its mouth has inside."""
BLINK = MOTION.index("eyeBlink")
GAZE = slice(POSE.index("gazeX") - len(POSE), POSE.index("gazeY") + 1 - len(POSE))
SEEN_LIDS = 1.5
"""By how much more lids close than their points tell: of whole blinks of renderings 0.61 were read."""
BASIS = 16
"""Flows of the reference that a latent mixes: nearly what moving a face is, as a sum of its units."""


@dataclass(frozen=True)
class ReferenceFeatures:
    """The reference picture as the decoder sees it, computed once per stream.

    pixels [B, 3, S, S] and fine [B, 3, 2S, 2S] within -1..1, levels of features [B, W, S/4, S/4],
    [B, W', S/8, S/8] and so on, detail [B, D, S/2, S/2]: features of the detail's square; inside [B, 3, 3]:
    the colours within 0..1 of motion.INSIDE; latent [B, C]: what the encoder reads; told [B, C]: what the
    decoder believes of it; mesh [B, 468, 2]: where the points of the face are (face_mesh.py), if it has any
    (has_mesh [B], 0 or 1); places [B, 468, 2] and times [B, 468, 1]: where they are with the eyes of a
    drawing, and how many times as high these are (drawn_faces.py); opened [B, 2, S/2, S/2]: where mouth and
    eyes are open by them; skin [B, 4, S/2/BLUR, S/2/BLUR]: the colours around there without these, and 1
    where nothing else is painted, 0 elsewhere; flat [B]: 1 for a drawing in few colours; own [B, 20]: the
    expression that it has, and its films keep; teeth [B, 1, S/2, S/2]: where it shows its upper teeth.
    """

    pixels: Tensor
    fine: Tensor
    levels: tuple[Tensor, ...]
    detail: Tensor
    inside: Tensor
    latent: Tensor
    told: Tensor
    mesh: Tensor
    has_mesh: Tensor
    places: Tensor
    times: Tensor
    opened: Tensor
    skin: Tensor
    flat: Tensor
    own: Tensor
    teeth: Tensor

    @property
    def tokens(self) -> Tensor:
        """The latent as a latent frame of one token: [B, 1, C]."""
        return self.latent[:, None]

    def at_rest(self) -> ReferenceFeatures:
        """The same, of a face whose latents say all that it does."""
        return replace(self, own=torch.zeros_like(self.own))

    def repeated(self, count: int) -> ReferenceFeatures:
        """Every row `count` times."""

        def rows(x: Tensor) -> Tensor:
            # A stream has one row: nothing is copied for its frames.
            return x.expand(count, *x.shape[1:]) if len(x) == 1 else x.repeat_interleave(count, 0)

        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        levels = tuple(rows(level) for level in parts.pop("levels"))
        return ReferenceFeatures(levels=levels, **{name: rows(x) for name, x in parts.items()})


@dataclass(frozen=True)
class Layers:
    """What frames are made of: where their pixels lie in the reference, and what is painted over it.

    flow [B, 2, S/4, S/4]: how far away in the reference, in halves of the picture (x, y); painted [B, 3, S,
    S]; mask [B, 1, S, S]: 1 where the reference shows, 0 where the paint does. The same for the detail's
    square: detail_flow [B, 2, S/2, S/2], detail_painted [B, 3, S, S] and detail_mask [B, 1, S, S], and in
    training its paint's shares of motion.KINDS, detail_kinds [B, 5, S, S].
    """

    flow: Tensor
    painted: Tensor
    mask: Tensor
    detail_flow: Tensor
    detail_painted: Tensor
    detail_mask: Tensor
    detail_kinds: Tensor | None

    def frames(self, pixels: Tensor) -> Tensor:
        """Frames [B, 3, S, S], the detail left out, of a picture [B, 3, S, S]."""
        return self.painted * (1 - self.mask) + warp(pixels, enlarge(self.flow, PATCH)) * self.mask

    def detail(self, fine: Tensor) -> Tensor:
        """The detail's square [B, 3, S, S] of a picture [B, 3, 2S, 2S]."""
        shown = self.fetched(fine)
        return self.detail_painted * (1 - self.detail_mask) + shown * self.detail_mask

    def fetched(self, fine: Tensor) -> Tensor:
        """What the detail's flow finds in [B, W, 2S, 2S], which lies as the reference does: [B, W, S, S]."""
        places = detail_places(self.detail_painted) + enlarge(self.detail_flow, 2).movedim(1, 3)
        return sample(fine, places)


class ReferenceEncoder(nn.Module):
    """Pictures [B, 3, S, S] to features at S/4, S/8 and so on, finer ones of the detail's square, and the
    colours of a mouth's inside.
    """

    def __init__(self, config: MotionCodecConfig) -> None:
        super().__init__()
        widths = config.animator_widths
        self.stem = nn.Conv2d(3 * PATCH**2, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width) for width in widths)
        self.downs = nn.ModuleList(Downsample(i, o) for i, o in itertools.pairwise(widths))
        detail = config.detail_width
        self.detail = nn.Sequential(
            nn.Conv2d(3 * FINE**2, detail, 3, padding=1),
            ResidualBlock(detail),
            ResidualBlock(detail),
        )
        self.colors = nn.Linear(3 * len(QUANTILES), detail)
        self.inside = nn.Linear(detail, 3 * len(INSIDE))
        nn.init.zeros_(self.inside.weight)
        self.inside.bias.data.copy_(torch.tensor(INSIDE_COLORS).logit().flatten())

    def forward(self, picture: Tensor, fine: Tensor) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Levels, the detail's features [B, D, S/2, S/2] and colours [B, 3, 3]; fine [B, 3, 2S, 2S]: the same
        picture.
        """
        detail = self.detail(F.pixel_unshuffle(cut_detail(fine), FINE))
        hidden = self.blocks[0](self.stem(F.pixel_unshuffle(picture, PATCH)))
        levels = [hidden]
        for down, block in zip(self.downs, self.blocks[1:], strict=True):
            hidden = block(down(hidden))
            levels.append(hidden)
        return tuple(levels), detail, self._inside(picture)

    def _inside(self, picture: Tensor) -> Tensor:
        # So few numbers are much the same for a photograph and for a rendering.
        around = F.avg_pool2d(cut_detail(picture.float()), 4).flatten(2)
        places = torch.tensor(QUANTILES, device=around.device)
        spread = around.quantile(places, 2).permute(1, 2, 0).flatten(1).to(picture.dtype)
        return torch.sigmoid(self.inside(F.silu(self.colors(spread)))).unflatten(1, (-1, 3))


class Level(nn.Module):
    """One resolution of the animator: refine what is painted and the flow, then warp the reference."""

    def __init__(self, width: int, code_width: int, latent_channels: int) -> None:
        super().__init__()
        self.before = ResidualBlock(width, code_width)
        self.to_flow = nn.Conv2d(width, 2 * (BASIS + 1), 1)
        self.mix = nn.Linear(latent_channels, BASIS, bias=False)
        self.merge = nn.Conv2d(2 * width, width, 1)
        self.after = ResidualBlock(width, code_width)
        for parameter in self.to_flow.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, hidden: Tensor, flow: Tensor, reference: Tensor, motion: Tensor, code: Tensor
    ) -> tuple[Tensor, Tensor]:
        """hidden and reference [B, W, H, H], flow [B, 2, H, H], motion [B, C], code [B, K].

        motion is the latent less the reference's: at none, the basis moves nothing.
        """
        hidden = self.before(hidden, code)
        flows = self.to_flow(hidden).unflatten(1, (BASIS + 1, 2))
        share = F.pad(self.mix(motion), (0, 1), value=1.0)
        flow = flow + FLOW_SCALE * torch.einsum("bk,bkchw->bchw", share, flows)
        hidden = self.merge(torch.cat([hidden, matching(warp(reference, flow), hidden)], 1))
        return self.after(hidden, code), flow


class Animator(nn.Module):
    """The decoder: latents of a frame and of the reference say how the reference's features move.

    pose_std: the unit of a latent for each of motion.POSE.
    """

    pose_std: Tensor

    def __init__(self, config: MotionCodecConfig) -> None:
        super().__init__()
        widths, code_width = config.animator_widths, config.code_width
        self.embed = nn.Linear(2 * config.channels, code_width)
        self.code = nn.Linear(code_width, code_width)
        self.enter = nn.Conv2d(widths[-1] + 2, widths[-1], 1)
        self.levels = nn.ModuleList(Level(width, code_width, config.channels) for width in widths)
        self.ups = nn.ModuleList(nn.Conv2d(o, i * 4, 1) for i, o in itertools.pairwise(widths))
        self.to_pixels = nn.Conv2d(widths[0], 4 * PATCH**2, 3, padding=1)
        self.mesh_motion = MeshMotion(config.channels)
        self.register_buffer("pose_std", torch.ones(len(POSE)))
        self.detail = Detail(widths[0], config)

    def forward(
        self,
        latents: Tensor,
        reference: ReferenceFeatures,
        decided: bool = False,
        shake: Tensor | None = None,
    ) -> Layers:
        """Standardised latents [B, C], one for each row of the reference. decided: see DECIDED.

        shake [B, 2, H, H]: what the flow is wrong by where the detail begins, in rows that also hide all else
        that the levels have found (rows of 0 do not): on photographs they err, and points do not.
        """
        motion = latents - reference.told
        code = self.code(F.silu(self.embed(torch.cat([latents, motion], 1))))
        code = F.layer_norm(code, code.shape[-1:])
        coarse = reference.levels[-1]
        grid = identity_places(coarse)
        hidden = self.enter(
            torch.cat([coarse, grid.movedim(3, 1).expand(len(coarse), -1, -1, -1)], 1)
        )
        flow = torch.zeros_like(hidden[:, :2])
        for index in reversed(range(len(self.levels))):
            hidden, flow = self.levels[index](hidden, flow, reference.levels[index], motion, code)
            if index:
                hidden, flow = F.pixel_shuffle(self.ups[index - 1](hidden), 2), enlarge(flow, 2)
        painted = F.pixel_shuffle(self.to_pixels(F.silu(hidden)), PATCH)
        with torch.no_grad():  # the points learn from points alone
            pose = reference.told[:, -len(POSE) :]
            ways = self.mesh_motion(reference.mesh, latents, pose) - reference.mesh
            places = reference.places
            moved = places + taller(ways, reference.times, places)
            looks = iris_ways(motion[:, -len(POSE) :].float() * self.pose_std)
            nods = None
            if decided:  # mouths and eyes of people, which those of renderings are not
                moved, looks = rounder(places, moved), between_lids(looks, places)
                nods = self._nods(latents, reference)
            seen = geometry(places, reference.opened, moved, reference.has_mesh, looks, nods)
        detail = self.detail(hidden, flow, reference, seen, code, decided, shake)
        return Layers(flow, painted[:, :3], torch.sigmoid(painted[:, 3:]), *detail)

    def _nods(self, latents: Tensor, reference: ReferenceFeatures) -> Tensor:
        mesh, told, pose = reference.mesh, reference.told, reference.told[:, -len(POSE) :]
        turned = torch.cat([told[:, : -len(POSE)], latents[:, -len(POSE) :]], 1)
        return nods_of(self.mesh_motion(mesh, turned, pose), self.mesh_motion(mesh, told, pose))


@dataclass(frozen=True)
class MotionState:
    """Where a stream stands between two chunks."""

    clock: BlinkClock
    blinks: BlinkState
    steering: SteeringState = field(default_factory=SteeringState)


@functools.cache
def _painters(threads: int) -> ThreadPoolExecutor:
    """Workers that make a few frames each and share so many threads: two of one thread take three quarters of
    the time that two threads take for one operation after another.
    """
    workers = min(threads, FRAMES_PER_CHUNK // AT_ONCE)
    pool, all_there = ThreadPoolExecutor(workers, "frames"), Barrier(workers)

    def settle() -> None:
        torch.set_num_threads(threads // workers)
        all_there.wait()

    for done in [pool.submit(settle) for _ in range(workers)]:
        done.result()
    # What a thread sets is also what later ones begin with.
    torch.set_num_threads(threads)
    return pool


class MotionCodec(nn.Module):
    """Encoders, animator, and the statistics that standardise motion to latents: a protocol.FaceCodec."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: MotionCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MotionEncoder(config)
        self.reference_encoder = ReferenceEncoder(config)
        self.animator = Animator(config)
        self.register_buffer("latent_mean", torch.zeros(config.channels))
        self.register_buffer("latent_std", torch.ones(config.channels))

    def encode(self, frames: Tensor) -> Tensor:
        """Frames [B, 3, T, S, S] within -1..1 to standardised latents [B, C, T].

        What the first frame does the encoder sees; how the others differ from it, their points tell
        (mesh_fit.py). Without points in the first one the encoder alone reads all.
        """
        return torch.stack([self._read(film) for film in frames])

    def _read(self, film: Tensor) -> Tensor:
        meshes = film_points(film) if film.shape[1] > 1 else None
        if meshes is None:
            return self.observe(film[None])[0][0]
        first = self.encode_still(film[None, :, 0])[0]
        motion = self.animator.mesh_motion
        pose, mean, std = first[-len(POSE) :], self.latent_mean, self.latent_std
        latents = fit_latents(motion, meshes, pose, mean, std)
        # A film's latents are what a face does beside its own expression.
        own = own_expression(motion, meshes[0], pose, mean, std)
        latents = ((take_own(latents * std + mean, own) - mean) / std).T.clone()
        lids = latents[BLINK] * std[BLINK] + mean[BLINK]
        latents[BLINK] = ((SEEN_LIDS * lids).clamp_max(1) - mean[BLINK]) / std[BLINK]
        return latents

    def observe(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder sees in every frame by itself, latents [B, C, T], and where 64 points of the body
        are, [B, T, 64, 2], x and y in -1..1.
        """
        latents, places = self.encoder(frames.transpose(1, 2).flatten(0, 1))
        latents, places = (part.unflatten(0, (len(frames), -1)) for part in (latents, places))
        return latents.transpose(1, 2), places

    def encode_still(self, picture: Tensor) -> Tensor:
        """The standardised latent [B, C] of a picture [B, 3, S, S] within -1..1."""
        return self.observe(picture[:, :, None])[0][:, :, 0]

    def encode_motion(self, motion: Tensor) -> Tensor:
        """Standardised latents [B, C, T] of motion [B, T, C] that is known (motion.MOTION)."""
        return ((motion - self.latent_mean) / self.latent_std).transpose(1, 2)

    def read_motion(self, latents: Tensor) -> Tensor:
        """Undo `encode_motion`."""
        return latents.transpose(1, 2) * self.latent_std + self.latent_mean

    def encode_reference(self, picture: Tensor) -> ReferenceFeatures:
        """What the decoder needs of a reference picture [B, 3, 2S, 2S] within -1..1."""
        pixels = F.avg_pool2d(picture, FINE)
        latent = self.encode_still(pixels).clone()
        # On photographs the encoder takes deep-set eyes for closed ones and beards for open mouths. Whoever
        # is uploaded has open eyes; and what the face does, the decoder sees for itself: of the head's pose
        # alone it is told.
        latent[:, BLINK] = -(self.latent_mean / self.latent_std)[BLINK]
        told = latent.clone()
        told[:, : -len(POSE)] = 0
        # Where it looks at the camera the iris is where the picture has it; whoever looks away goes on to.
        told[:, GAZE] = -(self.latent_mean / self.latent_std)[GAZE]
        mesh, has_mesh = face_points(picture)
        drawn = find_drawn_faces(picture, mesh, has_mesh)
        found = self.look_at(pixels, picture, latent, told, mesh, has_mesh, drawn)
        motion, mean, std = self.animator.mesh_motion, self.latent_mean, self.latent_std
        own = [
            own_expression(motion, *row, mean, std)
            for row in zip(mesh, told[:, -len(POSE) :], strict=True)
        ]
        own = torch.stack(own) * has_mesh[:, None]
        teeth = upper_teeth(cut_detail(pixels), found.opened[:, :1], found.skin[:, :3])
        inside = plausible(found.inside, pixels, found.skin[:, :3], found.flat)
        return replace(found, inside=inside, own=own, teeth=teeth)

    def look_at(
        self,
        pixels: Tensor,
        fine: Tensor,
        latent: Tensor,
        told: Tensor,
        mesh: Tensor,
        has_mesh: Tensor,
        drawn: DrawnFaces | None = None,
    ) -> ReferenceFeatures:
        """As `encode_reference`, of a picture in both sizes whose latents [B, C] and points are given."""
        levels, detail, inside = self.reference_encoder(pixels, fine)
        near = cut_detail(pixels)
        drawn = drawn or DrawnFaces.none(mesh)
        opened = openings(drawn.places, near.shape[-1]) * has_mesh[:, None, None, None]
        skin = skin_around(near, opened)
        # Of a drawing it is one colour, which hair and brows near large eyes do not change.
        eyes = F.max_pool2d(F.max_pool2d(opened[:, 1:], BLUR), 3, 1, 1)
        flat = eyes * drawn.flat[:, None, None, None]
        skin = torch.lerp(skin, drawn.skin[..., None, None].to(skin), flat.to(skin))
        skin = torch.cat([skin, flat.to(skin)], 1)
        return ReferenceFeatures(
            pixels, fine, levels, detail, inside, latent, told, mesh, has_mesh, drawn.places,
            drawn.times, opened, skin, drawn.flat, latent.new_zeros(len(latent), len(UNITS)),
            torch.zeros_like(opened[:, :1]),
        )  # fmt: skip

    def decode(self, latents: Tensor, reference: ReferenceFeatures) -> Tensor:
        """Standardised latents [B, C, T] to frames [B, 3, T, 2S, 2S], the detail laid over the rest."""
        count = latents.shape[2]
        rows = reference.repeated(count)
        layers = self.layers(latents, reference)
        frames = F.interpolate(layers.frames(rows.pixels), scale_factor=FINE, mode="bilinear")
        under, detail = cut_detail(frames), layers.detail(rows.fine)
        window = detail_window(detail)
        under.copy_(under + window * (detail - under))
        return frames.unflatten(0, (len(latents), count)).transpose(1, 2)

    def begin(self, seed: int) -> MotionState:
        """A stream before its first latent: its clock of blinks."""
        clock = BlinkClock(seed)
        return MotionState(clock, clock.begin())

    def steer(self, state: MotionState, steering: Steering) -> MotionState:
        """The same state of a stream, whose face is asked for this from the next latents on."""
        return replace(state, steering=state.steering.steer(steering))

    def animate(
        self,
        latents: Tensor,
        canvas: Canvas,
        reference: ReferenceFeatures,
        state: MotionState | None = None,
    ) -> tuple[np.ndarray, MotionState | None]:
        """Frames uint8 [T, H, W, 3] of the film of one stream's standardised latents [1, C, T], a few at a
        time, and the state after them; without a state blinks stay as the latents have them.
        """
        if len(latents) != 1:
            raise ValueError(f"A film belongs to one stream, not to {len(latents)}.")
        if state is not None:
            latents, state = self.mend_blinks(latents, state)
        latents = self.encode_motion(add_own(self.read_motion(latents)[0], reference.own[0])[None])
        if state is not None:
            latents, state = self._steered(latents, state)
        frames = frame_array((latents.shape[2], *canvas.reference_frame.shape))

        def make(first: int, few: Tensor) -> None:
            canvas.compose(self.layers(few, reference), frames[first : first + AT_ONCE])

        parts = itertools.count(0, AT_ONCE), latents.split(AT_ONCE, 2)
        threads = torch.get_num_threads() if latents.device.type == "cpu" else 1
        for _ in (_painters(threads).map if threads > 1 else map)(as_here(make), *parts):
            pass
        return frames, state

    def mend_blinks(self, latents: Tensor, state: MotionState) -> tuple[Tensor, MotionState]:
        """Standardised latents [1, C, T] whose lids do what people's do (blinks.py), and the state after.

        What the clock leaves as it is stays bit by bit. Raises ValueError for more than one stream.
        """
        if len(latents) != 1:
            raise ValueError(f"A clock belongs to one stream, not to {len(latents)}.")
        motion = self.read_motion(latents)
        closed = motion[0, :, BLINK].float().cpu().numpy()
        mended, blinks = state.clock.mend(closed, state.blinks)
        motion = motion.clone()
        motion[0, :, BLINK] = torch.from_numpy(mended).to(motion)
        touched = torch.zeros_like(latents, dtype=torch.bool)
        touched[0, BLINK] = torch.from_numpy(mended != closed).to(latents.device)
        mixed = torch.where(touched, self.encode_motion(motion), latents)
        return mixed, replace(state, blinks=blinks)

    def _steered(self, latents: Tensor, state: MotionState) -> tuple[Tensor, MotionState]:
        """Latents [1, C, T] with what is asked for, and the state after; the very same where nothing is."""
        motion = self.read_motion(latents)[0].float().cpu().numpy()
        steered, steering = state.steering.apply(motion)
        if steered is not motion:
            changed = torch.from_numpy(steered - motion).to(latents)
            latents = latents + (changed / self.latent_std).T[None]
        return latents, replace(state, steering=steering)

    def layers(self, latents: Tensor, reference: ReferenceFeatures) -> Layers:
        """What the frames of standardised latents [B, C, T] are made of; their B is B * T."""
        rows = reference.repeated(latents.shape[2])
        return self.animator(latents.transpose(1, 2).flatten(0, 1), rows, decided=True)

    @property
    def detail_parts(self) -> tuple[nn.Module, ...]:
        """What makes eyes and mouth out of all else."""
        seeing = self.reference_encoder
        return self.animator.detail, seeing.detail, seeing.colors, seeing.inside

    @property
    def grid(self) -> TokenGrid:
        """One latent for every frame."""
        return TokenGrid(FRAMES_PER_CHUNK)

    @property
    def channels(self) -> int:
        """Numbers of a latent."""
        return self.config.channels

    @property
    def square_size(self) -> int:
        """Pixels on each side of the square that `encode_reference` takes, 2S."""
        return FINE * self.config.size

    @property
    def has_statistics(self) -> bool:
        """Whether there are statistics of motion; one that was never trained has none."""
        return bool((self.latent_std != 1).any())

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and deviation [C] of motion; latents are then what lies between."""
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std.clamp_min(1e-4))
        self.animator.pose_std.copy_(self.latent_std[-len(POSE) :])
