"""Fragmented MP4 as bytes: one init segment, then one self-contained fragment per chunk.

FFmpeg's own muxer closes a fragment only when the next one begins, which would delay every picture
by a whole chunk; these few boxes (ISO/IEC 14496-12 and -15) are written here instead. A player
(MediaSource) or any demuxer reads the segments joined end to end.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

VIDEO_TRACK = 1
AUDIO_TRACK = 2
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_SYNC_SAMPLE = 0x02000000
_OTHER_SAMPLE = 0x01010000
_START_CODE = re.compile(b"\x00\x00\x00?\x01")


@dataclass(frozen=True)
class VideoTrack:
    """Size in pixels, clock (ticks a second), and the encoder's SPS and PPS."""

    width: int
    height: int
    timescale: int
    sps: bytes
    pps: bytes


@dataclass(frozen=True)
class AudioTrack:
    """AAC: sample rate, AudioSpecificConfig, the samples of priming that players drop, and channels."""

    sample_rate: int
    config: bytes
    priming: int
    channels: int = 1


@dataclass(frozen=True)
class Samples:
    """Coded samples of one track from tick `start` on, each lasting `duration` ticks."""

    track: int
    start: int
    duration: int
    payloads: tuple[bytes, ...]


def split_annex_b(data: bytes) -> list[bytes]:
    """Return the NAL units of an H.264 byte stream with start codes."""
    marks = list(_START_CODE.finditer(data))
    ends = [mark.start() for mark in marks[1:]] + [len(data)]
    return [data[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]


def length_prefixed(data: bytes) -> bytes:
    """Turn an H.264 byte stream with start codes into the form that MP4 stores."""
    return b"".join(struct.pack(">I", len(nal)) + nal for nal in split_annex_b(data))


def codecs(video: VideoTrack) -> str:
    """Return the `codecs` parameter of the stream's MIME type."""
    return f"avc1.{video.sps[1:4].hex().upper()},mp4a.40.2"


def init_segment(video: VideoTrack, audio: AudioTrack, xmp: bytes = b"") -> bytes:
    """Return `ftyp` and `moov`: everything a player must know before the first fragment.

    xmp: a packet about the film, for machines. It lies in `moov`, as in QuickTime's files: beside it players
    need not accept boxes that they do not know.
    """
    ftyp = _box(b"ftyp", b"iso5", struct.pack(">I", 512), b"iso5iso6mp41")
    mvhd = _full(
        b"mvhd", 0, 0, struct.pack(">4I", 0, 0, 1000, 0), struct.pack(">IH10x", 0x10000, 0x100),
        _MATRIX, bytes(24), struct.pack(">I", AUDIO_TRACK + 1),
    )  # fmt: skip
    extends = _box(
        b"mvex", *(_full(b"trex", 0, 0, struct.pack(">5I", t, 1, 0, 0, 0)) for t in (1, 2))
    )
    about = [_box(b"udta", _box(b"XMP_", xmp))] if xmp else []
    return ftyp + _box(b"moov", mvhd, _video_trak(video), _audio_trak(audio), extends, *about)


def fragment(sequence: int, tracks: list[Samples]) -> bytes:
    """Return one `moof` and its `mdat`; `sequence` counts from 1."""
    tracks = [samples for samples in tracks if samples.payloads]
    # The data offsets inside depend on the size of the whole moof: measure it once with zeros.
    size = len(_moof(sequence, tracks, [0] * len(tracks)))
    offsets, position = [], size + 8
    for samples in tracks:
        offsets.append(position)
        position += sum(map(len, samples.payloads))
    body = b"".join(payload for samples in tracks for payload in samples.payloads)
    return _moof(sequence, tracks, offsets) + _box(b"mdat", body)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + kind + body


def _full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def _moof(sequence: int, tracks: list[Samples], offsets: list[int]) -> bytes:
    trafs = [_traf(samples, offset) for samples, offset in zip(tracks, offsets, strict=True)]
    return _box(b"moof", _full(b"mfhd", 0, 0, struct.pack(">I", sequence)), *trafs)


def _traf(samples: Samples, offset: int) -> bytes:
    is_video = samples.track == VIDEO_TRACK
    flags = _OTHER_SAMPLE if is_video else _SYNC_SAMPLE
    header = _full(b"tfhd", 0, 0x020028, struct.pack(">3I", samples.track, samples.duration, flags))
    time = _full(b"tfdt", 1, 0, struct.pack(">Q", samples.start))
    count = struct.pack(">II", len(samples.payloads), offset)
    first = struct.pack(">I", _SYNC_SAMPLE) if is_video else b""
    sizes = b"".join(struct.pack(">I", len(payload)) for payload in samples.payloads)
    run = _full(b"trun", 0, 0x000205 if is_video else 0x000201, count, first, sizes)
    return _box(b"traf", header, time, run)


def _video_trak(video: VideoTrack) -> bytes:
    parameters = b"".join(
        (
            b"\x01", video.sps[1:4], b"\xff",
            b"\xe1", struct.pack(">H", len(video.sps)), video.sps,
            b"\x01", struct.pack(">H", len(video.pps)), video.pps,
        )
    )  # fmt: skip
    bt709 = _box(b"colr", b"nclx", struct.pack(">3HB", 1, 1, 1, 0))
    entry = _box(
        b"avc1", bytes(6), struct.pack(">H", 1), bytes(16),
        struct.pack(">HHIIIH32xHh", video.width, video.height, 0x480000, 0x480000, 0, 1, 24, -1),
        _box(b"avcC", parameters), bt709,
    )  # fmt: skip
    size = struct.pack(">II", video.width << 16, video.height << 16)
    media = _mdia(video.timescale, b"vide", _full(b"vmhd", 0, 1, bytes(8)), entry)
    return _box(b"trak", _tkhd(VIDEO_TRACK, 0, size), media)


def _audio_trak(audio: AudioTrack) -> bytes:
    decoder = struct.pack(">BB3xII", 0x40, 0x15, 0, 64_000) + _descriptor(0x05, audio.config)
    stream = struct.pack(">HB", AUDIO_TRACK, 0) + _descriptor(0x04, decoder)
    entry = _box(
        b"mp4a", bytes(6), struct.pack(">H", 1), bytes(8),
        struct.pack(">HHII", audio.channels, 16, 0, audio.sample_rate << 16),
        _full(b"esds", 0, 0, _descriptor(0x03, stream + _descriptor(0x06, b"\x02"))),
    )  # fmt: skip
    # The edit list starts the presentation after the encoder's priming, so sound is not late.
    edit = _box(b"edts", _full(b"elst", 0, 0, struct.pack(">IIiI", 1, 0, audio.priming, 0x10000)))
    media = _mdia(audio.sample_rate, b"soun", _full(b"smhd", 0, 0, bytes(4)), entry)
    return _box(b"trak", _tkhd(AUDIO_TRACK, 0x0100, bytes(8)), edit, media)


def _tkhd(track: int, volume: int, size: bytes) -> bytes:
    times = struct.pack(">5I", 0, 0, track, 0, 0)
    return _full(
        b"tkhd", 0, 3, times, bytes(8), struct.pack(">HHHH", 0, 0, volume, 0), _MATRIX, size
    )


def _mdia(timescale: int, handler: bytes, media_header: bytes, entry: bytes) -> bytes:
    undetermined = 0x55C4  # the language
    header = _full(b"mdhd", 0, 0, struct.pack(">4IHH", 0, 0, timescale, 0, undetermined, 0))
    kind = _full(b"hdlr", 0, 0, bytes(4), handler, bytes(12), handler + b"\x00")
    here = _box(b"dinf", _full(b"dref", 0, 0, struct.pack(">I", 1), _full(b"url ", 0, 1)))
    empty = [_full(name, 0, 0, bytes(4)) for name in (b"stts", b"stsc", b"stco")]
    table = _box(
        b"stbl",
        _full(b"stsd", 0, 0, struct.pack(">I", 1), entry),
        *empty,
        _full(b"stsz", 0, 0, bytes(8)),
    )
    return _box(b"mdia", header, kind, _box(b"minf", media_header, here, table))


def _descriptor(tag: int, body: bytes) -> bytes:
    return bytes((tag, len(body))) + body
