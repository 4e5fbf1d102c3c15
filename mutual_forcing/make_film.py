"""Make a talking character from a picture and a sentence: a film as an MP4 file.

mutual-forcing generate --image face.png --text "Hello there." --size 720 -o out.mp4
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from .faces import place
from .media import read_audio, read_heard, read_image, write_mp4
from .streaming import StreamingGenerator
from .text.inventory import LANGUAGE_CHOICES
from .types import FRAMINGS, MAX_SIZE, MIN_SIZE, GenerationRequest


def generate(options: argparse.Namespace) -> None:
    """Write the film that the options ask for; raises ValueError in one sentence."""
    image = read_image(options.image)
    placement = place(image, options.face - 1)
    if placement.note:
        sys.stderr.write(f"generate: {placement.note}\n")
    request = GenerationRequest(
        image=image,
        text=options.text,
        language=options.language,
        crop=placement.crop,
        framing=options.framing,
        size=options.size,
        caption=options.style,
        audio=read_audio(options.audio) if options.audio else None,
        heard=read_heard(options.audio) if options.audio else None,
        voice=read_audio(options.voice) if options.voice else None,
        steps=options.steps,
        guidance_scale=options.guidance,
        seed=options.seed,
        seconds=options.seconds,
    )
    generator = StreamingGenerator.from_pretrained(options.checkpoint)
    plan = generator.plan(request)
    if plan.unspoken:
        sys.stderr.write(f"generate: this cannot be spoken: {', '.join(plan.unspoken)}\n")
    chunks = tqdm(generator.stream(request), total=plan.chunks, unit="chunk")
    names = ("text", "style", "steps", "seed", "size", "framing", "face")
    settings = {name: getattr(options, name) for name in names}
    pairs = ((chunk.frames, chunk.sound) for chunk in chunks)
    write_mp4(options.output, pairs, settings, options.seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="mutual-forcing generate", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--image", required=True, help="a picture with a face in it, kept whole")
    parser.add_argument("--text", default="", help="what they say")
    parser.add_argument("--language", choices=LANGUAGE_CHOICES, default="auto", help="of the text")
    parser.add_argument("--audio", help="speech that drives the lips and is heard as it is")
    parser.add_argument("--voice", help="speech that only lends its voice")
    parser.add_argument("--style", default="", help='in words, such as "happy, lively"')
    parser.add_argument("--steps", type=int, default=4, help="1 to 50; up to 8 is Few mode")
    parser.add_argument("--guidance", type=float, help="1 to 10, in Multi mode")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="length; default: as long as the words need")
    parser.add_argument(
        "--size", type=int, default=512,
        help=f"pixels on the film's shorter side, {MIN_SIZE} to {MAX_SIZE}, at most the picture's own",
    )  # fmt: skip
    parser.add_argument("--framing", choices=FRAMINGS, default="whole", help="of the picture")
    parser.add_argument("--face", type=int, default=1, help="which of several, 1 is the largest")
    parser.add_argument(
        "--checkpoint", default="tiny",
        help="a name, a folder, or OWNER/NAME[@REVISION] on the Hub (default: tiny)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=Path("out.mp4"))
    try:
        generate(parser.parse_args(arguments))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"generate: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
