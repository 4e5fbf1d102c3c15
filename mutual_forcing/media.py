"""Pictures, sound and films in and out: the only place (beside checkpoints) that touches files.

Inputs are judged by their content, never by their name, and measured before they are decoded.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from pi_heif import HeifImageFile
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from . import fragments, provenance
from .config import FILM_RATE, FPS, SAMPLE_RATE
from .spool import Spool

MAX_IMAGE_BYTES = 40 * 2**20
MAX_IMAGE_PIXELS = 50_000_000
MAX_IMAGE_SIDE = 2048
"""Larger pictures are reduced to this: no more can be seen in the result."""
MAX_AUDIO_BYTES = 200 * 2**20
MAX_AUDIO_SECONDS = 600.0
MAX_TRACKS = 32
SILENCE_PEAK = 1e-3
_SAMPLE_RATES = range(4_000, 400_000)
"""A rate of 1 Hz would make gigabytes of a few bytes."""

_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevx", b"mif1", b"msf1")
"""What a telephone's pictures say of themselves after `ftyp`; Pillow reads AVIF itself."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by the orientation in its metadata."""
_UNREADABLE = {
    "picture": "The picture cannot be read; use a PNG, JPEG, WebP, AVIF or HEIC file, JPEG if it is large.",
    "audio file": "The sound cannot be read; use a WAV, MP3, FLAC or OGG file.",
    "film": "The film cannot be read; use an MP4 file.",
}
_CHEAPER = {
    "picture": "make it smaller or save it as a JPEG file",
    "audio file": "save it as a WAV or MP3 file",
    "film": "use the file as it was downloaded",
}
"""What to do about a file that takes too much."""
# Playlists and scripts (HLS, concat) could open other files or addresses: they are not listed.
_AUDIO_FORMATS = "wav,mp3,flac,ogg,mov,mp4,m4a,3gp,matroska,webm,aac,aiff,caf,amr,au,w64,avi,asf"
_AAC_FRAME = 1024
_VIDEO_CLOCK = 12_800
CANCELLED = 0.01
"""Left and right cancel each other out where their middle has less than this of their difference's energy."""
_WARM_UP = 6144
"""Samples that a resumed encoder hears again."""


class MediaError(ValueError):
    """A file that cannot be used, said in one sentence."""


Source = str | Path | bytes | BinaryIO
"""A path, a file's bytes, or an open file that can be sought in, which is closed after it was read."""


def too_costly(name: str) -> str:
    """Return the sentence for a file, named "picture" say, that takes more than it is given."""
    return f"The {name} takes too much memory or time to be opened; {_CHEAPER[name]}."


def read_image(source: Source | Image.Image) -> np.ndarray:
    """Return the picture as uint8 sRGB [H, W, 3], upright, transparency on white, first frame only.

    More than 8 bits a channel are reduced to 8, other colour spaces become sRGB where the file has a profile.
    Sides beyond 2048 pixels are reduced. Raises ValueError for anything that is no readable picture
    of at most 50 million pixels and 40 MB.
    """
    if isinstance(source, Image.Image):
        return _to_rgb(source)
    with (
        _told_in_a_sentence("picture"),
        open_limited(source, MAX_IMAGE_BYTES, "picture") as file,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with _open_image(file) as image:
                return _to_rgb(image)
        except Image.DecompressionBombError as error:
            raise MediaError(_too_many_pixels()) from error


def read_audio(source: Source, *, max_seconds: float = MAX_AUDIO_SECONDS) -> np.ndarray:
    """Return the first sound track as float32 mono [N] at 24 kHz within -1..1.

    Mono is the middle of left and right, as loud as they are where they are the same; where they cancel each
    other out, it is half of their difference. Raises ValueError, in one sentence, for files without sound,
    damaged, silent, above 200 MB or longer than `max_seconds`.
    """
    with (
        _told_in_a_sentence("audio file"),
        open_limited(source, MAX_AUDIO_BYTES, "audio file") as file,
    ):
        samples, middle, apart = _decode_audio(file, max_seconds)
        if middle < CANCELLED * apart:
            del samples  # ten minutes twice are more than the cage has room for
            file.seek(0)
            samples, *_ = _decode_audio(file, max_seconds, difference=True)
    if not np.isfinite(samples).all():
        raise MediaError("The audio file contains values that are not numbers.")
    if not len(samples):
        raise MediaError("The audio file has no sound that can be read.")
    if max(samples.max(), -samples.min()) < SILENCE_PEAK:
        raise MediaError("The audio file is silent.")
    return np.clip(samples, -1, 1, out=samples)


def read_heard(source: Source, *, max_seconds: float = MAX_AUDIO_SECONDS) -> np.ndarray:
    """Return the first sound track as it is, for a film: int16 [N, C] at 48 kHz, C 1 or 2.

    More channels are mixed down to two. Raises ValueError as `read_audio` does, but says nothing of silence.
    """
    with (
        _told_in_a_sentence("audio file"),
        open_limited(source, MAX_AUDIO_BYTES, "audio file") as file,
        _sound_of(file, max_seconds) as container,
    ):
        layout = container.streams.audio[0].codec_context.layout
        channels = min(2, layout.nb_channels)
        resampler = av.AudioResampler("fltp", "mono" if channels == 1 else "stereo", FILM_RATE)
        # FFmpeg adds more than two channels up to this height, where all are as loud as they can be.
        gain = 1.0 if layout.nb_channels <= 2 else 1 / (1 + math.sqrt(2))
        # Parts and the whole would be twice as much: the array grows in place, for most sounds once.
        known = min(container.duration or av.time_base, max_seconds * av.time_base) / av.time_base
        samples = np.empty((math.ceil((known + 1) * FILM_RATE), channels), np.int16)
        most, total = math.ceil((max_seconds + 1) * FILM_RATE), 0
        for frame in itertools.chain(container.decode(audio=0), (None,)):
            if frame is not None:
                frame.pts = None  # broken time stamps must not stretch the sound
            for piece in resampler.resample(frame):
                part = gain * np.nan_to_num(piece.to_ndarray().T, posinf=1, neginf=-1)
                if total + len(part) > max_seconds * FILM_RATE:
                    raise MediaError(_too_long(max_seconds))
                if total + len(part) > len(samples):
                    size = min(2 * len(samples) + len(part), most)
                    samples.resize((size, channels), refcheck=False)
                samples[total : total + len(part)] = np.clip(
                    np.rint(part * 2**15), -(2**15), 2**15 - 1
                )
                total += len(part)
    samples.resize((total, channels), refcheck=False)
    return samples


@contextlib.contextmanager
def _told_in_a_sentence(name: str) -> Iterator[None]:
    """Whatever a decoder fails with on a file of that name becomes a MediaError."""
    try:
        yield
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(too_costly(name)) from error
    except Exception as error:  # a damaged file may fail anywhere in a decoder, in any way
        raise MediaError(_UNREADABLE[name]) from error


def read_comment(source: Source) -> str:
    """Return the comment among an MP4's metadata, "" without one; raises ValueError for other files."""
    with (
        _told_in_a_sentence("film"),
        open_limited(source, MAX_AUDIO_BYTES, "film") as file,
        av.open(file, format="mp4", metadata_errors="ignore") as film,
    ):
        return film.metadata.get("comment", "")


def open_limited(source: Source, limit: int, name: str) -> BinaryIO:
    """Return the source as a file that is open for reading.

    Raises ValueError unless it has 1 to `limit` bytes; `name` says in the sentence what it should be.
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        try:
            if not path.is_file():
                raise MediaError(f"There is no {name} at {str(path)!r}.")
            file = path.open("rb")
        except OSError as error:
            raise MediaError(f"The {name} {path.name!r} cannot be opened.") from error
    else:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if 0 < size <= limit:
        return file
    file.close()
    raise MediaError(
        f"The {name} is larger than {limit // 2**20} MB." if size else f"The {name} is empty."
    )


@dataclass(frozen=True)
class _Position:
    """What has been written so far."""

    fragments: int = 0
    audio_packets: int = 0


class StreamMuxer:
    """One video and one audio encoder for a whole stream; every chunk becomes one MP4 fragment.

    The first bytes returned hold the init segment. All bytes joined are a playable fragmented MP4:
    H.264 with a key frame per chunk, AAC-LC at 48 kHz (at 24 kHz an AAC frame lasts 43 ms, which
    starves players).
    """

    def __init__(
        self, width: int, height: int, seconds: float | None = None, given: int = 0
    ) -> None:
        """Prepare for pictures of `width` x `height` pixels, both even (ValueError otherwise).

        seconds: what would come after is dropped; chunks are longer than a frame, wishes are not. given: the
        channels, 1 or 2, of a user's own sound at 48 kHz; 0 where the model speaks, at 24 kHz.
        """
        if width % 2 or height % 2 or min(width, height) < 16:
            raise ValueError("The width and height of a film must be even and at least 16 pixels.")
        if given not in (0, 1, 2):
            raise ValueError("The sound of a film must have one channel or two.")
        self._size = (width, height)
        self._limit = math.inf if seconds is None else round(seconds * FPS)
        self._video = _open_video_encoder(width, height)
        self._given, self._rate = given, FILM_RATE if given else SAMPLE_RATE
        self._layout = "stereo" if given == 2 else "mono"
        self._audio = _open_audio_encoder(self._layout)
        self._reformatter = VideoReformatter()
        self._resampler = av.AudioResampler("fltp", self._layout, FILM_RATE, _AAC_FRAME)
        nals = fragments.split_annex_b(bytes(self._video.extradata or b""))
        kinds = {nal[0] & 31: nal for nal in nals}
        self._video_track = fragments.VideoTrack(width, height, _VIDEO_CLOCK, kinds[7], kinds[8])
        self._frames = 0
        self._samples = 0
        self._recent = np.zeros((0, max(1, given)), np.float32)
        self._position = _Position()
        self._seam = self._position
        self._skip = 0
        self._finished = False

    def resumed(self, seconds: float | None = None) -> StreamMuxer:
        """Return a muxer that goes on where the last `add` ended, on the same clock, up to `seconds`.

        Its bytes follow those of the `add`s (the init segment is not repeated) and take the place
        of what `finish` returned. The last sound is encoded again and dropped, so that the new
        encoder starts from what the old one heard and the seam does not click.
        """
        other = StreamMuxer(*self._size, seconds, self._given)
        other._frames, other._position, other._seam = self._frames, self._seam, self._seam
        # Both clocks meet at an AAC frame after so many samples, of 24 kHz as of 48.
        start = max(0, self._samples - _WARM_UP) // _AAC_FRAME * _AAC_FRAME
        first_packet = start * FILM_RATE // self._rate // _AAC_FRAME
        other._skip = self._seam.audio_packets - first_packet
        other._samples = start
        other._sound(self._recent[len(self._recent) - (self._samples - start) :])
        return other

    @property
    def mime_type(self) -> str:
        """What MediaSource must be told."""
        return f'video/mp4; codecs="{fragments.codecs(self._video_track)}"'

    @property
    def header(self) -> bytes:
        """The init segment, which a player needs before any fragment."""
        config = bytes(self._audio.extradata or b"")
        channels = max(1, self._given)
        sound = fragments.AudioTrack(FILM_RATE, config, _AAC_FRAME, channels)
        return fragments.init_segment(self._video_track, sound, provenance.PACKET)

    @property
    def seconds(self) -> float:
        """Length of the pictures so far."""
        return self._frames / FPS

    def add(self, frames: np.ndarray, sound: np.ndarray) -> bytes:
        """Encode frames uint8 [T, H, W, 3] at 25 fps with their sound: float [N] at 24 kHz, or int16 [N, C]
        at 48 kHz of a user's own.

        Raises ValueError when the frames have another size than the stream, the sound other channels, or it
        is finished.
        """
        if self._finished:
            raise ValueError("This film is finished.")
        if frames.dtype != np.uint8 or frames.shape[1:] != (*self._size[::-1], 3):
            raise ValueError("All frames of a film must be 8-bit RGB of the same size.")
        if sound.shape[1:] != ((self._given,) if self._given else ()):
            raise ValueError("All sound of a film must have the channels that it began with.")
        start = self._frames
        room = max(0, int(min(self._limit - start, len(frames))))
        frames, sound = frames[:room], sound[: room * self._rate // FPS]
        video = [packet for i, frame in enumerate(frames) for packet in self._picture(frame, i)]
        if self._given:
            sound = sound / np.float32(2**15)
        data = self._fragment(
            start, video, self._sound(sound.reshape(len(sound), max(1, self._given)))
        )
        self._seam = self._position
        return data

    def finish(self) -> bytes:
        """Flush both encoders and return the last bytes; nothing can be added afterwards."""
        if self._finished:
            return b""
        self._finished = True
        packets = self._encode_sound([*self._resampler.resample(None), None])
        # The encoder pads its last frame: keep only what begins before the last picture ends.
        end = math.ceil(self._frames * FILM_RATE / FPS / _AAC_FRAME) + 1
        keep = max(0, end - self._position.audio_packets)
        return self._fragment(self._frames, [], packets[:keep])

    def _picture(self, pixels: np.ndarray, index: int) -> list[bytes]:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = self._reformatter.reformat(
            frame,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pict_type = PictureType.I if index == 0 else 0
        frame.pts = self._frames
        frame.time_base = Fraction(1, FPS)
        self._frames += 1
        return [fragments.length_prefixed(bytes(packet)) for packet in self._video.encode(frame)]

    def _sound(self, samples: np.ndarray) -> list[bytes]:
        """Packets of samples [N, C]."""
        if not len(samples):
            return []
        self._samples += len(samples)
        self._recent = np.concatenate([self._recent, samples])[-_WARM_UP - _AAC_FRAME :]
        planes = np.ascontiguousarray(samples.T, dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=self._layout)
        frame.sample_rate = self._rate
        return self._encode_sound(self._resampler.resample(frame))

    def _encode_sound(self, frames: Sequence[av.AudioFrame | None]) -> list[bytes]:
        packets = [bytes(packet) for frame in frames for packet in self._audio.encode(frame)]
        skipped = min(self._skip, len(packets))
        self._skip -= skipped
        return packets[skipped:]

    def _fragment(self, first_frame: int, video: list[bytes], audio: list[bytes]) -> bytes:
        if not video and not audio:
            return b""
        tick, position = _VIDEO_CLOCK // FPS, self._position
        tracks = [
            fragments.Samples(fragments.VIDEO_TRACK, first_frame * tick, tick, tuple(video)),
            fragments.Samples(
                fragments.AUDIO_TRACK, position.audio_packets * _AAC_FRAME, _AAC_FRAME, tuple(audio)
            ),
        ]
        self._position = _Position(position.fragments + 1, position.audio_packets + len(audio))
        header = b"" if position.fragments else self.header
        return header + fragments.fragment(self._position.fragments, tracks)


def remux_faststart(blocks: Iterable[bytes], path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Write a stream's bytes as a regular MP4 that starts at once, without encoding again.

    blocks: the bytes, cut anywhere; never more than one of them is held in memory. `metadata` (plain
    values) is stored as JSON in the comment, beside marks that it is generated (provenance.py).
    """
    with tempfile.TemporaryDirectory(prefix="mutual-forcing-") as folder:
        stream, film = Path(folder) / "stream.mp4", Path(folder) / "film.mp4"
        with stream.open("wb") as file:
            file.writelines(blocks)
        with (
            av.open(str(stream)) as source,
            av.open(str(film), "w", options={"movflags": "+faststart"}) as target,
        ):
            target.metadata.update(_describe(metadata))
            streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    target.mux(packet)
        provenance.mark(film)
        shutil.copyfile(film, path)


def write_mp4(
    path: str | Path,
    chunks: Iterable[tuple[np.ndarray, np.ndarray]],
    metadata: Mapping[str, Any] | None = None,
    seconds: float | None = None,
) -> float:
    """Write pairs of frames uint8 [T, H, W, 3] and sound, as StreamMuxer.add takes them, as one MP4.

    Drops what comes after `seconds`. Returns the film's seconds. Raises ValueError when there is
    nothing to write.
    """
    muxer, film = None, Spool()
    for frames, sound in chunks:
        if muxer is None:
            given = sound.shape[1] if sound.ndim == 2 else 0
            muxer = StreamMuxer(frames.shape[2], frames.shape[1], seconds, given)
        film.append(muxer.add(frames, sound))
    if muxer is None:
        raise ValueError("There is nothing to write: the film has no frames.")
    film.append(muxer.finish())
    remux_faststart(film.blocks(), path, metadata or {})
    return muxer.seconds


def _describe(metadata: Mapping[str, Any]) -> dict[str, str]:
    settings = {"ai_generated": True, "generator": "mutual-forcing", **metadata}
    return {
        "title": "AI-generated talking character",
        "description": "AI-generated: the pictures and the sound were made by a computer.",
        "comment": json.dumps(settings, ensure_ascii=False),
    }


def _open_video_encoder(width: int, height: int) -> av.VideoCodecContext:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = width, height
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1, FPS)
    encoder.framerate = Fraction(FPS)
    encoder.gop_size = 10_000  # key frames are asked for, one at the start of every chunk
    encoder.max_b_frames = 0
    encoder.thread_count = 1
    encoder.colorspace = Colorspace.ITU709
    encoder.color_primaries = encoder.color_trc = 1
    encoder.color_range = ColorRange.MPEG
    encoder.flags |= Flags.global_header
    encoder.options = {
        "preset": "superfast",  # a third less work than veryfast for a third more bytes
        "tune": "zerolatency",
        "profile": "main",
        "crf": "20",
        "x264-params": "scenecut=0",
        "forced-idr": "1",
    }
    encoder.open()
    return encoder


def _open_audio_encoder(layout: str) -> av.AudioCodecContext:
    encoder = av.CodecContext.create("aac", "w")
    encoder.sample_rate = FILM_RATE
    encoder.format = "fltp"
    encoder.layout = layout
    # At 64,000 a channel FFmpeg leaves holes of 30 ms in a pure tone.
    encoder.bit_rate = 128_000 if layout == "mono" else 192_000
    encoder.time_base = Fraction(1, FILM_RATE)
    encoder.flags |= Flags.global_header
    encoder.open()
    return encoder


def _too_many_pixels() -> str:
    return f"The picture has more than {MAX_IMAGE_PIXELS // 10**6} million pixels."


def _open_image(file: BinaryIO) -> Image.Image:
    """Open a picture by its content; nothing beyond its header is decoded yet."""
    head = file.read(64)
    file.seek(0)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head[16:]:
        return HeifImageFile(file)
    if head[:4] in (b"II*\0", b"MM\0*") and _is_deep_tiff(file):
        return _read_deep_tiff(file.read())
    return Image.open(file, formats=_IMAGE_FORMATS)


def _is_deep_tiff(file: BinaryIO) -> bool:
    """Whether a TIFF holds colours as floats, or 16-bit ones plane by plane, which Pillow gets wrong.

    Raises ValueError if it, or one of its tiles, has more pixels than a picture may have.
    """
    tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
    file.seek(tags.next)
    tags.load(file)
    file.seek(0)
    colours, planes, kinds = tags.get(277, 1), tags.get(284, 1), tags.get(339, (1,))
    # A tile is decoded whole, however little of it the picture shows.
    for width, height in ((256, 257), (322, 323)):
        if tags.get(width, 0) * tags.get(height, 0) > MAX_IMAGE_PIXELS:
            raise MediaError(_too_many_pixels())
    deep = max(tags.get(258, (1,))) > 8
    return colours == 3 and deep and (planes == 2 or 3 in kinds)


def _read_deep_tiff(data: bytes) -> Image.Image:
    decoder = av.CodecContext.create("tiff", "r")
    decoder.options = {"max_pixels": str(MAX_IMAGE_PIXELS)}
    decoder.thread_count = 1  # there is one picture, and each thread takes memory
    frame = decoder.decode(av.Packet(data))[0]
    return Image.fromarray(_eight_bits(frame.to_ndarray()))


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.width * image.height > MAX_IMAGE_PIXELS:
        raise MediaError(_too_many_pixels())
    if min(image.size) < 16:
        raise MediaError("The picture must be at least 16 pixels wide and high.")
    profile = image.info.get("icc_profile")
    if image.format in ("JPEG", "MPO"):
        image.draft("RGB", (MAX_IMAGE_SIDE, MAX_IMAGE_SIDE))
    image.seek(0)
    turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    if image.mode.startswith(("I", "F")):  # Pillow would clip these instead of scaling them
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if (
        image.mode in ("P", "1") or "transparency" in image.info
    ):  # to be reduced, colours not numbers
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((MAX_IMAGE_SIDE, MAX_IMAGE_SIDE))
    if min(image.size) < 16:
        raise MediaError("The picture is too long and thin.")
    if turn is not None:  # a copy, so it comes after the picture was reduced
        image = image.transpose(turn)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    image = _to_srgb(image, profile)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Bring values of any kind, [H, W] or [H, W, 3], to 0..255 by the scale they seem to have.

    Floats up to 1 (a few brighter ones are clipped) count as 0..1; other numbers as 8 bits, then 16 bits;
    larger and negative ones are stretched from the least to the greatest. What is no number becomes black.
    """
    floating = values.dtype.kind == "f"
    numbers = values.astype(np.float32)
    finite = np.isfinite(numbers)
    numbers[~finite] = 0
    usual = numbers[finite] if finite.any() else np.zeros(1, np.float32)
    low, high = float(usual.min()), float(usual.max())
    if floating and low >= 0 and np.mean(usual > 1) < 0.01:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 65535:
        eight = values.dtype.itemsize != 2 and high <= 255
        low, high = 0.0, 255.0 if eight else 65535.0
    numbers -= low
    numbers *= 255 / max(high - low, 1e-9)
    numbers[~finite] = 0
    return np.clip(np.rint(numbers), 0, 255).astype(np.uint8)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return the picture in sRGB; one whose profile is broken or of another kind stays as it is."""
    if not profile or image.mode not in ("RGB", "CMYK", "L"):
        return image
    try:
        source, target = (
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
        )
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


@contextlib.contextmanager
def _sound_of(file: BinaryIO, max_seconds: float) -> Iterator[InputContainer]:
    """Open a file for its sound; raises ValueError for one that has none, or too much."""
    options = {"format_whitelist": _AUDIO_FORMATS}
    with av.open(file, "r", options=options, metadata_errors="ignore") as container:
        if not container.streams.audio:
            raise MediaError("The file has no sound track.")
        if len(container.streams) > MAX_TRACKS:
            raise MediaError(f"The file has more than {MAX_TRACKS} tracks.")
        if container.streams.audio[0].codec_context.sample_rate not in _SAMPLE_RATES:
            raise MediaError("The audio file has an unusual sample rate.")
        if container.duration and container.duration > (max_seconds + 1) * av.time_base:
            raise MediaError(_too_long(max_seconds))
        yield container


def _too_long(max_seconds: float) -> str:
    return f"The audio file is longer than {max_seconds:.0f} seconds."


def _decode_audio(
    file: BinaryIO, max_seconds: float, difference: bool = False
) -> tuple[np.ndarray, float, float]:
    """The middle of left and right float32 [N], or half of their difference; its energy and the energy of the
    other of the two.
    """
    with _sound_of(file, max_seconds) as container:
        # Integers clip where FFmpeg adds channels up: numbers without bounds first.
        layout = container.streams.audio[0].codec_context.layout
        float_of = av.AudioResampler("fltp")
        kept = "mono" if layout.nb_channels == 1 else "stereo"
        resampler = av.AudioResampler("fltp", kept, SAMPLE_RATE)
        parts, total, energies = [np.zeros(0, np.float32)], 0, np.zeros(2)

        def take(frame: av.AudioFrame | None) -> None:
            nonlocal total
            for piece in resampler.resample(frame):
                left, right = piece.to_ndarray()[[0, -1]] / 2
                with np.errstate(invalid="ignore", over="ignore"):  # it is told of later
                    sides = (
                        (left - right, left + right) if difference else (left + right, left - right)
                    )
                    energies[:] += [float(np.dot(side, side)) for side in sides]
                parts.append(sides[0])
                total += len(left)

        for frame in container.decode(audio=0):
            frame.pts = None  # broken time stamps must not stretch the sound
            for piece in float_of.resample(frame):
                take(piece)
            if total > max_seconds * SAMPLE_RATE:
                raise MediaError(_too_long(max_seconds))
        for piece in float_of.resample(None):
            take(piece)
        take(None)
    samples = np.concatenate(parts)
    if layout.nb_channels > 2 and len(samples):  # FFmpeg adds more than two up to any height
        samples /= max(1.0, samples.max(), -samples.min())
    return samples, float(energies[0]), float(energies[1])
