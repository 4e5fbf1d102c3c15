"""Strangers' files are opened in a process of its own: what it reads, what it refuses, what it survives."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import hostile
import numpy as np
import pytest
from PIL import Image
from test_media import COLOURS, heic, sound, tiff

from mutual_forcing import media
from mutual_forcing.chunks import SAMPLES_PER_CHUNK
from mutual_forcing.demo import cage, inputs, pictures, settings

pytestmark = pytest.mark.skipif(not cage.HELD, reason="needs limits of processes")
MOST = 150 * 10**6
"""Bytes that a hostile file may take, in the page's process and the worker together."""
PATIENCE = 60
"""Seconds within which a busy machine answers; nothing here takes more than a few."""


def saved(kind: str, mode: str = "RGB", size: tuple[int, int] = (90, 60), **options) -> bytes:
    file = io.BytesIO()
    colours = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(colours).convert(mode).save(file, kind, **options)
    return file.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return saved("JPEG", exif=exif)


def pid() -> int:
    worker = cage._CAGE._worker
    assert worker
    return worker.pid


def resident(process: int) -> int:
    """Bytes of a process in memory, 0 if it is gone."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096
    except (OSError, IndexError):
        return 0


@pytest.fixture
def small(tmp_path) -> Path:
    path = tmp_path / "small.png"
    path.write_bytes(saved("PNG"))
    return path


PICTURES = {
    "png": saved("PNG"),
    "alpha.png": saved("PNG", "RGBA"),
    "grey.png": saved("PNG", "LA"),
    "palette.png": saved("PNG", "P"),
    "exif.jpg": turned(),
    "progressive.jpg": saved("JPEG", progressive=True),
    "cmyk.jpg": saved("JPEG", "CMYK"),
    "webp": saved("WEBP"),
    "avif": saved("AVIF"),
    "gif": saved("GIF"),
    "bmp": saved("BMP"),
    "tif": saved("TIFF"),
    "packed.tif": saved("TIFF", compression="tiff_lzw"),
    "jpeg.tif": saved("TIFF", compression="jpeg"),
    "deep.tif": tiff((COLOURS * 65535).astype(np.uint16), planes=True),
    "heic": heic((200, 60, 40)),
    "large.png": saved("PNG", size=(4000, 3000), compress_level=1),
    "large.jpg": saved("JPEG", size=(4000, 3000)),
}


def test_pictures_are_read_as_without_it(tmp_path):
    for name, data in PICTURES.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert np.array_equal(cage.read_image(path), media.read_image(data)), name


def test_sounds_and_comments_are_read_as_without_it(tmp_path):
    tone = 0.5 * np.sin(np.arange(44_100) / 20)
    pictures = np.zeros((16, 64, 64, 3), np.uint8)
    film = tmp_path / "film.mp4"
    media.write_mp4(
        film, [(pictures, tone[:SAMPLES_PER_CHUNK].astype(np.float32))], {"text": "Hello. 今日"}
    )
    samples = {"wav": sound(tone), "film": film.read_bytes()}
    for kind, codec in (("flac", "flac"), ("mp3", "libmp3lame"), ("adts", "aac"), ("ogg", "opus")):
        samples[kind] = hostile._encoded(codec.replace("opus", "libopus"), kind, tone)
    for name, data in samples.items():
        path = tmp_path / name
        path.write_bytes(data)
        heard = cage.read_audio(path, max_seconds=5)
        assert heard.dtype == np.float32 and np.array_equal(heard, media.read_audio(data)), name
    assert cage.read_comment(film) == media.read_comment(film)
    assert settings.from_file(film)["text"] == "Hello. 今日"


def test_the_readers_sentences_come_through(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"no picture")
    for read in (cage.read_image, cage.read_audio, cage.read_comment):
        with pytest.raises(ValueError, match=r"^The \w+ cannot be read; use"):
            read(path)
    path.write_bytes(sound(np.full(44_100 * 3, 0.5)))
    with pytest.raises(ValueError, match="longer than 2 seconds"):
        cage.read_audio(path, max_seconds=2)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="empty"):
        cage.read_image(path)
    with pytest.raises(ValueError, match="no picture at"):
        cage.read_image(tmp_path / "none")


ATTACKS = {
    "samples": hostile.many_samples,
    "fewer samples": lambda: hostile.many_samples(3, 2**22),
    "many tracks": lambda: hostile.many_samples(400, 2**18),
    "tile": hostile.giant_tile,
    "smaller tile": lambda: hostile.giant_tile(tile=(13_000, 12_000)),
    "png": hostile.large_png,
    "webp": hostile.animated_webp,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_takes_one_sentence_and_little_memory(name, tmp_path, small, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = tmp_path / "attack"
    path.write_bytes(ATTACKS[name]())
    readers = (
        (lambda path: inputs._cached_audio(path, 600.0), settings.from_file)
        if "samples" in name or "tracks" in name
        else (pictures.read_character,)
    )
    cage.read_image(small)
    files = set(tmp_path.rglob("*"))
    for reader in readers:
        before, process, grown, ended = resident(os.getpid()), pid(), [0], threading.Event()
        of_worker = resident(process)

        def watch(before=before, process=process, of_worker=of_worker, grown=grown, ended=ended):
            while not ended.wait(0.002):
                worker = max(0, resident(process) - of_worker)
                grown.append(worker + resident(os.getpid()) - before)

        watching = threading.Thread(target=watch)
        watching.start()
        attacks = [threading.Thread(target=_refused, args=(reader, str(path))) for _ in range(2)]
        for attack in attacks:
            attack.start()
        started = time.monotonic()
        assert cage.read_image(small).shape == (60, 90, 3), "another visitor meanwhile"
        waited = time.monotonic() - started
        for attack in attacks:
            attack.join()
        ended.set()
        watching.join()
        _refused(reader, str(path))
        assert max(grown) < MOST and waited < PATIENCE
        assert cage.read_image(small).shape == (60, 90, 3), "the next visitor"
    assert set(tmp_path.rglob("*")) == files


def _refused(reader, path) -> None:
    with pytest.raises(ValueError, match=r"^[A-Z][^\n]{10,150}\.$"):
        reader(path)


@pytest.mark.slow
def test_a_worker_that_hangs_or_dies_is_replaced(small, monkeypatch):
    cage.read_image(small)
    monkeypatch.setattr(cage, "SECONDS", 0.2)
    hanging = pid()
    os.kill(hanging, signal.SIGSTOP)
    with pytest.raises(ValueError, match="too much memory or time"):
        cage.read_image(small)
    monkeypatch.undo()
    assert pid() != hanging and not Path(f"/proc/{hanging}").exists()
    cage.read_image(small)
    os.kill(pid(), signal.SIGKILL)
    os.waitid(os.P_PID, pid(), os.WEXITED | os.WNOWAIT)
    assert len(cage.read_image(small)), "one that died between two files costs nobody an answer"


@pytest.mark.slow
def test_it_ends_when_it_is_stopped_and_starts_again(small):
    cage.start()
    cage.read_image(small)
    ended = pid()
    cage.stop()
    assert not Path(f"/proc/{ended}").exists() and cage._CAGE._worker is None
    assert len(cage.read_image(small)) and pid() != ended


def test_it_knows_no_secrets(small, monkeypatch):
    cage.stop()
    monkeypatch.setenv("MF_PASSWORD", "secret-of-the-page")
    cage.read_image(small)
    assert b"secret-of-the-page" not in Path(f"/proc/{pid()}/environ").read_bytes()


TRIES = """
import os, socket, sys
from mutual_forcing.demo import cage_worker
cage_worker._warm_up()
file = open(sys.argv[1], "w")
cage_worker._lock_in()
kept = [os.dup(0) for _ in range(2)]  # what reading a picture may take
failed = []
for action in (
    lambda: (file.write("x"), file.flush()),
    lambda: open(sys.argv[1] + "2", "w"),
    lambda: open("/etc/passwd"),
    lambda: socket.socket(),
    lambda: bytearray(2 * cage_worker.MEMORY),
):
    try:
        action()
    except (OSError, MemoryError):
        failed.append(True)
print(len(failed))
os._exit(0)
"""


def test_nothing_can_be_written_opened_or_taken_inside(tmp_path):
    path = tmp_path / "file"
    done = subprocess.run(
        [sys.executable, "-c", TRIES, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "5", done
    assert path.read_bytes() == b"" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("picture", [10, 10]),
        ("picture", [10, 10, 4]),
        ("picture", [10, 2049, 3]),
        ("picture", [-10, -10, 3]),
        ("picture", [10.0, 10, 3]),
        ("picture", [True, 10, 3]),
        ("picture", None),
        ("picture", "10"),
        ("audio", [10**8]),
        ("audio", [0]),
        ("heard", [48_000]),
        ("heard", [48_000, 3]),
        ("heard", [0, 1]),
        ("film", [2**30]),
    ],
)
def test_impossible_answers_are_refused(kind, shape):
    with pytest.raises(ValueError, match="no shape"):
        cage._Job(kind, 1, 600.0).room(shape)


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\x02[]",
        b"\0\0\0\x02\x80\x04",
        b'\0\0\0\x0d{"shape":[2]}' + np.array([0.5, np.nan], np.float32).tobytes(),
        b'\0\0\0\x0d{"shape":[2]}' + np.array([0.5, 1.5], np.float32).tobytes(),
        b'\0\0\0\x0d{"shape":[2]}' + bytes(4),
        b'\0\0\0\x0b{"error":7}',
        b'\0\0\0\x0e{"error":"\\n"}',
        b"",
    ],
)
def test_a_worker_that_answers_nonsense_is_no_danger(answer, small):
    class Spoilt(cage._Worker):
        def __init__(self) -> None:
            self._socket, theirs = socket.socketpair()
            self.ready, self._spent = True, False
            with theirs:
                theirs.sendall(answer)
                theirs.shutdown(socket.SHUT_WR)
                self._theirs = theirs.dup()

    with small.open("rb") as file, pytest.raises((ValueError, EOFError)) as error:
        Spoilt().ask(cage._Job("audio", 1, 600.0), file.fileno(), 5)
    assert not isinstance(error.value, media.MediaError)
