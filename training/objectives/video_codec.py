"""Motion codec: an encoder that reads motion off pictures, a decoder that moves pictures by it.

The renderer knows the motion, and where thousands of points of the body are and whether they are seen. The
encoder learns by regression. The decoder learns from pictures (L1 and gradients, eyes and mouth counted as
viewers count them) and from the ways of points: a flow that is learnt from pictures alone squeezes the face
to hedge, and paint is laid, blurred, over all that the flow misses; so where a point is seen in both
pictures the reference has to show, and only what it does not show is painted. What a pixel of the detail
shows, fetched or painted, must be of the kind that the renderer tells: an eye, hollow, teeth, tongue or none
of these. It is told the true motion of the frame, since a decoder that is told what the encoder saw blurs
what it cannot rely on. Of the reference's face it is mostly told nothing and has to see for itself, because
on photographs the encoder errs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from mutual_forcing.codecs.face_mesh import POINTS, face_points
from mutual_forcing.codecs.motion_codec import Layers, MotionCodec
from mutual_forcing.codecs.warping import FINE, cut_detail, detail_window, sample, to_detail
from mutual_forcing.motion import KINDS, POSE
from mutual_forcing.pixels import to_pixels, to_signal

from ..data.augment import random_turn, repaint, turn_picture, turn_points
from ..data.free_motion import with_free
from ..data.latents import join_batches
from ..data.mesh_matches import mesh_of
from ..data.portraits import BLINK, FACES, Portraits, is_drawn
from ..data.random_pictures import random_picture
from ..data.tracked_points import LANDMARKS, tracked_count
from ..stage_config import Recipe, Sources, Turns

LATENT_NOISE = 0.05
"""Added to the latents that are decoded, which are standardised."""
REFERENCE_NOISE = 0.25
"""Most noise in what is told of the reference's face."""
TOLD_TRUTH, UNTOLD = 0.1, 0.7
"""Shares of references of whose motion the truth is told, and nothing; of the others, what the encoder
reads."""
FLOW_WEIGHT, DETAIL_FLOW_WEIGHT = 12.0, 24.0
HIDDEN = 0.15
"""What the way of a point counts that the reference hides, where 1 is one that is seen: skin that unfolds,
such as a lid's, then comes from where it went.
"""
MASK_WEIGHT = 0.5
"""Cost of painting where the reference shows the very same point, and of not painting where it does not."""
COVER_WEIGHT = 0.1
"""Cost of painting over the reference's pixels where nobody looks for eyes or mouth: paint is softer than
they are, so it must be better by this much.
"""
KIND_WEIGHT = 1.0
UNSURE = 1e-3
"""Share of every kind that is never ruled out."""
MOTION_WEIGHT = 0.5
POINT_WEIGHT = 2.0
EYE_WEIGHT, MOUTH_WEIGHT = 12.0, 14.0
"""How much more than the rest the middle of an eye and of the mouth counts."""
SPOKEN = 0.6
"""Share of the frames that are moments of speech, whose motion is the corpus's."""
CLOSED = 0.4
"""Share of the frames that are drawn among those with closed lids, where there are any."""
TURNED = 0.7
"""Share of the pairs that are turned, shifted and of other proportions."""
MESH_WEIGHT = 12.0
NO_MESH = 0.1
"""Share of the references whose mesh is not told: in some drawings none is found."""
SHAKEN, SHAKE = 0.5, 0.02
"""Share of the rows whose detail is told the points, a flow that is wrong by so many halves of the picture,
and nothing else of what the levels before it have found.
"""
USUAL_PEOPLE = 100
"""How many people tell what is usual of a mesh."""
HELDOUT_ITEMS = 24


@dataclass(frozen=True)
class VideoBatch:
    """Frames and references [B, 3, 2S, 2S] uint8; of both, in this order, landmarks [B, 2, 64, 2] and tracked
    points [B, 2, N, 2] in -1..1, whether these are in_view (bool [B, 2, N]), motion [B, 2, 28] and kinds
    uint8 [B, 2, 2S, 2S] (mutual_forcing.motion); of the frames, eyes [B, 2, 2] and the mouth's middle and
    size [B, 4] in -1..1. Of the references, where the net finds the face's mesh [B, 468, 2] in -1..1, if it
    does (has_mesh float32 [B]); of all faces of the person, the mesh's true places, faces_mesh [B, 16, 468,
    2], and faces_motion [B, 16, 28], both faces' numbers first.

    Where not `known` (bool [B]) there is no face, and no truth of it; where not `rendered` (bool [B]) there
    is no truth of the mesh.
    """

    frames: Tensor
    references: Tensor
    landmarks: Tensor
    tracked: Tensor
    in_view: Tensor
    motion: Tensor
    kinds: Tensor
    eyes: Tensor
    mouth: Tensor
    known: Tensor
    mesh: Tensor
    has_mesh: Tensor
    faces_mesh: Tensor
    faces_motion: Tensor
    rendered: Tensor


@dataclass(frozen=True)
class VideoCodecConfig:
    """unrelated: share of the rows that show a picture without a face, standing still. only_detail: eyes and
    mouth alone learn; everything else is the recipe's first `init`, statistics of motion among it.
    """

    kind: ClassVar[str] = "video_codec"
    unrelated: float = 0.05
    only_detail: bool = False

    def build(self, sources: Sources, recipe: Recipe) -> MotionCodecObjective:
        """See ObjectiveConfig."""
        codec = MotionCodec(sources.system_config.video_codec)
        if self.only_detail:
            codec.load_state_dict(sources.system().video_codec.state_dict())
            codec.requires_grad_(False)
            for part in codec.detail_parts:
                part.requires_grad_(True)
        else:
            statistics = sources.corpus().motion_statistics(codec.config.free)
            codec.set_statistics(*(torch.from_numpy(part) for part in statistics))
        return MotionCodecObjective(
            codec, sources.portraits(), recipe.batch, recipe.seed, self.unrelated
        )


class MotionCodecObjective:
    """Animate one face of a person to look like another."""

    splits = False

    def __init__(
        self,
        codec: MotionCodec,
        portraits: Portraits,
        batch: int,
        seed: int,
        unrelated: float = 0.05,
    ) -> None:
        """codec: knows the statistics of motion; of it learns what wants gradients."""
        self.size, self.portraits, self.count = codec.config.size, portraits, batch
        self.seed, self.unrelated = seed, unrelated
        self.model = codec
        self.model.to(memory_format=torch.channels_last)
        self.only_detail = not next(codec.encoder.parameters()).requires_grad
        self.networks: dict[str, nn.Module] = {"model": self.model}
        self.people = {name: portraits.split(name) for name in ("train", "heldout")}
        self._meshes: dict[tuple[int, int], np.ndarray | None] = {}
        rendered = [number for number in self.people["train"] if not is_drawn(number)]
        if rendered and not self.only_detail:
            meshes = [mesh_of(portraits.truth(n).tracked) for n in rendered[:USUAL_PEOPLE]]
            usual = torch.from_numpy(np.mean(meshes, axis=(0, 1))) * 2 - 1
            self.model.animator.mesh_motion.usual.copy_(usual)

    def batch(self, step: int) -> VideoBatch:
        """Pairs of random people, and now and then an unrelated picture standing still."""
        return self._draw(np.random.default_rng([self.seed, step]), "train", self.count)

    def _draw(self, rng: np.random.Generator, split: str, count: int) -> VideoBatch:
        return join_batches(
            [
                self._still(rng)
                if split == "train" and rng.random() < self.unrelated
                else self._pair(rng, split)
                for _ in range(count)
            ]
        )

    def _still(self, rng: np.random.Generator) -> VideoBatch:
        """One row that shows an unrelated picture standing still."""
        picture = random_picture(rng, FINE * self.size)
        return _row(
            frames=picture,
            references=picture,
            landmarks=np.zeros((2, LANDMARKS, 2), np.float32),
            tracked=np.zeros((2, tracked_count(), 2), np.float32),
            in_view=np.zeros((2, tracked_count()), bool),
            motion=np.zeros((2, self.model.channels), np.float32),
            kinds=np.zeros((2, *picture.shape[:2]), np.uint8),
            eyes=np.zeros((2, 2), np.float32),
            mouth=np.zeros(4, np.float32),
            known=False,
            mesh=np.zeros((POINTS, 2), np.float32),
            has_mesh=np.float32(0),
            faces_mesh=np.zeros((FACES, POINTS, 2), np.float32),
            faces_motion=np.zeros((FACES, self.model.channels), np.float32),
            rendered=False,
        )

    def _pair(self, rng: np.random.Generator, split: str) -> VideoBatch:
        """One row: two faces of a person; now and then the same one, which moves nothing."""
        people = self.people[split] or self.people["train"]
        person = people[rng.integers(len(people))]
        truth = self.portraits.truth(person)
        motion = with_free(vars(truth), self.model.config.free)
        lids = motion[:, BLINK]
        opened = np.flatnonzero(lids <= 0.5)
        reference = int(rng.choice(opened if len(opened) and rng.random() < 0.93 else FACES))
        # Frames mostly move as streams do; the mixed faces, which come after, move two or three times more.
        spoken = rng.random() < SPOKEN
        chosen = np.arange(FACES // 2 if spoken else FACES)
        closed = chosen[lids[chosen] > 0.5] if spoken else np.flatnonzero(lids > 0.5)
        frame = int(rng.choice(closed if len(closed) and rng.random() < CLOSED else chosen))
        if rng.random() < 0.04 and split == "train":
            frame = reference
        both = [frame, reference]
        turn = random_turn(rng) if split == "train" and rng.random() < TURNED else np.eye(2, 3)
        side = FINE * self.size
        pictures = [turn_picture(self.portraits.picture(person, i), turn, side) for i in both]
        kinds = [
            turn_picture(self.portraits.kinds(person, i), turn, side, cv2.INTER_NEAREST)
            for i in both
        ]
        mouth = truth.mouth[frame]
        mesh = self._mesh(person, reference)
        if split == "train" and rng.random() < NO_MESH:
            mesh = None
        # The row's own two first, see mesh_error.
        faces = [*both, *(i for i in range(FACES) if i not in both)][:FACES]
        return _row(
            frames=pictures[0],
            references=pictures[1],
            landmarks=turn_points(truth.landmarks[both], turn),
            tracked=turn_points(truth.tracked[both], turn),
            in_view=truth.in_view[both],
            motion=motion[both],
            kinds=np.stack(kinds),
            eyes=turn_points(truth.eyes[frame], turn),
            mouth=np.append(turn_points(mouth[:2], turn), 2 * mouth[2:] * np.diag(turn)),
            known=True,
            mesh=np.zeros((POINTS, 2), np.float32) if mesh is None else turn_points(mesh, turn),
            has_mesh=np.float32(mesh is not None),
            faces_mesh=turn_points(mesh_of(truth.tracked[faces]), turn),
            faces_motion=motion[faces],
            rendered=not is_drawn(person),
        )

    def _mesh(self, person: int, face: int) -> np.ndarray | None:
        """The mesh [468, 2] that the net finds in a portrait, in fractions of it, looked for once."""
        if (person, face) not in self._meshes:
            picture = torch.from_numpy(self.portraits.picture(person, face)).permute(2, 0, 1)
            mesh, has_mesh = face_points(to_signal(picture[None]))
            self._meshes[person, face] = (mesh[0].numpy() + 1) / 2 if has_mesh[0] else None
        return self._meshes[person, face]

    def step(
        self, batch: VideoBatch, ema: nn.Module, generator: torch.Generator, step: int
    ) -> Turns:
        """Reconstruction terms, ways of points and controls; see the module's docstring."""
        model, device = self.model, next(self.model.parameters()).device
        fine, picture = (to_signal(x.to(device)) for x in (batch.frames, batch.references))
        shown = (F.avg_pool2d(fine, FINE), cut_detail(fine), F.avg_pool2d(picture, FINE), picture)
        target, detail, pixels, picture = repaint(shown, (1, FINE, 1, FINE), generator)
        known = batch.known.to(device).float()
        truth = model.encode_motion(batch.motion.to(device))
        values, seen = self._read(target, pixels, truth, batch.landmarks.to(device), known)
        told = uncertain(truth[..., 1], seen.float(), generator)
        noise = torch.randn(truth[..., 0].shape, generator=generator, device=device)
        mesh, has_mesh = batch.mesh.to(device), batch.has_mesh.to(device)
        # Before the decoder, which uses the same weights without a graph: autocast would keep their copies.
        if not self.only_detail:
            values["mesh"] = mesh_error(model, batch, 1 + step % (FACES - 1))
        reference = model.look_at(pixels, picture, seen, told, mesh, has_mesh)
        shake = SHAKE * torch.randn((len(target), 2, 5, 5), generator=generator, device=device)
        shaken = torch.rand(len(target), generator=generator, device=device) < SHAKEN
        shake = shake * (shaken & (has_mesh > 0))[:, None, None, None]
        layers = model.animator(truth[..., 0] + LATENT_NOISE * noise, reference, shake=shake)
        weight = attention(batch.eyes.to(device), batch.mouth.to(device), fine.shape[-1], known)
        near = cut_detail(weight) * (0.1 + detail_window(target))
        rest = weight[..., ::FINE, ::FINE]
        # What the paint covers is what it must be good at.
        covered = (1 - layers.detail_mask.float()).detach() + 0.1
        if not self.only_detail:
            values["l1"] = picture_loss(layers.frames(pixels).float(), target, rest)
            values["painted"] = picture_loss(layers.painted.float(), target, rest)
        values |= {
            "detail": picture_loss(layers.detail(picture).float(), detail, near),
            "detail_painted": picture_loss(layers.detail_painted.float(), detail, near * covered),
            "covered": ((1 - layers.mask.float()) / rest).mean()
            + ((1 - layers.detail_mask.float()) / near.clamp_min(1)).mean(),
            "kinds": kind_loss(layers, batch.kinds.to(device), near),
            **point_losses(layers, batch.tracked.to(device), batch.in_view.to(device)),
        }
        values["loss"] = (
            values.get("l1", 0)
            + 0.3 * values.get("painted", 0)
            + values["detail"]
            + 0.3 * values["detail_painted"]
            + FLOW_WEIGHT * values["flow"]
            + DETAIL_FLOW_WEIGHT * values["detail_flow"]
            + MASK_WEIGHT * (values["kept"] + values["opened"])
            + COVER_WEIGHT * values["covered"]
            + KIND_WEIGHT * values["kinds"]
            + MESH_WEIGHT * values.get("mesh", 0)
            + POINT_WEIGHT * values.get("points", 0)
            + MOTION_WEIGHT * values.get("motion", 0)
        )
        yield "model", values

    def _read(
        self, target: Tensor, pixels: Tensor, truth: Tensor, landmarks: Tensor, known: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The encoder's losses on frames and references [B, 3, S, S], and what it reads off the references,
        [B, C]. Where only the detail learns there are no losses.
        """
        if self.only_detail:
            return {}, self.model.encode_still(pixels)
        seen, found = self.model.observe(torch.stack([target, pixels], 2))
        values = {
            "points": point_error(found, landmarks, known),
            "motion": motion_error(seen, truth, known),
        }
        return values, seen[..., 1].detach()

    def write_samples(self, ema: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """A sheet of reference | truth | made on held-out people, and PSNR of the decoder that is told the
        frame's true motion and the reference's true pose: of all, and around eyes and mouth.
        """
        device = next(ema.parameters()).device
        batch = self._draw(np.random.default_rng([self.seed, 2**31]), "heldout", HELDOUT_ITEMS)
        fine, picture = (to_signal(x.to(device)) for x in (batch.frames, batch.references))
        target, known = F.avg_pool2d(fine, FINE), batch.known.to(device).float()
        truth = ema.encode_motion(batch.motion.to(device))
        both = torch.stack([target, F.avg_pool2d(picture, FINE)], 2)
        seen, found = ema.observe(both)
        reference = ema.encode_reference(picture)
        pose = torch.cat([reference.told[:, : -len(POSE)], truth[:, -len(POSE) :, 1]], 1)
        reference = replace(reference, told=pose)
        made = ema.decode(truth[..., :1], reference)[:, :, 0]
        _write_sheet([picture, fine, made], folder / f"{step:06d}.jpg")
        weight = attention(batch.eyes.to(device), batch.mouth.to(device), fine.shape[-1], known) - 1
        layers = ema.animator(truth[..., 0], reference)
        ways = point_losses(layers, batch.tracked.to(device), batch.in_view.to(device))
        return {
            "heldout/psnr": psnr(made, fine),
            "heldout/psnr_of_reference": psnr(picture, fine),
            "heldout/psnr_eyes_mouth": psnr(made, fine, weight),
            "heldout/psnr_eyes_mouth_of_reference": psnr(picture, fine, weight),
            "heldout/flow_pixels": float(ways["flow"]) * self.size / 2,
            "heldout/detail_flow_pixels": float(ways["detail_flow"]) * self.size / 2,
            "heldout/kinds": float(kind_loss(layers, batch.kinds.to(device), cut_detail(weight))),
            "heldout/kept": float(ways["kept"]),
            "heldout/opened": float(ways["opened"]),
            "heldout/mesh_pixels": float(mesh_error(ema, batch, 1)) * self.size / 2,
            "heldout/point_pixels": float(point_error(found, batch.landmarks.to(device), known))
            * self.size
            / 2,
            "heldout/motion": float(motion_error(seen, truth, known)),
        }

    def finish(self, ema: nn.Module) -> None:
        """Nothing to add: the latents' statistics are those of the corpus."""


def _row(*, frames: np.ndarray, references: np.ndarray, **others: Any) -> VideoBatch:
    """A batch of one from pictures [2S, 2S, 3] and what VideoBatch names, without its B."""
    arrays = {"frames": np.moveaxis(frames, 2, 0), "references": np.moveaxis(references, 2, 0)}
    return VideoBatch(
        **{n: torch.from_numpy(np.array(part)[None]) for n, part in {**arrays, **others}.items()}
    )


def uncertain(truth: Tensor, seen: Tensor, generator: torch.Generator) -> Tensor:
    """What the animator is told of references' motion [B, C]: of the face mostly nothing (0, the mean), as in
    streams, sometimes what the encoder has seen or the truth, with more or less noise.

    Of the pose it is the truth: where head and eyes point and stand depends on the camera, of which no
    picture tells. What the encoder misses there moves all frames of a film alike, and need not be hedged
    against.
    """

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=truth.device)

    noise = torch.randn(truth.shape, generator=generator, device=truth.device)
    told = torch.where(draw(len(truth), 1) < TOLD_TRUTH, truth, seen)
    told = told + REFERENCE_NOISE * draw(len(truth), 1) * noise
    told = told * (draw(len(truth), 1) >= UNTOLD)
    pose = torch.arange(truth.shape[1], device=truth.device) >= truth.shape[1] - len(POSE)
    return torch.where(pose, truth + LATENT_NOISE * noise, told)


def attention(eyes: Tensor, mouth: Tensor, size: int, known: Tensor) -> Tensor:
    """How much viewers look at each pixel: 1, and more around eyes [B, 2, 2] and mouth [B, 4]: [B, 1, size,
    size].

    Only 1 where not `known` [B].
    """
    line = (torch.arange(size, device=eyes.device) * 2 + 1) / size - 1
    # The mouth's box knows how large the face is.
    reach = mouth[:, 2, None].clamp_min(1e-3)

    def spot(centre: Tensor, wide: float, high: float) -> Tensor:
        x, y = (
            torch.exp(-0.5 * ((line - centre[:, axis, None]) / (share * reach)) ** 2)
            for axis, share in ((0, wide), (1, high))
        )
        return x[:, None, :] * y[:, :, None]

    shown = EYE_WEIGHT * (spot(eyes[:, 0], 0.13, 0.1) + spot(eyes[:, 1], 0.13, 0.1))
    shown = shown + MOUTH_WEIGHT * spot(mouth[:, :2], 0.25, 0.22)
    return (1 + shown * known[:, None, None])[:, None]


def picture_loss(made: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 of pictures [B, 3, H, H] and of their gradients at two scales; weight [B, 1, H, H]."""
    error = made - target
    total = (error.abs() * weight).mean()
    for _ in range(2):
        across, down = error.diff(dim=-1).abs(), error.diff(dim=-2).abs()
        total = total + 0.5 * (
            (across * weight[..., 1:]).mean() + (down * weight[..., 1:, :]).mean()
        )
        error, weight = F.avg_pool2d(error, 2), F.avg_pool2d(weight, 2)
    return total


def point_losses(layers: Layers, tracked: Tensor, in_view: Tensor) -> dict[str, Tensor]:
    """How well layers know where points come from; tracked [B, 2, N, 2] in frame and reference, in_view bool
    [B, 2, N].

    flow and detail_flow: how far from its place in the reference every point is fetched, in halves of the
    picture. kept: -log(mask), of both masks, where the reference shows the very same point; opened: -log(1 -
    mask), where it hides it; both over the number of all points. What lies outside either picture does not
    count, nor for the detail what lies outside its square.
    """
    places, origins = tracked[:, 0], tracked[:, 1]
    inside = (tracked.abs().amax(3) < 1).all(1) & in_view[:, 0]
    both, hidden = (inside & in_view[:, 1]).float(), (inside & ~in_view[:, 1]).float()
    weight = both + HIDDEN * hidden
    near = to_detail(places)
    close = (near.abs().amax(2) < 0.9).float()

    def at(x: Tensor, where: Tensor) -> Tensor:
        return sample(x.float(), where[:, None])[:, :, 0].transpose(1, 2)

    def mean(x: Tensor, weight: Tensor) -> Tensor:
        return (x * weight).sum() / weight.sum().clamp_min(1)

    def missed(flow: Tensor, where: Tensor) -> Tensor:
        return (at(flow, where) + places - origins).abs().mean(2)

    def of_mask(wanted: float, counts: Tensor) -> Tensor:
        whole, detail = at(layers.mask, places), at(layers.detail_mask, near)
        lost = (
            -(1 - (mask[..., 0] - wanted).abs()).clamp_min(1e-4).log() for mask in (whole, detail)
        )
        shares = (inside.float(), counts), (inside * close, counts * close)
        return sum(
            (x * w).sum() / n.sum().clamp_min(1) for x, (n, w) in zip(lost, shares, strict=True)
        )

    return {
        "flow": mean(missed(layers.flow, places), weight),
        "detail_flow": mean(missed(layers.detail_flow, near), weight * close),
        "kept": of_mask(1.0, both),
        "opened": of_mask(0.0, hidden),
    }


def kind_loss(layers: Layers, kinds: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy of what the detail shows, fetched from the reference or painted, and what it should.

    kinds uint8 [B, 2, 2S, 2S] of frame and reference, weight [B, 1, S, S].
    """

    def named(shown: Tensor) -> Tensor:
        return torch.stack([shown == kind for kind in range(len(KINDS))], 1).float()

    frame, reference = named(cut_detail(kinds[:, 0])), named(kinds[:, 1])
    assert layers.detail_kinds is not None, "they are for training"
    mask = layers.detail_mask.float()
    shown = layers.detail_kinds.float() * (1 - mask) + layers.fetched(reference) * mask
    right = (shown * frame).sum(1, keepdim=True)
    # What is surely wrong costs no more than 7, and still learns.
    return -((right * (1 - UNSURE) + UNSURE).log() * weight).sum() / weight.sum()


def mesh_error(model: MotionCodec, batch: VideoBatch, turn: int) -> Tensor:
    """How far from their places points are moved, in halves of the picture: every face of a person to the
    motion of the one `turn` places on, and the mesh that was found to the frame's.
    """
    device = next(model.parameters()).device
    meshes = batch.faces_mesh.to(device)
    latents = model.encode_motion(batch.faces_motion.to(device)).transpose(1, 2)
    rendered, has_mesh = batch.rendered.to(device).float(), batch.has_mesh.to(device)
    start = torch.cat([meshes.roll(turn, 1), batch.mesh.to(device)[:, None]], 1)
    pose = torch.cat([latents.roll(turn, 1), latents[:, 1:2]], 1)[..., -len(POSE) :]
    # Found points are moved as the true ones are: where the net sees a rim is its own matter.
    found = batch.mesh.to(device) + meshes[:, 0] - meshes[:, 1]
    wanted = torch.cat([meshes, found[:, None]], 1)
    latents = torch.cat([latents, latents[:, :1]], 1)
    counts = torch.ones_like(wanted[..., 0, 0]) * rendered[:, None]
    counts[:, -1] *= has_mesh
    parts = (start.flatten(0, 1), latents.flatten(0, 1), pose.flatten(0, 1))
    moved = model.animator.mesh_motion(*parts).view_as(wanted)
    missed = (moved - wanted).abs().mean((2, 3))
    return (missed * counts).sum() / counts.sum().clamp_min(1)


def point_error(found: Tensor, places: Tensor, known: Tensor) -> Tensor:
    """Mean distance per axis of points [B, F, 64, 2] from their places, in halves of the picture."""
    inside = (places.abs().amax(3) < 1).float() * known[:, None, None]
    distance = (found.float() - places).abs().mean(3)
    return (distance * inside).sum() / inside.sum().clamp_min(1)


def motion_error(seen: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Mean squared distance of standardised latents [B, C, F]: 1 would be knowing nothing of the corpus.

    Portraits move more than the corpus, which the latents are standardised by: beyond three deviations a miss
    counts linearly.
    """
    distance = F.huber_loss(seen.float(), truth.float(), delta=3.0, reduction="none") * 2
    return (distance.mean((1, 2)) * known).sum() / known.sum().clamp_min(1)


def psnr(output: Tensor, target: Tensor, weight: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB of signals within -1..1, optionally weighted."""
    error = (output.float().clamp(-1, 1) - target).square()
    mean = error.mean() if weight is None else (error * weight).sum() / (3 * weight.sum())
    return float(10 * torch.log10(4 / mean))


def _write_sheet(columns: list[Tensor], path: Path) -> None:
    """Four rows' faces beside each other, one group of columns per face: JPEG."""
    faces = torch.cat(columns, -1)[:HELDOUT_ITEMS, ..., ::2, ::2]
    across = 2
    rows = [torch.cat(list(faces[i : i + across]), -1) for i in range(0, len(faces), across)]
    pixels = to_pixels(torch.cat(rows, -2)).permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels).save(path, quality=90)
