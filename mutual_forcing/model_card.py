"""The model card of a checkpoint: what the Hub asks of a README.md, written from its config and record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

from .checkpoint import System
from .codecs.protocol import FaceCodec
from .config import FPS, SAMPLE_RATE
from .hub import HubName, lacking_fields
from .text.inventory import NAMES, spoken_languages
from .types import MAX_SIZE

LICENSE, LIBRARY, PIPELINE = "apache-2.0", "mutual-forcing", "image-to-video"
TAGS = (
    "audio-video-generation", "talking-head", "text-to-speech", "flow-matching", "streaming",
    "arxiv:2604.25819",
)  # fmt: skip
WRITTEN = (
    "# Written from record.json; without this line it stays as it is when the checkpoint is pushed."
)
"""Marks a card that `push` may write again, with the repository's name in it."""
MADE_CLIPS = "Talking heads made by this project's corpus tools, no recordings"
OWN_CLIPS = "Fine-tuned on clips of its maker's own, which this project has not seen"
NEEDED_FIELDS = ("license", "library_name", "pipeline_tag", "tags", "language")


def model_card(system: System, record: Mapping[str, Any], source: str | HubName) -> str:
    """The text of README.md.

    Args:
        system: the checkpoint's networks.
        record: its record.json; of what that lacks the card says nothing.
        source: what `from_pretrained` takes to load it: a name, a folder or a repository.
    """
    languages = spoken_languages(system.duration.known_phonemes)
    front = ModelCardData(
        license=LICENSE, library_name=LIBRARY, pipeline_tag=PIPELINE, language=list(languages),
        tags=list(TAGS),
    )  # fmt: skip
    spoken = " and ".join(NAMES[language] for language in languages) or "no language"
    pins = isinstance(source, HubName)
    pin = f'A commit pins it: `from_pretrained("{source}", revision="...")`.\n' if pins else ""
    return f"""---
{WRITTEN}
{front.to_yaml().strip()}
---
# Mutual Forcing `{system.config.name}`

A picture of a face and a sentence become a film of it talking, {FPS} frames a second with
{SAMPLE_RATE // 1000} kHz speech, chunk by chunk while it is made. An autoregressive audio-video flow-matching
model with two modes in one set of weights (arXiv 2604.25819): Few, 1 to 8 steps, and Multi, up to 50 guided
steps. It speaks {spoken}.

## Use
```python
from mutual_forcing import GenerationRequest, StreamingGenerator, media

generator = StreamingGenerator.from_pretrained("{source}")
chunks = generator.stream(GenerationRequest(media.read_image("face.png"), "Hello!"))
media.write_mp4("hello.mp4", ((chunk.frames, chunk.sound) for chunk in chunks))
```

{pin}`python app.py --checkpoint {source}` serves a page.

## Training
{_training(record)}

## Limits
{_limits(system, record, spoken)}
"""


def check_card(text: str) -> None:
    """Raise ValueError unless a README.md begins with what the Hub must be told of a checkpoint."""
    if lacking := lacking_fields(text, NEEDED_FIELDS):
        raise ValueError(
            f"The front matter of the checkpoint's README.md lacks {', '.join(lacking)}: add it, or "
            "take the file away and one is written."
        )


def _training(record: Mapping[str, Any]) -> str:
    """What the record says of data, hours and stages, as paragraphs and a table."""
    corpus, before = _mapping(record, "corpus"), _mapping(record, "before")
    portraits = _mapping(record, "portraits") or _mapping(before, "portraits")
    statistics, stages = _mapping(corpus, "statistics"), _mapping(record, "stages")
    said = []
    if statistics:
        clips = f"{statistics.get('clips', 'some')} clips, {statistics.get('hours', '?')} h"
        own = OWN_CLIPS if _has_own_clips(record) else MADE_CLIPS
        said.append(f"{own}: {clips}.")
    if portraits:
        said.append(f"The decoder saw {portraits.get('identities', 'some')} drawn heads.")
    if "hours" in record:
        machine = f" on {record['machine']}" if "machine" in record else ""
        said.append(f"It took {record['hours']} h{machine}.")
    if not said and not stages:
        return "Its record does not say how it was trained."
    said.append("Recipes, origins and measurements of all stages: `record.json`.")
    rows = [
        f"| {name} | {stage.get('steps', '')} | {stage.get('batch', '')} | {stage.get('hours', '')} |"
        for name, stage in stages.items()
        if isinstance(stage, Mapping)
    ]
    table = ["", "| stage | steps | batch | hours |", "|---|---|---|---|", *rows] if rows else []
    return "\n".join([*said, *table])


def _limits(system: System, record: Mapping[str, Any], spoken: str) -> str:
    if _has_own_clips(record):
        seen = (
            "Besides rendered and drawn heads and synthetic voices it has seen clips of its maker's own:\n"
            "  what is in them, and whether it may be shown, its maker knows."
        )
    elif _mapping(record, "corpus"):
        seen = (
            f"It has seen rendered and drawn heads and heard synthetic voices ({spoken}), nothing else.\n"
            "  Photographs are animated though it never saw one: where a face and its points are, nets tell "
            "it\n"
            "  that others trained on photographs (YuNet, MediaPipe's)."
        )
    else:
        seen = "What it has seen its record does not say: expect little of pictures and voices unlike that."
    codec = system.video_codec
    if isinstance(codec, FaceCodec):
        shown = (
            "The face must be seen from the front. The decoder paints a square of "
            f"{codec.square_size} pixels around it; the film has\n"
            f"  the picture's own resolution, up to {MAX_SIZE} pixels on its shorter side. Nothing but "
            "the head moves."
        )
    else:
        shown = "Films have the codec's own resolution, whatever the picture's."
    return f"""- {seen}
- {shown}
- Other languages, singing, hands and bodies are outside what it knows.
- Do not use it to make real people appear to say what they did not say. Everything it makes is
  AI-generated, and the files say so."""


def _has_own_clips(record: Mapping[str, Any]) -> bool:
    """Whether it was fine-tuned on clips of its maker's own (training/data/clips.py)."""
    return _mapping(record, "corpus").get("kind") == "own clips"


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}
