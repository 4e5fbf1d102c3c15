"""The stages of each preset: functions that return recipes. Steps are what the numbers need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mutual_forcing.config import PRESETS

from .objectives.audio_codec import SourceFilterCodecConfig
from .objectives.audio_detail import AudioDetailConfig
from .objectives.base import ClipConfig
from .objectives.bidirectional import BidirectionalConfig
from .objectives.diffusion_forcing import DiffusionForcingConfig
from .objectives.duration_predictor import DurationPredictorConfig
from .objectives.losses import DEFAULT_GUIDANCE, Guidance
from .objectives.mutual_forcing import DMDConfig, MutualForcingConfig, RolloutConfig
from .objectives.pixel_codec import PixelCodecConfig
from .objectives.self_forcing import SelfForcingConfig
from .objectives.sound_reading import SoundReadingConfig
from .objectives.teacher_forcing import ConsistencyConfig, TeacherForcingConfig
from .objectives.video_codec import VideoCodecConfig
from .stage_config import ObjectiveConfig, OptimizerConfig, Recipe

STAGES = (
    "video_codec",
    "video_detail",
    "audio_codec",
    "audio_detail",
    "duration",
    "audio_pretrain",
    "video_pretrain",
    "joint",
    "mutual_forcing",
    "sound_reader",
)
"""What `reproduce` runs, in order."""

PUBLIC = "public"
"""The stage that public weights are imported as (import_public.py)."""

BASELINES = (
    "teacher_forcing",
    "diffusion_forcing",
    "shortcut_tf",
    "dmd_tf",
    "bidirectional",
    "self_forcing",
    "mutual_forcing_sc",
    "mutual_forcing_dmd",
)
"""What `compare` runs besides mutual_forcing: all from the joint model, on the same data, at one budget."""


@dataclass(frozen=True)
class Scale:
    """What differs between presets: corpus, steps and batch sizes. Fewer for the smoke test.

    hours: of speech; analysed: of it, what the audio codec learns from. filmed: share of the training
    identities that have pictures, of `size` pixels on each side. portraits: people drawn for the motion
    codec, at portrait_size pixels, twice what its encoder sees. lengths: clips of so many chunks in the last
    stage, its batch counted in the shortest. guidance: for Few mode to learn in the last stage. pixels:
    whether the video codec makes whole frames: it learns from the films, and needs no portraits. public:
    whether codecs and video branch are public ones (import_public.py): the former are not trained, and the
    latter needs no stage of its own.
    """

    hours: float
    analysed: float
    filmed: float
    size: int
    portraits: int
    portrait_size: int
    steps: dict[str, int]
    batch: dict[str, int]
    lengths: tuple[int, ...] = (5,)
    fake_updates: int = 2
    guidance: Guidance = DEFAULT_GUIDANCE
    pixels: bool = False
    public: bool = False
    refining: dict[str, int] = field(default_factory=dict)


_TINY = Scale(
    hours=8.0,
    analysed=1.0,
    filmed=0.04,
    size=256,
    portraits=1500,
    portrait_size=512,
    steps={
        "video_codec": 8000,
        "video_detail": 3000,
        "audio_codec": 6000,
        "audio_detail": 3000,
        "duration": 600,
        "audio_pretrain": 2000,
        "video_pretrain": 700,
        "joint": 300,
        "mutual_forcing": 320,
        "sound_reader": 8500,
    },
    batch={
        "video_codec": 12,
        "video_detail": 12,
        "audio_codec": 16,
        "audio_detail": 6,
        "duration": 32,
        "audio_pretrain": 24,
        "video_pretrain": 16,
        "joint": 12,
        "mutual_forcing": 10,
        "sound_reader": 16,
    },
    lengths=(5, 6),
    fake_updates=1,
    # Few mode then holds 0.6 of it (guidance_distillation.py): in sound as much as Multi mode's 2.
    guidance=Guidance(video=2.0, audio=3.0),
    refining={"speech": 500, "joint": 400, "mutual_forcing": 120},
)

_PUBLIC = Scale(
    hours=24.0,
    analysed=0.0,
    filmed=1.0,
    size=512,
    portraits=0,
    portrait_size=512,
    steps={
        "duration": 3000,
        "audio_pretrain": 60_000,
        "joint": 20_000,
        "mutual_forcing": 6000,
    },
    batch={"duration": 64, "audio_pretrain": 256, "joint": 64, "mutual_forcing": 32},
    lengths=(5, 8),
    pixels=True,
    public=True,
)
"""For branches of 5B and 7B. These steps and batches are a guess: nobody has run them at this size."""

_SMOKE = Scale(
    hours=0.02,
    analysed=0.02,
    filmed=1.0,
    size=128,
    portraits=4,
    portrait_size=128,
    steps=dict.fromkeys(STAGES, 2),
    batch=dict.fromkeys(STAGES, 2),
    refining={"speech": 2, "joint": 2, "mutual_forcing": 2},
)

SCALES = {
    "tiny": _TINY,
    "base": replace(
        _TINY,
        analysed=1.5,
        steps={
            "video_codec": 10_000,
            "video_detail": 2000,
            "audio_codec": 8000,
            "audio_detail": 3000,
            "duration": 1500,
            "audio_pretrain": 6000,
            "video_pretrain": 2500,
            "joint": 1500,
            "mutual_forcing": 1000,
            "sound_reader": 8500,
        },
        lengths=(5, 6, 9, 12),
    ),
    "pixels": replace(
        _TINY,
        hours=1.5,
        filmed=1.0,
        size=64,
        steps={
            **_TINY.steps,
            "video_codec": 4000,
            "audio_pretrain": 1500,
            "video_pretrain": 1500,
            "joint": 500,
            "mutual_forcing": 300,
        },
        batch={
            **_TINY.batch,
            "video_codec": 24,
            "video_pretrain": 12,
            "joint": 8,
            "mutual_forcing": 6,
        },
        pixels=True,
        refining={},
    ),
    "small": Scale(
        hours=24.0,
        analysed=4.0,
        filmed=0.04,
        size=256,
        portraits=6000,
        portrait_size=1024,
        steps={
            "video_codec": 12_000,
            "video_detail": 4000,
            "audio_codec": 20_000,
            "audio_detail": 6000,
            "duration": 3000,
            "audio_pretrain": 10_000,
            "video_pretrain": 8000,
            "joint": 12_000,
            "mutual_forcing": 3000,
            "sound_reader": 10_000,
        },
        batch={
            "video_codec": 24,
            "video_detail": 24,
            "audio_codec": 64,
            "audio_detail": 24,
            "duration": 64,
            "audio_pretrain": 64,
            "video_pretrain": 48,
            "joint": 48,
            "mutual_forcing": 32,
            "sound_reader": 32,
        },
    ),
    "smoke": _SMOKE,
    "wan_smoke": replace(_SMOKE, size=64, portraits=0, analysed=0.0, pixels=True, public=True),
    **{name: _PUBLIC for name in PRESETS if name.startswith(("wan_5b", "paper_14b"))},
}


CLIPS = ClipConfig(lengths=(5,))
"""Of the stages with video: one chunk is mostly the static picture that streams begin with."""
HISTORY_NOISE = 0.02


def _check_trained(scale: Scale) -> None:
    if scale.public:
        raise ValueError("The codecs of this preset are public ones: there is no such stage.")


def _video_codec(scale: Scale) -> Recipe:
    _check_trained(scale)
    if scale.pixels:
        # Convolutions in space and time: Muon is for matrices.
        slow = OptimizerConfig(lr=1e-3, final_lr=5e-5, clip=1.0, muon=0)
        return _recipe(scale, "video_codec", PixelCodecConfig(), slow)
    optimizer = OptimizerConfig(lr=7e-4, final_lr=5e-5, clip=1.0)
    return _recipe(scale, "video_codec", VideoCodecConfig(), optimizer)


def _video_detail(scale: Scale) -> Recipe:
    """Eyes and mouth alone, told points that have learnt: at first nothing could rely on them."""
    if scale.pixels:
        raise ValueError(
            "A codec of whole frames has no detail of its own: there is no such stage."
        )
    optimizer = OptimizerConfig(lr=7e-4, final_lr=5e-5, warmup=50, clip=1.0)
    objective = VideoCodecConfig(only_detail=True)
    return _recipe(scale, "video_detail", objective, optimizer, ("video_codec",))


def _audio_codec(scale: Scale) -> Recipe:
    _check_trained(scale)
    steps = scale.steps["audio_codec"]
    objective = SourceFilterCodecConfig(spectral_from=steps * 9 // 20)
    optimizer = OptimizerConfig(lr=1e-3, final_lr=3e-5, clip=1.0)
    return _recipe(scale, "audio_codec", objective, optimizer)


def _audio_detail(scale: Scale) -> Recipe:
    """Critics learn fast and begin alone: what cannot tell teaches nothing but noise."""
    _check_trained(scale)
    steps = scale.steps["audio_detail"]
    optimizer = OptimizerConfig(
        lr=2e-4, final_lr=2e-5, warmup=50, betas=(0.8, 0.95), clip=5.0, muon=0, others=5.0
    )
    objective = AudioDetailConfig(critics_first=min(250, steps // 8))
    return _recipe(scale, "audio_detail", objective, optimizer, ("audio_codec",))


def _duration(scale: Scale) -> Recipe:
    return _recipe(
        scale, "duration", DurationPredictorConfig(), OptimizerConfig(lr=1e-3, final_lr=1e-5)
    )


PRETRAINING = OptimizerConfig(lr=1e-3, final_lr=3e-4)


def _audio_pretrain(scale: Scale) -> Recipe:
    objective = TeacherForcingConfig(ClipConfig(branches=("audio",), lengths=(4,)))
    init = (PUBLIC,) if scale.public else ()
    return _recipe(scale, "audio_pretrain", objective, PRETRAINING, init)


def _video_pretrain(scale: Scale) -> Recipe:
    if scale.public:
        raise ValueError("The video branch of this preset is a public one: there is no such stage.")
    objective = TeacherForcingConfig(
        replace(CLIPS, branches=("video",)), freeze_text=True, history_noise=HISTORY_NOISE
    )
    return _recipe(scale, "video_pretrain", objective, PRETRAINING, init=("audio_pretrain",))


def _joint(scale: Scale) -> Recipe:
    objective = TeacherForcingConfig(
        CLIPS,
        audio_driven=0.2,
        history_noise=HISTORY_NOISE,
        consistency=ConsistencyConfig(start=scale.steps["joint"] * 2 // 5),
    )
    optimizer = OptimizerConfig(lr=6e-4, final_lr=1e-4)
    if scale.public:
        optimizer = OptimizerConfig(lr=2e-5, final_lr=5e-6, muon=0)
    before = "audio_pretrain" if scale.public else "video_pretrain"
    return _recipe(scale, "joint", objective, optimizer, init=(before,))


FINE_TUNING = OptimizerConfig(lr=1e-4, final_lr=5e-5, warmup=50)


def _fine_tuning(
    name: str, objective: Callable[[Scale], ObjectiveConfig], init: tuple[str, ...] = ("joint",)
) -> Callable[[Scale], Recipe]:
    """A recipe of the last stage: the same optimiser, steps and clips for every method."""

    def build(scale: Scale) -> Recipe:
        return _recipe(
            scale, name, objective(scale), FINE_TUNING, init, ema=0.99, like="mutual_forcing"
        )

    return build


OWN_CLIPS = "finetune"
"""The stage that goes on from a checkpoint with clips of one's own (finetune.py)."""


def _own_clips(scale: Scale) -> TeacherForcingConfig:
    """As the joint stage; self-consistency from the start on, so that Few mode is not lost. The text encoder
    stays: the sound reader says what it says, and few clips hold few words.
    """
    return TeacherForcingConfig(
        ClipConfig(lengths=(4,)),
        audio_driven=0.2,
        freeze_text=True,
        history_noise=HISTORY_NOISE,
        consistency=ConsistencyConfig(start=0, guidance=scale.guidance),
    )


def _sound_reader(scale: Scale) -> Recipe:
    """It says what the text encoder of the finished model says, so it comes last."""
    if scale.public:
        raise ValueError(
            "The transformer of this preset reads no phonemes: there is no such stage."
        )
    optimizer = OptimizerConfig(lr=1.2e-3, final_lr=3e-5, warmup=100, clip=1.0, muon=0)
    return _recipe(scale, "sound_reader", SoundReadingConfig(), optimizer, ("mutual_forcing",))


def _clips(scale: Scale) -> ClipConfig:
    return ClipConfig(lengths=scale.lengths)


def _mutual_forcing(scale: Scale) -> MutualForcingConfig:
    return MutualForcingConfig(
        _clips(scale),
        rollout=RolloutConfig(ramp=scale.steps["mutual_forcing"] // 2),
        guidance=scale.guidance,
        dmd=DMDConfig(fake_updates=scale.fake_updates),
    )


METHODS: dict[str, Callable[[Scale], ObjectiveConfig]] = {
    "mutual_forcing": _mutual_forcing,
    "mutual_forcing_sc": lambda scale: replace(_mutual_forcing(scale), dmd=None),
    "mutual_forcing_dmd": lambda scale: replace(_mutual_forcing(scale), consistency=0.0),
    "teacher_forcing": lambda scale: TeacherForcingConfig(_clips(scale)),
    "diffusion_forcing": lambda scale: DiffusionForcingConfig(_clips(scale)),
    "shortcut_tf": lambda scale: replace(_mutual_forcing(scale), rollout=None, dmd=None),
    "dmd_tf": lambda scale: replace(_mutual_forcing(scale), rollout=None, consistency=0.0),
    "bidirectional": lambda scale: BidirectionalConfig(_clips(scale)),
    "self_forcing": lambda scale: SelfForcingConfig(
        _clips(scale), scale.guidance, scale.fake_updates
    ),
}
"""What the last stage can be."""
MULTI_MODE_METHODS = ("teacher_forcing", "diffusion_forcing")
"""Those that train no intervals: they are sampled in Multi mode, whatever the number of steps."""

BUILDERS: dict[str, Callable[[Scale], Recipe]] = {
    "video_codec": _video_codec,
    "video_detail": _video_detail,
    "audio_codec": _audio_codec,
    "audio_detail": _audio_detail,
    "duration": _duration,
    "audio_pretrain": _audio_pretrain,
    "video_pretrain": _video_pretrain,
    "joint": _joint,
    "sound_reader": _sound_reader,
    OWN_CLIPS: _fine_tuning(OWN_CLIPS, _own_clips),
    **{name: _fine_tuning(name, objective) for name, objective in METHODS.items()},
    "self_forcing": _fine_tuning(
        "self_forcing", METHODS["self_forcing"], ("bidirectional", "joint")
    ),
}


def _recipe(
    scale: Scale,
    name: str,
    objective: ObjectiveConfig,
    optimizer: OptimizerConfig,
    init: tuple[str, ...] = (),
    ema: float | None = None,
    like: str | None = None,
) -> Recipe:
    """`like` names the stage whose steps and batch are used, if not its own."""
    # Average over the last twentieth of a stage: a longer memory would still hold its beginning.
    steps = scale.steps[like or name]
    return Recipe(
        name=name,
        objective=objective,
        steps=steps,
        batch=scale.batch[like or name],
        optimizer=replace(optimizer, warmup=min(optimizer.warmup, steps // 8)),
        ema=ema or min(0.999, max(0.9, 1 - 20 / steps)),
        # Not more often than every twentieth step: files, samples and monitors cost time.
        save_every=min(200, max(20, steps // 10)),
        sample_every=min(500, max(20, steps // 3)),
        init=init,
        stream=like or name,
    )


def recipe(name: str, scale: str) -> Recipe:
    """The recipe of a stage at a preset's scale; raises ValueError for unknown names."""
    if name not in BUILDERS:
        raise ValueError(f"Unknown recipe {name!r}; choose one of {', '.join(BUILDERS)}.")
    if scale not in SCALES:
        raise ValueError(f"Unknown scale {scale!r}; choose one of {', '.join(SCALES)}.")
    return BUILDERS[name](SCALES[scale])
