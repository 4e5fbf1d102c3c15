"""What a run of the evaluation measures: how many clips, which modes, how long a stream."""

from __future__ import annotations

from dataclasses import dataclass

from mutual_forcing import StreamingGenerator
from mutual_forcing.codecs.protocol import FaceCodec
from mutual_forcing.metrics import frechet
from mutual_forcing.models import sound_reader

from ..data.dataset import Clip
from .heldout import CLIPS, Choice
from .judge import Judge
from .long import OPENING_SECONDS
from .systems import (
    ClipSample,
    MeasuredSystem,
    Setting,
    driven,
    evenly,
    generation,
    predicted_times,
    reconstruction,
    static_reference,
    true_motion,
    truth,
    wrong_picture,
    wrong_words,
)

SLOW_STEPS = 32
"""Number of steps from which on a clip takes so long that a suite makes fewer clips."""


@dataclass(frozen=True)
class Suite:
    """Numbers of clips for each measurement; 0 leaves it out.

    clips: for the truth, the autoencoders and Few mode. multi_clips: for Multi mode below 32 steps.
    slow_clips: from 32 steps on. steps: see Setting.parse. long_seconds, long_steps, long_streams: length,
    modes and characters of the long streams. opening: see `write_script`. controls: predicted times of the
    words, wrong words, wrong picture, and driven by sound. diversity: compared across `seeds` seeds.
    reference: real training clips that the Frechet distances are measured from. identities: held-out ones of
    the corpus that is made where none is given. ceilings: rows for the static reference, the autoencoders and
    the true motion, and the truth's long streams, in which the transformer has no part. memory: of each mode
    alone. split: "test", or "development" for what choices are made on.
    """

    clips: int = 50
    multi_clips: int = 50
    slow_clips: int = 50
    steps: tuple[str, ...] = ("4", "8", "50")
    long_seconds: float = 0.0
    long_steps: tuple[str, ...] = ("4",)
    long_streams: int = 1
    opening: float = OPENING_SECONDS
    controls: int = 0
    diversity: int = 0
    seeds: int = 2
    reference: int = 0
    identities: int = 17
    ceilings: bool = True
    memory: bool = False
    split: str = "test"

    @property
    def choice(self) -> Choice:
        """The corpus that it needs."""
        needed = max(self.identities, -(-self.clips // CLIPS), 2)
        return Choice(needed, -(-self.reference // CLIPS), self.split)


SUITES = {
    "rows": Suite(),
    "quick": Suite(
        clips=4,
        multi_clips=2,
        slow_clips=1,
        long_seconds=15.0,
        controls=2,
        diversity=2,
        reference=9,
        identities=6,
    ),
    "full": Suite(
        clips=20,
        multi_clips=8,
        slow_clips=4,
        steps=("1", "2", "4", "8", "m8", "16", "50"),
        long_seconds=60.0,
        long_steps=("4", "50"),
        long_streams=2,
        controls=8,
        diversity=4,
        seeds=3,
        reference=39,
        identities=16,
        memory=True,
    ),
}


def pool(judge: Judge) -> list[Clip]:
    """Films of the measured split whose identity has a second clip. Raises ValueError if there is none."""
    corpus, split = judge.corpus, judge.split
    clips = [clip for clip in corpus.films(split) if len(corpus.siblings[clip.identity]) > 1]
    if not clips:
        raise ValueError(
            f"No identity of the corpus's split {split} has a second clip as its reference; choose another "
            "with --split."
        )
    return clips


def settings(suite: Suite) -> list[Setting]:
    """The modes of the table, in order."""
    return [Setting.parse(text) for text in suite.steps]


def clips_for(suite: Suite, clips: tuple[Clip, ...], setting: Setting) -> tuple[Clip, ...]:
    """Those of `clips` that a mode makes; the first is always among them."""
    if setting.mode == "few":
        return clips
    count = suite.slow_clips if setting.steps >= SLOW_STEPS else suite.multi_clips
    return evenly(list(clips), count)


def build_systems(
    suite: Suite,
    judge: Judge,
    generators: dict[str, StreamingGenerator],
    seed: int,
) -> list[MeasuredSystem]:
    """The rows of the table, in order. `generators`: "" is the one that is measured, " before" another."""
    corpus, generator = judge.corpus, generators[""]
    clips = evenly(pool(judge), suite.clips)

    def rebuilt(clip: Clip) -> ClipSample:
        return reconstruction(generator, corpus, clip)

    def moved(clip: Clip) -> ClipSample:
        return true_motion(generator, corpus, clip)

    def system(name: str, make, nfe: int, source: str, chosen: tuple[Clip, ...]) -> MeasuredSystem:  # noqa: ANN001
        return MeasuredSystem(name, make, nfe, f"{judge.digest} {source}".strip(), chosen)

    digest = generator.system.digest
    systems = [system("ground truth", truth, 0, "", clips)]
    if suite.ceilings:
        systems += [
            system("still reference", lambda clip: static_reference(corpus, clip), 0, "", clips),
            system("autoencoders", rebuilt, 0, digest, clips),
        ]
        if isinstance(generator.system.video_codec, FaceCodec):
            systems.append(system("true motion", moved, 0, digest, clips))
    for setting in settings(suite):
        for suffix, source in generators.items():
            make = generation(source, corpus, setting, seed)
            made_by = f"{source.system.digest} seed {seed}"
            chosen = clips_for(suite, clips, setting)
            systems.append(
                system(f"{setting.name}{suffix}", make, setting.sampler.nfe, made_by, chosen)
            )
    if suite.controls:
        setting = control_setting(suite)
        controls = {
            "predicted times": predicted_times,
            "wrong words": wrong_words,
            "wrong picture": wrong_picture,
            "driven": driven,
        }
        for name, control in controls.items():
            make = control(generator, corpus, setting, seed)
            chosen = evenly(list(clips), suite.controls)
            read = f" reading {sound_reader.VERSION}" if control is driven else ""
            made_by = f"{digest} seed {seed}{read}"
            name = f"{name}, {setting.name}"
            systems.append(system(name, make, setting.sampler.nfe, made_by, chosen))
    return systems


def control_setting(suite: Suite) -> Setting:
    """The mode that controls and diversity use: Few with 4 steps if it is measured, else the first."""
    found = settings(suite)
    return next((s for s in found if s == Setting(4, "few")), found[0])


def describe(suite: Suite, systems: list[MeasuredSystem], judge: Judge, seed: int) -> str:
    """The notes under the table."""
    count, heldout = len(systems[0].clips), len(judge.pictures)
    fewer = [f"{s.name} only {len(s.clips)}" for s in systems if len(s.clips) < count]
    parts = [
        f"{count} held-out clips ({heldout} held-out identities; every sentence has words that never "
        f"occur in training), seed {seed}.",
        f"Fewer clips, spread evenly: {'; '.join(fewer)}." if fewer else "",
        "Autoencoders: the truth through both." if suite.ceilings else "",
        "True motion: the corpus's own motion, as the transformer learns it, animates the reference; no mode "
        "can be expected to do better."
        if any(s.name == "true motion" for s in systems)
        else "",
        "WER by pocketsphinx without a grammar, over all words, 95 % intervals over clips; closed: it "
        f"chooses among the {len(judge.vocabulary)} words of the held-out sentences, in any order and all "
        "equally likely, so that rare words count as much as common ones and no sentence is guessed.",
        "Unseen words: those that no training sentence of this corpus' seed can have.",
        "Word onset: median distance from the requested onset, over the words that were recognised.",
        "Mouth correlation: openness read from pixels against the requested visemes. Lag: median of the "
        "best within 5 frames, positive when the lips are late.",
        "Sync pair: similarity of lips and sound at lag 0 above the median of lags within 15 frames "
        "(metrics/weights/sync.json has its calibration); it is not LSE-C.",
        f"Identity: how often the reference is the nearest of {heldout} (chance {1 / heldout:.2f}), "
        "whole picture and middle half. It says that the picture kept its identity, not that it was "
        "made well: the still reference has it too, and the decoder is shown the reference.",
    ]
    if suite.controls:
        parts.append(
            "Driven: the clip's own sound is given instead of its words, so that words count for "
            "nothing and lips for everything."
        )
    if suite.reference:
        parts.append(
            f"Frechet distances are measured from {suite.reference} training clips, with features of "
            "64 numbers; floor: the truth of the same clips. They are not comparable with published "
            f"FVD or FAD. ~: fewer than {frechet.ENOUGH} windows, which say little."
        )
    return " ".join(filter(None, parts))
