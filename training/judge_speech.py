"""How a checkpoint speaks, by judges from outside.

python -m training.judge_speech --checkpoint tiny --out DIR

Everyday sentences that no corpus has, as a user types them (evaluation/everyday.json: 50 English, 50
Japanese), in the voices of speakers that are held out, through the whole path: DistillMOS, DNSMOS, what
whisper-base mishears, and how alike the voice is to its reference. Two ceilings come first: the speakers
themselves (Kokoro), and these after the audio codec. A row is kept for each sentence, so it resumes; it is
made again when the weights or the options changed.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from tqdm import tqdm

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.audio import resample
from mutual_forcing.chunks import SAMPLES_PER_CHUNK, chunks_for_samples
from mutual_forcing.codecs.protocol import decode_whole
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.metrics import report
from mutual_forcing.text.inventory import Language

from .atomic import written_whole
from .command import run
from .data.sentences import HELDOUT, Split
from .data.voices import Speech, Voice, say, speakers
from .evaluation.judge import Row
from .evaluation.rows import file_name, whole_rows
from .evaluation.speech_judges import RATE, SpeechJudges, mistakes
from .evaluation.systems import Setting

SENTENCES = Path(__file__).parent / "evaluation" / "everyday.json"
REFERENCES = {
    "en": "A stranger came to the door and asked whether anybody had seen his small brown dog.",
    "ja": "白い犬を連れた男の人が、公園の入り口で誰かを待っていました。",
}
"""What a speaker says in the reference of its voice; no sentence of the table."""
PICTURE = np.full((128, 128, 3), 127, np.uint8)
"""Nobody looks: a plain square is animated."""
FIGURES = ("mos", "dnsmos", "mistakes", "likeness")
CEILINGS = ("speakers", "their codec")
_KEY = ("made_by", "text", "voice")
"""What decides a row."""


@dataclass(frozen=True)
class Case:
    """One sentence and who says it; seed: of all that is drawn for it."""

    language: Language
    text: str
    voice: Voice
    seed: int


@dataclass(frozen=True)
class SpeechOptions:
    """count: sentences of each language. Raises ValueError for values that make no sense."""

    steps: tuple[int, ...] = (4, 8, 50)
    count: int = 50
    split: Split = "development"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.steps or not all(1 <= steps <= 50 for steps in self.steps):
            raise ValueError("Steps must be 1 to 50 each.")
        if self.count < 1 or self.seed < 0:
            raise ValueError("At least one sentence is needed, and the seed must not be negative.")
        if self.split not in HELDOUT:
            raise ValueError(f"The split must be one of {', '.join(HELDOUT)}.")


def cases(options: SpeechOptions, languages: Sequence[Language]) -> list[Case]:
    """The sentences with the held-out speakers in turn."""
    texts = json.loads(SENTENCES.read_text(encoding="utf-8"))
    return [
        Case(language, text, voices[number % len(voices)], options.seed + number)
        for language in languages
        for voices in [speakers(language, options.split)]
        for number, text in enumerate(texts[language][: options.count])
    ]


def judge_speech(
    generator: StreamingGenerator, judges: SpeechJudges, options: SpeechOptions, out: Path
) -> str:
    """Measure everything, writing speech.json and speech.md anew after each system; return the Markdown."""
    out.mkdir(parents=True, exist_ok=True)
    told = cases(options, generator.languages)
    systems: dict[str, Callable[[Case], np.ndarray]] = {
        CEILINGS[0]: lambda case: _spoken(case).audio,
        CEILINGS[1]: lambda case: _coded(generator, _spoken(case).audio),
    }
    for steps in options.steps:
        name = Setting.parse(str(steps)).name
        systems[name] = lambda case, steps=steps: _generated(generator, case, steps)
    found: dict[str, list[Row]] = {}
    text = ""
    made_by = f"{generator.system.digest} {options.seed} {options.split}"
    for name, make in systems.items():
        path = out / f"{file_name(name)}.jsonl"
        kept = {tuple(row[part] for part in _KEY): row for row in whole_rows(path)}
        found[name] = []
        for case in tqdm(told, name):
            key = (made_by, case.text, case.voice.name)
            if key not in kept:
                kept[key] = {
                    **dict(zip(_KEY, key, strict=True)),
                    **_judged(case, make(case), judges),
                }
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(kept[key], ensure_ascii=False) + "\n")
            found[name].append(kept[key])
        text = _write(found, options, out)
    return text


def _judged(case: Case, made: np.ndarray, judges: SpeechJudges) -> Row:
    """What the judges say of a case's sound."""
    audio, reference = (_at_judges_rate(sound) for sound in (made, _reference(case).audio))
    heard = judges.words(audio, case.language)
    return {
        "language": case.language,
        "mos": judges.mos(audio),
        "dnsmos": judges.dnsmos(audio),
        "mistakes": mistakes(case.text, heard, case.language),
        "likeness": float(judges.voice(audio) @ judges.voice(reference)),
        "heard": heard,
    }


def _at_judges_rate(audio: np.ndarray) -> np.ndarray:
    return resample(audio, SAMPLE_RATE, RATE).astype(np.float32)


@functools.cache
def _spoken(case: Case) -> Speech:
    return say(case.text, case.voice, np.random.default_rng(case.seed))


@functools.cache
def _reference(case: Case) -> Speech:
    return say(REFERENCES[case.language], case.voice, np.random.default_rng(case.seed + 1))


@torch.inference_mode()
def _coded(generator: StreamingGenerator, audio: np.ndarray) -> np.ndarray:
    codec = generator.system.audio_codec
    whole = torch.zeros(1, chunks_for_samples(len(audio)) * SAMPLES_PER_CHUNK)
    whole[0, : len(audio)] = torch.from_numpy(audio)
    heard = decode_whole(codec, codec.encode(whole))
    return heard[0, : len(audio)].clamp(-1, 1).numpy()


def _generated(generator: StreamingGenerator, case: Case, steps: int) -> np.ndarray:
    request = GenerationRequest(
        PICTURE,
        text=case.text,
        language=case.language,
        voice=_reference(case).audio,
        steps=steps,
        seed=case.seed,
        size=len(PICTURE),
        framing="face",
    )
    return np.concatenate([chunk.audio for chunk in generator.stream(request)])


def summary(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Means of the figures with bootstrapped 95 % intervals."""
    return {name: report.mean_interval([row[name] for row in rows]) for name in FIGURES}


def _write(found: dict[str, list[Row]], options: SpeechOptions, out: Path) -> str:
    tables, text = {}, ""
    for language in get_args(Language):
        means = {
            name: summary(own)
            for name, rows in found.items()
            if (own := [row for row in rows if row["language"] == language])
        }
        if means:
            tables[language] = means
            wrong = "words misheard" if language == "en" else "phonemes misheard"
            text += f"\n{language}, {options.count} sentences, {options.split} voices:\n"
            text += report.markdown(
                means,
                {
                    "DistillMOS": lambda r: report.written(r["mos"]),
                    "DNSMOS": lambda r: report.written(r["dnsmos"]),
                    wrong: lambda r: report.written(r["mistakes"]),
                    "likeness of the voice": lambda r: report.written(r["likeness"]),
                },
                before="\n",
            )
    with written_whole(out / "speech.json") as path:
        path.write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")
    with written_whole(out / "speech.md") as path:
        path.write_text(text, encoding="utf-8")
    return text


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.judge_speech",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", default="4,8,50", help="such as 4,8,50")
    parser.add_argument("--count", type=int, default=50, help="sentences of each language")
    parser.add_argument("--split", choices=HELDOUT, default="development", help="of the voices")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    def judge() -> None:
        parts = given.steps.split(",")
        if not all(part.strip().isdecimal() for part in parts):
            raise ValueError("Write steps as numbers with commas between, such as 4,8,50.")
        options = SpeechOptions(tuple(map(int, parts)), given.count, given.split, given.seed)
        generator = StreamingGenerator.from_pretrained(given.checkpoint, device="cpu")
        sys.stdout.write(judge_speech(generator, SpeechJudges(), options, given.out))

    return run(judge)


if __name__ == "__main__":
    sys.exit(main())
