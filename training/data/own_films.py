"""Films of one's own, of any format that PyAV reads: found in a folder, measured before they are decoded.

Pictures come upright, with square pixels, at the corpus's rate; sound begins with the first picture. What
cannot be used raises FilmError, whose sentence goes into left_out.jsonl.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition

from mutual_forcing.config import FPS, SAMPLE_RATE

SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv"),
    *(".m1v", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpe"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt"),
    *(".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv"),
)
"""What films are called: other files of a folder are not looked at."""
# Playlists and scripts (HLS, concat) could open other files or addresses: they are not listed.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,live_flv,ogg,mxf,mxf_d10,dv,"
    "rm,nut,m4v,h264,hevc"
)
MAX_PIXELS = 8192 * 4608
MAX_TRACKS = 32
LONGEST_GAP = 2.0
"""Seconds between two pictures beyond which their times are not believed."""
_SOUND_RATES = range(4_000, 400_000)


class FilmError(ValueError):
    """A film, or a part of one, that cannot be used, said in one sentence."""


@dataclass(frozen=True)
class OwnFilm:
    """A film in a folder: its path, and its name, the path within the folder with slashes."""

    path: Path
    name: str


def find_films(source: Path) -> list[OwnFilm]:
    """The films of a folder and its subfolders by name, or the one file that is named.

    Links to folders are not followed. Raises ValueError where there is none.
    """
    if source.is_file():
        return [OwnFilm(source, source.name)]
    if not source.is_dir():
        raise ValueError(f"There is no folder or film at {str(source)!r}.")
    found = []
    for folder, folders, files in os.walk(source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            path = Path(folder, file)
            if path.suffix.lower() in SUFFIXES and not file.startswith("."):
                found.append(OwnFilm(path, path.relative_to(source).as_posix()))
    if not found:
        raise ValueError(f"There are no films in {str(source)!r}, such as files ending in .mp4.")
    return sorted(found, key=lambda film: film.name)


def check_file(film: OwnFilm, root: Path) -> None:
    """Raise FilmError for what is no file of this folder: links out of it, pipes, devices, empty files."""
    try:
        state = film.path.stat()
        inside = Path(os.path.realpath(film.path)).is_relative_to(os.path.realpath(root))
    except OSError:
        raise FilmError("It cannot be opened.") from None
    if not inside:
        raise FilmError("It is a link that leads out of the folder; copy the film into it.")
    if not stat.S_ISREG(state.st_mode):
        raise FilmError("It is no regular file.")
    if not state.st_size:
        raise FilmError("The file is empty.")


@contextlib.contextmanager
def open_film(path: Path, longest: float) -> Iterator[InputContainer]:
    """Open a film of at most `longest` seconds. Raises FilmError for anything else, also for whatever goes
    wrong in the block with its decoders.
    """
    try:
        # An open file and a list of formats: nothing that the file names is opened besides.
        with (
            path.open("rb") as file,
            av.open(
                file, "r", options={"format_whitelist": FORMATS}, metadata_errors="ignore"
            ) as container,
        ):
            _check(container, longest)
            yield container
    except FilmError:
        raise
    except MemoryError:
        raise FilmError("It takes too much memory to be read.") from None
    except (OSError, ValueError, av.FFmpegError) as error:
        said = str(error).split("\n")[0].split(": '<")[0]
        raise FilmError(f"It cannot be read as a film ({said[:80]}).") from error


def _check(container: InputContainer, longest: float) -> None:
    if len(container.streams) > MAX_TRACKS:
        raise FilmError(f"It has more than {MAX_TRACKS} tracks.")
    pictures = _pictures(container)
    size = pictures.codec_context.width, pictures.codec_context.height
    if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise FilmError(
            f"Its pictures have {size[0]} x {size[1]} pixels, which is no size to read."
        )
    if not container.streams.audio:
        raise FilmError("It has no sound.")
    if container.streams.audio[0].codec_context.sample_rate not in _SOUND_RATES:
        raise FilmError("Its sound has an unusual rate.")
    if container.duration and container.duration > longest * av.time_base:
        raise FilmError(_too_long(container.duration / av.time_base, longest))


def _pictures(container: InputContainer) -> Any:
    """The first track of moving pictures; the cover of a song is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise FilmError("It has no pictures.")


def _too_long(seconds: float, longest: float) -> str:
    return (
        f"It lasts {seconds / 3600:.1f} hours, more than {longest / 3600:.1f}: cut it, or ask for more "
        "with --longest."
    )


def film_seconds(film: OwnFilm, longest: float) -> float:
    """How long a film says that it lasts, 0 where it does not. Raises FilmError for one that is no film."""
    with open_film(film.path, longest) as container:
        return (container.duration or 0) / av.time_base


def read_pictures(
    path: Path, longest: float, most: int | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of each picture, at 25 a second, and it as uint8 RGB [H, W, 3], upright.

    most: pixels on the longer side to which larger ones are reduced. The picture is the newest at its time.
    Raises FilmError, also in the middle of a film.
    """
    with open_film(path, longest) as container:
        stream = _pictures(container)
        stream.thread_type = "AUTO"
        wide = float(stream.sample_aspect_ratio or 1)
        wide = wide if 0.2 < wide < 5 else 1.0
        begin, before, count, last = None, 0.0, 0, None
        for frame in container.decode(stream):
            time = before if frame.pts is None else float(frame.pts * stream.time_base)
            begin = time if begin is None else begin
            time -= begin
            if time > longest:
                raise FilmError(_too_long(time, longest))
            if time - before > LONGEST_GAP:
                raise FilmError(f"Its pictures stop for {time - before:.0f} s at {before:.1f} s.")
            # The one before is shown until this one comes.
            while last is not None and count / FPS < time - 1e-3:
                yield count, last.pixels()
                count += 1
            before, last = max(time, before), _Picture(frame, wide, most)
        if last is None:
            raise FilmError("It has no picture that can be read.")
        yield count, last.pixels()


class _Picture:
    """A decoded frame that becomes pixels when it is asked for; wide: how many times as wide as high its
    pixels are.
    """

    def __init__(self, frame: av.VideoFrame, wide: float, most: int | None) -> None:
        self._frame, self._wide, self._most = frame, wide, most
        self._pixels: np.ndarray | None = None

    def pixels(self) -> np.ndarray:
        """See `read_pictures`."""
        if self._pixels is None:
            frame = self._frame
            extent = np.array([frame.width * self._wide, frame.height])
            scale = min(1.0, (self._most or np.inf) / extent.max())
            width, height = np.maximum(16, np.rint(extent * scale)).astype(int).tolist()
            pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
            # Telephones say how the picture is to be turned, counter-clockwise.
            self._pixels = np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
        return self._pixels


def read_sound(path: Path, longest: float) -> np.ndarray:
    """The first sound track as int16 mono [N] at 24 kHz, from the first picture on. Raises FilmError."""
    with open_film(path, longest) as container:
        starts = [
            float((stream.start_time or 0) * (stream.time_base or 0))
            for stream in (_pictures(container), container.streams.audio[0])
        ]
        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
        parts, total = [], 0
        for frame in container.decode(audio=0):
            frame.pts = None  # broken time stamps must not stretch the sound
            for piece in resampler.resample(frame):
                parts.append(piece.to_ndarray()[0])
                total += len(parts[-1])
            if total > (longest + 1) * SAMPLE_RATE:
                raise FilmError(_too_long(total / SAMPLE_RATE, longest))
        parts += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    if not total:
        raise FilmError("It has no sound that can be read.")
    sound, late = np.concatenate(parts), round((starts[1] - starts[0]) * SAMPLE_RATE)
    if abs(late) > longest * SAMPLE_RATE:
        raise FilmError("Its sound begins at another time than its pictures.")
    return np.pad(sound, (max(late, 0), 0))[max(-late, 0) :]
