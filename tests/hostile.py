"""Two hundred requests that must be refused, the same for the same seed."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from PIL import Image

FIELDS = (
    "picture", "text", "sound", "sound_use", "emotion", "motion", "steps", "seed", "guidance",
    "seconds", "window", "size", "framing", "face",
)  # fmt: skip
COUNT = 200


@dataclass(frozen=True)
class Upload:
    """Bytes that are uploaded under a name before the request."""

    data: bytes
    name: str


@dataclass(frozen=True)
class Case:
    """One field of an otherwise good request, and its hostile value."""

    kind: str
    field: str
    value: Any


def cases(seed: int = 0) -> list[Case]:
    """Return at least COUNT cases."""
    rng = np.random.default_rng(seed)
    found = [
        *(Case("picture", "picture", upload) for upload in _pictures(rng)),
        *(Case("sound", "sound", upload) for upload in _sounds(rng)),
        *(Case("text", "text", text) for text in _texts(rng)),
        *(Case("type", field, value) for field, value in _types()),
        *(Case("path", field, _file(p)) for p in _PATHS for field in ("picture", "sound")),
    ]
    found += [Case("picture", "picture", _noise(rng, "face.png")) for _ in range(6)]
    found += [Case("sound", "sound", _noise(rng, "voice.wav")) for _ in range(6)]
    assert len(found) >= COUNT
    return found


def _file(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


_PATHS = (
    "/etc/passwd",
    "/proc/self/environ",
    "/dev/zero",
    "../../../../etc/passwd",
    "{uploads}/../../../../../../etc/passwd",
    "{uploads}",
    "{uploads}/none/such.png",
    "file:///etc/passwd",
    "http://127.0.0.1:1/face.png",
    "http://169.254.169.254/latest/meta-data",
    "data:image/png;base64,AAAA",
    "examples/characters/01-blond-bob.png",
    "app.py",
    "a\0b",
    "x" * 10_000,
    "~/.ssh/id_rsa",
)


def _noise(rng: np.random.Generator, name: str) -> Upload:
    return Upload(rng.bytes(int(rng.integers(1, 5000))), name)


def _picture(kind: str, rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (120, 90, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def _pictures(rng: np.random.Generator) -> Iterator[Upload]:
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
        data = _picture(kind, rng)
        for _ in range(5):
            yield Upload(data[: int(rng.integers(1, len(data) * 3 // 4))], f"cut.{kind.lower()}")
        yield Upload(bytes(8) + data[8:], f"headless.{kind.lower()}")
    for width, height in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**20, 100), (8000, 8000)):
        yield Upload(_png_bomb(width, height), "bomb.png")
    for bomb in (giant_tile(), large_png(), animated_webp()):
        yield Upload(bomb, "bomb.png")
    yield Upload(b"GIF89a" + struct.pack("<HH", 65535, 65535) + _picture("GIF", rng)[10:], "a.gif")
    small = io.BytesIO()
    Image.new("RGB", (4, 4)).save(small, "PNG")
    yield Upload(small.getvalue(), "small.png")
    thin = io.BytesIO()
    Image.new("L", (9000, 16)).save(thin, "PNG")
    yield Upload(thin.getvalue(), "thin.png")
    for name, data in _FOREIGN.items():
        yield Upload(data, name)
        yield Upload(data, "face.png")
    yield Upload(_wave(np.ones(8000), 8000), "sound.png")
    yield Upload(b"\x89PNG\r\n\x1a\n", "../../../../tmp/escape.png")


_FOREIGN = {
    "page.html": b"<html><script>alert(1)</script></html>",
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "list.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/passwd\n",
    "list.txt": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(/etc/passwd) run\n",
    "archive.zip": b"PK\x03\x04" + bytes(64),
    "weights.pkl": b"\x80\x04cos\nsystem\n(S'echo hacked'\ntR.",
    "program": b"\x7fELF" + bytes(200),
}


def _png_bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    body = zlib.compress(bytes(10**6), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def _wave(samples: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def _floats(samples: np.ndarray) -> bytes:
    body = samples.astype("<f4").tobytes()
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(body), b"WAVE", b"fmt ", 16, 3, 1, 16_000, 64_000,
        4, 32, b"data", len(body),
    ) + body  # fmt: skip


def _encoded(codec: str, container: str, samples: np.ndarray, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as target:
        stream = target.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            target.mux(stream.encode(piece))
        target.mux(stream.encode(None))
    return file.getvalue()


def _mute_film() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as target:
        stream = target.add_stream("libx264", 25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return file.getvalue()


def _sounds(rng: np.random.Generator) -> Iterator[Upload]:
    speech = 0.1 * rng.standard_normal(16_000).clip(-1, 1)
    good = _wave(speech, 16_000)
    for end in (1, 4, 12, 20, 30, 43):
        yield Upload(good[:end], "cut.wav")
    for length in (0, 1, 100, 3000):
        yield Upload(_wave(speech[:length], 16_000), "short.wav")
    for seconds in (1, 10, 60):
        yield Upload(_wave(np.zeros(8000 * seconds), 8000), "silent.wav")
        for codec, container in (("flac", "flac"), ("libmp3lame", "mp3"), ("aac", "adts")):
            yield Upload(_encoded(codec, container, np.zeros(16_000 * seconds)), f"s.{container}")
    for value in (np.nan, np.inf, -np.inf):
        yield Upload(_floats(np.full(16_000, value)), "float.wav")
        spoilt = speech.copy()
        spoilt[int(rng.integers(100, 15_000))] = value
        yield Upload(_floats(spoilt), "spoilt.wav")
    yield Upload(_wave(speech, 1), "slow.wav")
    yield Upload(_wave(speech[:2000], 2), "slower.wav")
    yield Upload(_eight_hours(), "night.mp3")
    yield Upload(many_samples(), "bomb.mp4")
    yield Upload(_encoded("flac", "flac", np.full(16_000 * 700, 0.1)), "eleven-minutes.flac")
    yield Upload(_mute_film(), "mute.mp4")
    yield Upload(_picture("PNG", rng), "picture.wav")
    yield Upload(_picture("JPEG", rng), "picture.mp3")
    for name, data in _FOREIGN.items():
        yield Upload(data, name)


def _eight_hours() -> bytes:
    """MP3 frames of a tone at 8 kbit/s, repeated: 29 MB."""
    tone = 0.3 * np.sin(np.arange(8000 * 4) / 5)
    file = io.BytesIO()
    with av.open(file, "w", format="mp3", options={"write_xing": "0", "id3v2_version": "0"}) as out:
        stream = out.add_stream("libmp3lame", rate=8000, layout="mono")
        stream.bit_rate = 8000
        resampler = av.AudioResampler(stream.format, "mono", 8000, 576)
        frame = av.AudioFrame.from_ndarray((tone * 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = 8000
        for piece in resampler.resample(frame):
            out.mux(stream.encode(piece))
    return file.getvalue() * (8 * 3600 // 4)


def _texts(rng: np.random.Generator) -> Iterator[str]:
    yield from ("", " ", "\n\t\r\n", "\0", "\u200b\u200d", "...", "!?!?", '"', "---")
    yield from ("a" * 2001, "word " * 10**5, "😀" * 5000, "9" * 50_000, "\n" * 10**5 + "a" * 3000)
    yield from ("😀", "👩‍👩‍👧‍👦🏳️‍🌈", "🗣️🗣️🗣️")
    yield from ("안녕하세요", "Привет, мир", "مرحبا بالعالم")
    yield from ("שלום עולם", "สวัสดีชาวโลก", "नमस्ते दुनिया", "Γειά σου Κόσμε", "გამარჯობა")
    for start in (0x0530, 0x0E00, 0x0600, 0x1F600, 0xE000):
        signs = rng.integers(start, start + 64, int(rng.integers(5, 60)))
        yield "".join(map(chr, signs))


def _types() -> Iterator[tuple[str, Any]]:
    for value in (7, True, ["Hello."], {"text": "Hello."}):
        yield "text", value
    for field in ("picture", "sound"):
        for value in (7, "face.png", ["face.png"], {}, {"path": None}, {"url": "http://x/a.png"}):
            yield field, value
    for field in ("sound_use", "emotion", "motion", "framing"):
        for value in ("", "bored", 3, ["happy"], {"value": "happy"}):
            yield field, value
    for field in ("steps", "seed", "guidance", "seconds", "window", "size", "face"):
        for value in ("four", [4], {"value": 4}, True, -1, 1e30, 10**400):
            yield field, value
    yield from (("steps", 0), ("steps", 51), ("steps", 2.5), ("steps", 1e9), ("seed", 2.0**63))
    yield from (("guidance", 99), ("seconds", 601), ("window", 1000), ("guidance", 0.5))
    yield from (
        ("size", 0),
        ("size", 513),
        ("size", 1e9),
        ("face", 0),
        ("face", 13),
        ("framing", "x"),
    )


def many_samples(tracks: int = 3, samples: int = 2**26) -> bytes:
    """An MP4 of 1.5 kB whose sound tracks claim millions of samples each.

    The sizes, durations and places of all are one entry each: the tables are short, but not the index that
    FFmpeg makes of them. (It makes none of samples that last 1.)
    """
    front = _mp4(b"ftyp", b"isom", bytes(4), b"isommp42")
    body = b"".join(_track(number + 1, samples) for number in range(tracks))
    head = struct.pack(">IIIIIIHHII", 0, 0, 0, 1000, 1000, 0x10000, 0x100, 0, 0, 0)
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    movie = _mp4(b"mvhd", head, matrix, bytes(24), struct.pack(">I", tracks + 1))
    return front + _mp4(b"moov", movie, body) + _mp4(b"mdat", bytes(64))


def _mp4(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def _track(number: int, samples: int) -> bytes:
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    head = struct.pack(">IIIIIIQHHHH", 7, 0, 0, number, 0, 1000, 0, 0, 0, 0x100, 0)
    sound = bytes(6) + struct.pack(">HQHHHHI", 1, 0, 1, 16, 0, 0, 8000 << 16)
    table = _mp4(
        b"stbl",
        _mp4(b"stsd", struct.pack(">II", 0, 1), _mp4(b"sowt", sound)),
        _mp4(b"stts", struct.pack(">IIII", 0, 1, samples, 2)),
        _mp4(b"stsc", struct.pack(">IIIII", 0, 1, 1, samples, 1)),
        _mp4(b"stsz", struct.pack(">III", 0, 2000, samples)),
        _mp4(b"stco", struct.pack(">III", 0, 1, 400)),
    )
    link = _mp4(b"dref", struct.pack(">II", 0, 1), _mp4(b"url ", b"\0\0\0\1"))
    media = _mp4(
        b"mdia",
        _mp4(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 8000, 8000, 0, 0)),
        _mp4(b"hdlr", bytes(8), b"soun", bytes(13)),
        _mp4(b"minf", _mp4(b"smhd", bytes(8)), _mp4(b"dinf", link), table),
    )
    return _mp4(b"trak", _mp4(b"tkhd", head, matrix, bytes(8)), media)


def giant_tile(side: int = 64, tile: tuple[int, int] = (30_000, 22_000)) -> bytes:
    """A TIFF of a small picture in one tile of `tile` (width, height) pixels, well compressed."""
    packer = zlib.compressobj(9)
    start = packer.compress(bytes(3 * tile[0])) + packer.flush(zlib.Z_FULL_FLUSH)
    # All rows are alike, and Adler's sum of zeros is 1 beside their number.
    check = (3 * tile[0] * tile[1] % 65521 << 16 | 1).to_bytes(4, "big")
    data = start[:2] + start[2:] * tile[1] + b"\3\0" + check
    values = {256: side, 257: side, 258: 8, 259: 8, 262: 2, 277: 3, 284: 1, 322: tile[0],
              323: tile[1], 324: 0, 325: len(data)}  # fmt: skip
    values[324] = 8 + 2 + 12 * len(values) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return b"II*\0" + struct.pack("<IH", 8, len(values)) + entries + bytes(4) + data


def large_png(side: int = 7071) -> bytes:
    """A PNG of one colour just below the limit of pixels."""
    file = io.BytesIO()
    Image.new("RGBA", (side, side), (200, 30, 40, 128)).save(file, "PNG", compress_level=9)
    return file.getvalue()


def animated_webp(side: int = 7000) -> bytes:
    """A moving WebP of two frames, one pixel each, on a canvas just below the limit of pixels."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 40)).save(file, "WEBP", lossless=True)
    frame = file.getvalue()[12:]
    size = (side - 1).to_bytes(3, "little")
    place = bytes(6) + (15).to_bytes(3, "little") * 2 + (40).to_bytes(3, "little") + b"\0"
    chunks = [(b"VP8X", b"\2" + bytes(3) + size * 2), (b"ANIM", bytes(6))]
    chunks += [(b"ANMF", place + frame)] * 2
    body = b"".join(kind + struct.pack("<I", len(data)) + data for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
