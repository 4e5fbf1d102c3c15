"""Reading what people upload, and writing films that keep time."""

from __future__ import annotations

import io
import json
import wave

import av
import numpy as np
import pytest
from PIL import Image

from mutual_forcing import media
from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.media import StreamMuxer, read_audio, read_image, remux_faststart, write_mp4

FRAMES, SAMPLES = 16, 10_240


def flashes_and_beeps(chunks: int, size: int = 128):
    """One white frame and one 40 ms beep at the start of every second, the rest dark and silent."""
    total = chunks * FRAMES
    time = np.arange(chunks * SAMPLES) / SAMPLE_RATE
    beep = np.where(time % 1 < 1 / FPS, 0.8 * np.sin(2 * np.pi * 1000 * time), 0)
    level = np.where(np.arange(total) % FPS == 0, 255, 20).astype(np.uint8)
    for index in range(chunks):
        frames = np.zeros((FRAMES, size, size, 3), np.uint8)
        frames += level[index * FRAMES : (index + 1) * FRAMES, None, None, None]
        yield frames, beep[index * SAMPLES : (index + 1) * SAMPLES].astype(np.float32)


def decode(data: bytes):
    """Return frame times, mean brightness, the sound's first sample time, and the sound."""
    times, levels, sound, first = [], [], [], None
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode(video=0):
            times.append(float(frame.time))
            levels.append(frame.to_ndarray(format="gray").mean())
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode(audio=0):
            first = float(frame.time) if first is None else first
            sound.append(frame.to_ndarray()[0])
            rate = frame.sample_rate
    return np.array(times), np.array(levels), first, np.concatenate(sound), rate


@pytest.fixture(scope="module")
def minute() -> bytes:
    muxer = StreamMuxer(128, 128)
    parts = [muxer.add(*chunk) for chunk in flashes_and_beeps(94)]
    return b"".join([*parts, muxer.finish()])


@pytest.mark.parametrize("finished", [False, True])
def test_a_minute_lasts_a_minute_and_keeps_sync(minute, finished):
    data = remux_faststart(minute, {}) if finished else minute
    times, levels, first, sound, rate = decode(data)
    seconds = 94 * FRAMES / FPS
    assert len(times) == 94 * FRAMES
    assert abs(times[-1] + 1 / FPS - times[0] - seconds) < 0.01
    assert abs(first + len(sound) / rate - seconds) < 0.1
    flashes = times[levels > 128]
    loud = np.flatnonzero(np.abs(sound) > 0.3) / rate + first
    onsets = loud[np.insert(np.diff(loud) > 0.5, 0, True)]
    assert len(flashes) == len(onsets) == 61
    assert np.abs(flashes - onsets).max() < 1 / FPS


def test_every_chunk_is_playable_at_once():
    muxer = StreamMuxer(128, 128)
    data = b""
    for index, chunk in enumerate(flashes_and_beeps(3)):
        data += muxer.add(*chunk)
        assert len(decode(data)[0]) == (index + 1) * FRAMES
    assert data.count(b"moof") == 3
    assert muxer.mime_type.startswith('video/mp4; codecs="avc1.4D')


@pytest.mark.parametrize("seam", [1, 5])
def test_a_resumed_stream_is_seamless(seam):
    time = np.arange(10 * SAMPLES) / SAMPLE_RATE
    tone = (0.4 * np.sin(2 * np.pi * 300 * time)).astype(np.float32)
    chunks = [
        (frames, tone[i * SAMPLES :][:SAMPLES])
        for i, (frames, _) in enumerate(flashes_and_beeps(10, 64))
    ]
    first = StreamMuxer(64, 64)
    parts = [first.add(*chunk) for chunk in chunks[:seam]]
    first.finish()
    second = first.resumed()
    parts += [second.add(*chunk) for chunk in chunks[seam:]] + [second.finish()]
    times, _, start, heard, rate = decode(b"".join(parts))
    assert len(times) == 160 and second.seconds == pytest.approx(6.4)
    assert np.allclose(np.diff(times), 1 / FPS, atol=1e-3)
    assert abs(start + len(heard) / rate - 6.4) < 0.03
    wanted = 0.4 * np.sin(2 * np.pi * 300 * (np.arange(len(heard)) / rate + start))
    error = np.abs(heard - wanted)[4096:-4096]
    assert error.max() < 0.05, "the tone goes through the seam without a click"


def test_the_asked_length_is_met_to_the_frame(tmp_path):
    path = tmp_path / "film.mp4"
    assert write_mp4(path, flashes_and_beeps(5, 64), seconds=3) == pytest.approx(3)
    times, _, start, sound, rate = decode(path.read_bytes())
    assert len(times) == 75
    assert abs(start + len(sound) / rate - 3) < 0.03


def test_colours_survive():
    colour = np.array([200, 60, 30], np.uint8)
    muxer = StreamMuxer(64, 64)
    data = muxer.add(np.broadcast_to(colour, (16, 64, 64, 3)), np.zeros(SAMPLES, np.float32))
    with av.open(io.BytesIO(data)) as container:
        frame = next(container.decode(video=0))
    shown = frame.to_ndarray(format="rgb24", src_colorspace="ITU709")
    assert np.abs(shown.reshape(-1, 3).mean(0) - colour).max() < 6


def test_the_finished_film_says_what_it_is(tmp_path):
    path = tmp_path / "film.mp4"
    assert write_mp4(path, flashes_and_beeps(2), {"seed": 3}) == pytest.approx(1.28)
    with av.open(str(path)) as container:
        assert json.loads(container.metadata["comment"]) == {
            "ai_generated": True, "generator": "mutual-forcing", "seed": 3,
        }  # fmt: skip
        assert "AI-generated" in container.metadata["title"]
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_the_muxer_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(ValueError, match="even"):
        StreamMuxer(127, 128)
    muxer = StreamMuxer(64, 64)
    with pytest.raises(ValueError, match="same size"):
        muxer.add(np.zeros((16, 32, 32, 3), np.uint8), np.zeros(SAMPLES))
    muxer.finish()
    with pytest.raises(ValueError, match="finished"):
        muxer.add(np.zeros((16, 64, 64, 3), np.uint8), np.zeros(SAMPLES))
    with pytest.raises(ValueError, match="nothing to write"):
        write_mp4(tmp_path / "empty.mp4", [])


def picture(
    mode: str = "RGB", size: tuple[int, int] = (40, 30), kind: str = "PNG", **options
) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 0).save(file, kind, **options)
    return file.getvalue()


def test_pictures_of_all_kinds(tmp_path):
    for mode in ("RGB", "L", "1", "P", "RGBA", "LA", "I;16"):
        pixels = read_image(picture(mode))
        assert pixels.shape == (30, 40, 3) and pixels.dtype == np.uint8
    assert (read_image(picture("RGBA")) == 255).all(), "transparency shows white"
    exif = Image.Exif()
    exif[274] = 6  # turned a quarter
    assert read_image(picture(kind="JPEG", exif=exif)).shape == (40, 30, 3)
    path = tmp_path / "misnamed.txt"
    path.write_bytes(picture(kind="WEBP"))
    assert read_image(path).shape == (30, 40, 3)
    assert read_image(Image.new("RGB", (5000, 2500))).shape == (1024, 2048, 3)


def test_animations_give_their_first_frame():
    file = io.BytesIO()
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    assert tuple(read_image(file.getvalue())[0, 0]) == (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello", "cannot be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read"),
        (picture(size=(400, 400), kind="BMP")[:5000], "cannot be read"),
        (picture(size=(8, 8)), "at least 16"),
        (picture("1", size=(9000, 6000)), "50 million"),
        (picture("1", size=(30000, 30000)), "50 million"),
    ],
)
def test_bad_pictures_get_one_sentence(data, message):
    with pytest.raises(ValueError, match=message):
        read_image(data)


def sound(samples: np.ndarray, rate: int = 44_100, channels: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes((np.repeat(samples, channels) * 32767).astype("<i2").tobytes())
    return file.getvalue()


def test_sound_becomes_16_khz_mono():
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    samples = read_audio(sound(tone))
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert abs(len(samples) - SAMPLE_RATE) <= 16
    assert np.abs(np.fft.rfft(samples)).argmax() == pytest.approx(440, abs=1)


def test_sound_is_taken_out_of_films(tmp_path):
    write_mp4(tmp_path / "film", flashes_and_beeps(2))
    assert len(read_audio(tmp_path / "film")) == pytest.approx(2 * SAMPLES, abs=700)


def float_wav(value: float) -> bytes:
    import struct

    body = np.full(SAMPLE_RATE, value, "<f4").tobytes()
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(body), b"WAVE", b"fmt ", 16, 3, 1,
                         SAMPLE_RATE, SAMPLE_RATE * 4, 4, 32, b"data", len(body))  # fmt: skip
    return header + body


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"not sound at all" * 99, "cannot be read"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/passwd\n", "cannot be read"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "cannot be read"),
        (sound(np.zeros(44_100)), "silent"),
        (float_wav(float("nan")), "not numbers"),
        (float_wav(float("inf")), "not numbers"),
    ],
)
def test_bad_sound_gets_one_sentence(data, message):
    with pytest.raises(ValueError, match=message):
        read_audio(data)


def test_long_sound_and_films_without_sound_are_refused(tmp_path):
    tone = sound(np.full(8000 * 4, 0.5), rate=8000, channels=1)
    with pytest.raises(ValueError, match="longer than 2 seconds"):
        read_audio(tone, max_seconds=2)
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="no sound"):
        read_audio(tmp_path / "mute.mp4")
    with pytest.raises(ValueError, match="no audio file"):
        read_audio(tmp_path / "missing.wav")


def test_size_limits(monkeypatch, tmp_path):
    monkeypatch.setattr(media, "MAX_IMAGE_BYTES", 2**20)
    path = tmp_path / "big.png"
    path.write_bytes(bytes(2**20 + 1))
    with pytest.raises(ValueError, match="larger than 1 MB"):
        read_image(path)
