"""Reading what people upload, and writing films that keep time."""

from __future__ import annotations

import io
import json
import struct
import wave
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
from PIL import Image, ImageCms

from mutual_forcing import fragments, media
from mutual_forcing.chunks import SAMPLES_PER_CHUNK
from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.media import (
    StreamMuxer,
    read_audio,
    read_heard,
    read_image,
    remux_faststart,
    write_mp4,
)

FRAMES, SAMPLES = 16, SAMPLES_PER_CHUNK


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


def decode(data: bytes, channel: int = 0):
    """Return frame times, mean brightness, the sound's first sample time, and the sound."""
    times, levels, sound, first = [], [], [], None
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode(video=0):
            times.append(float(frame.time))
            levels.append(frame.to_ndarray(format="gray").mean())
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode(audio=0):
            first = float(frame.time) if first is None else first
            sound.append(frame.to_ndarray()[channel])
            rate = frame.sample_rate
    return np.array(times), np.array(levels), first, np.concatenate(sound), rate


@pytest.fixture(scope="module")
def minute() -> bytes:
    muxer = StreamMuxer(64, 64)
    parts = [muxer.add(*chunk) for chunk in flashes_and_beeps(94, 64)]
    return b"".join([*parts, muxer.finish()])


@pytest.mark.slow
@pytest.mark.parametrize("finished", [False, True])
def test_a_minute_lasts_a_minute_and_keeps_sync(minute, finished, tmp_path):
    data = minute
    if finished:
        remux_faststart([minute[:1000], minute[1000:]], tmp_path / "film.mp4", {})
        data = (tmp_path / "film.mp4").read_bytes()
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


@pytest.mark.parametrize("given", [0, 1, 2])
@pytest.mark.parametrize("seam", [1, 5])
def test_a_resumed_stream_is_seamless(seam, given):
    count = SAMPLES * 2 if given else SAMPLES
    time = np.arange(10 * count) * SAMPLES / count / SAMPLE_RATE
    tone = (0.4 * np.sin(2 * np.pi * 300 * time)).astype(np.float32)
    if given:
        sides = [tone, np.zeros_like(tone)][:given]
        tone = (np.stack(sides, 1) * (2**15 - 1)).astype(np.int16)
    chunks = [
        (frames, tone[i * count :][:count])
        for i, (frames, _) in enumerate(flashes_and_beeps(10, 64))
    ]
    first = StreamMuxer(64, 64, given=given)
    parts = [first.add(*chunk) for chunk in chunks[:seam]]
    first.finish()
    second = first.resumed()
    parts += [second.add(*chunk) for chunk in chunks[seam:]] + [second.finish()]
    times, _, start, heard, rate = decode(b"".join(parts))
    if given == 2:
        quiet = decode(b"".join(parts), channel=1)[3]
        assert np.abs(quiet[4096:-4096]).max() < 0.02, "the other side stays silent"
    assert len(times) == 160 and second.seconds == pytest.approx(6.4)
    assert np.allclose(np.diff(times), 1 / FPS, atol=1e-3)
    assert abs(start + len(heard) / rate - 6.4) < 0.03
    wanted = 0.4 * np.sin(2 * np.pi * 300 * (np.arange(len(heard)) / rate + start))
    error = np.abs(heard - wanted)[4096:-4096]
    assert error.max() < 0.05, "the tone goes through the seam without a click"


def test_a_sound_of_other_channels_is_refused():
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    for given in (3, -1):
        with pytest.raises(ValueError, match="one channel or two"):
            StreamMuxer(64, 64, given=given)
    for given, sound in ((0, np.zeros((7680, 1), np.int16)), (2, np.zeros(3840, np.float32))):
        with pytest.raises(ValueError, match="channels"):
            StreamMuxer(64, 64, given=given).add(frames, sound)


@pytest.mark.parametrize(
    ("rate", "channels"), [(48_000, 2), (44_100, 2), (44_100, 1), (8_000, 1), (48_000, 6)]
)
def test_a_sound_is_heard_with_its_own_channels_and_all_its_pitches(rate, channels, tmp_path):
    time = np.arange(2 * rate) / rate
    pitch = 0.4 * rate
    sides = [0.3 * np.sin(2 * np.pi * (pitch if c == 0 else 500) * time) for c in range(channels)]
    soundfile.write(tmp_path / "own.wav", np.stack(sides, 1), rate, subtype="FLOAT")
    heard = read_heard(tmp_path / "own.wav")
    assert heard.dtype == np.int16 and heard.shape[1] == min(channels, 2)
    assert abs(len(heard) - 2 * 48_000) < 50
    assert abs(len(heard) / 2 - len(read_audio(tmp_path / "own.wav"))) < 50
    spectrum = np.abs(np.fft.rfft(heard[24_000:72_000, 0] * np.hanning(48_000)))
    assert abs(int(spectrum[900:].argmax()) + 900 - pitch) <= 1, "the highest pitch is still there"
    if channels == 2 and rate == 48_000:
        wanted = np.stack(sides, 1) * (2**15 - 1)
        assert np.abs(heard - wanted).max() <= 1.01


def test_sixteen_bits_come_back_bit_by_bit_and_six_loud_channels_do_not_clip(tmp_path):
    own = np.random.default_rng(0).integers(-(2**15), 2**15, (9_000, 2)).astype(np.int16)
    soundfile.write(tmp_path / "own.wav", own, 48_000)
    assert np.array_equal(read_heard(tmp_path / "own.wav"), own)
    loud = 0.9 * np.sin(np.arange(48_000) / 20)[:, None].repeat(6, 1)
    soundfile.write(tmp_path / "loud.wav", loud, 48_000)
    heard = np.abs(read_heard(tmp_path / "loud.wav").astype(int))
    assert heard.max() > 0.5 * 2**15 and (heard > 2**15 - 10).mean() < 0.01


def test_a_sound_of_unknown_length_is_heard_to_its_end(tmp_path):
    own = np.random.default_rng(0).integers(-9000, 9000, (48_000 * 7, 1)).astype(np.int16)
    soundfile.write(tmp_path / "own.wav", own, 48_000)
    data = bytearray((tmp_path / "own.wav").read_bytes())
    place = data.index(b"data") + 4
    data[4:8] = data[place : place + 4] = b"\xff\xff\xff\xff"  # as programs write that stream
    assert np.array_equal(read_heard(bytes(data)), own)


def test_a_sound_that_cannot_be_heard_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "text.wav").write_bytes(b"no sound at all")
    with pytest.raises(ValueError, match="cannot be read"):
        read_heard(tmp_path / "text.wav")
    soundfile.write(tmp_path / "long.wav", np.zeros((48_000, 2)), 8000)
    with pytest.raises(ValueError, match="longer than 5 seconds"):
        read_heard(tmp_path / "long.wav", max_seconds=5)
    soundfile.write(
        tmp_path / "odd.wav", np.array([[np.nan, 9.0], [0, -9]] * 8000), 48_000, "FLOAT"
    )
    assert read_heard(tmp_path / "odd.wav")[1000].tolist() == [0, 2**15 - 1]


def test_nothing_comes_after_the_length_of_a_continued_film():
    chunks = list(flashes_and_beeps(3, 64))
    first = StreamMuxer(64, 64)
    first.add(*chunks[0])
    for seconds, frames in ((0.3, 16), (0.8, 20)):
        second = first.resumed(seconds)
        for chunk in chunks[1:]:
            second.add(*chunk)
        assert second.seconds == pytest.approx(frames / FPS)


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


def claiming(width: int, height: int) -> bytes:
    """A small PNG whose header says that it is so large."""
    header = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 1, 0, 0, 0, 0)
    small = picture("1")
    return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]


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


RAMP = np.linspace(0, 1, 40)[None].repeat(30, 0)
"""Grey from 0 to 1 from left to right."""
COLOURS = np.stack([RAMP, RAMP / 2, 1 - RAMP], -1)


def tiff(values: np.ndarray, planes: bool = False) -> bytes:
    """An uncompressed TIFF of [H, W] or [H, W, 3], of floats or unsigned numbers."""
    height, width = values.shape[:2]
    colours = 3 if values.ndim == 3 else 1
    body = np.moveaxis(values, -1, 0) if planes else values
    body = np.ascontiguousarray(body, values.dtype.newbyteorder("<")).tobytes()
    parts = colours if planes else 1
    kind = 3 if values.dtype.kind == "f" else 1
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]), 257: ("I", [height]), 258: ("H", [values.itemsize * 8] * colours),
        259: ("H", [1]), 262: ("H", [2 if colours == 3 else 1]), 273: ("I", [0] * parts),
        277: ("H", [colours]), 278: ("I", [height]), 279: ("I", [len(body) // parts] * parts),
        284: ("H", [2 if planes else 1]), 339: ("H", [kind] * colours),
    }  # fmt: skip
    after = 8 + 2 + 12 * len(tags) + 4
    long = sum(
        struct.calcsize(f"<{len(v)}{t}")
        for t, v in tags.values()
        if len(v) * (2 if t == "H" else 4) > 4
    )
    tags[273] = ("I", [after + long + i * (len(body) // parts) for i in range(parts)])
    entries, extra = b"", b""
    for tag, (type_, numbers) in tags.items():
        packed = struct.pack(f"<{len(numbers)}{type_}", *numbers)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", after + len(extra)), extra + packed
        entries += struct.pack("<HHI", tag, 3 if type_ == "H" else 4, len(numbers)) + packed.ljust(
            4, b"\0"
        )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + extra + body


@pytest.mark.parametrize(
    ("values", "planes"),
    [
        (RAMP.astype(np.float32), False),
        ((RAMP * 255).astype(np.float32), False),
        ((RAMP * 65535).astype(np.float32), False),
        ((RAMP * 1e7 - 3e6).astype(np.float32), False),
        ((RAMP * 65535).astype(np.uint16), False),
        (COLOURS.astype(np.float32), False),
        ((COLOURS * 65535).astype(np.uint16), False),
        ((COLOURS * 65535).astype(np.uint16), True),
    ],
)
def test_more_than_8_bits_keep_their_greys_and_colours(values, planes):
    shown = read_image(tiff(values, planes)).astype(int)
    wanted = COLOURS if values.ndim == 3 else RAMP[..., None].repeat(3, 2)
    assert np.abs(shown - wanted * 255).max() <= 2


def test_what_is_no_number_does_not_spoil_a_float_picture():
    values = RAMP.astype(np.float32).copy()
    values[3, 5], values[4, 6], values[5, 7] = np.nan, np.inf, -np.inf
    shown = read_image(tiff(values))
    assert np.abs(shown[10, :, 0].astype(int) - RAMP[0] * 255).max() <= 2
    assert (shown[[3, 4, 5], [5, 6, 7]] == 0).all()
    assert (read_image(tiff(np.full((30, 40), np.nan, np.float32))) == 0).all()


def test_16_bit_png_grey_is_scaled():
    file = io.BytesIO()
    Image.fromarray((RAMP * 65535).astype(np.uint16)).save(file, "PNG")
    assert np.abs(read_image(file.getvalue())[..., 0] - RAMP * 255.0).max() <= 2


def test_too_large_deep_pictures_are_refused_before_they_are_decoded():
    data = bytearray(tiff(COLOURS.astype(np.float32)))
    for place in (10, 22):  # the width's and the height's entries
        data[place + 8 : place + 12] = struct.pack("<I", 9000)
    with pytest.raises(ValueError, match="50 million"):
        read_image(bytes(data))


def test_cmyk_jpegs_look_as_they_should():
    file = io.BytesIO()
    Image.new("CMYK", (40, 30), (0, 255, 255, 0)).save(file, "JPEG", quality=95)
    assert b"Adobe" in file.getvalue(), "the kind that is stored inverted"
    red, green, blue = read_image(file.getvalue())[10, 10]
    assert red > 240 and green < 15 and blue < 15


def wide_profile() -> bytes:
    """An sRGB profile whose red and green primaries are swapped: nobody misses a conversion."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


def test_colour_profiles_are_obeyed_and_broken_ones_ignored():
    for mode, colour in (("RGB", (255, 0, 0)), ("RGBA", (255, 0, 0, 255))):
        file = io.BytesIO()
        Image.new(mode, (40, 30), colour).save(file, "PNG", icc_profile=wide_profile())
        assert tuple(read_image(file.getvalue())[0, 0]) == pytest.approx((0, 255, 0), abs=3)
        file = io.BytesIO()
        Image.new(mode, (40, 30), colour).save(file, "PNG", icc_profile=b"no profile" * 20)
        assert tuple(read_image(file.getvalue())[0, 0]) == (255, 0, 0)


def test_palettes_with_transparency_show_white():
    image = Image.new("P", (40, 30), 1)
    image.putpalette([0, 0, 0, 200, 30, 40])
    image.paste(0, (0, 0, 20, 30))
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    shown = read_image(file.getvalue())
    assert tuple(shown[5, 5]) == (255, 255, 255) and tuple(shown[5, 30]) == (200, 30, 40)


def test_avif_is_read():
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 40)).save(file, "AVIF", quality=95)
    shown = read_image(file.getvalue())
    assert (
        shown.shape == (48, 64, 3) and np.abs(shown[20, 20] - np.array([200.0, 30, 40])).max() < 6
    )


def box(kind: bytes, *parts: bytes, version: int | None = None) -> bytes:
    body = (b"" if version is None else bytes([version, 0, 0, 0])) + b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def heic(colour: tuple[int, int, int], size: tuple[int, int] = (64, 128), turns: int = 0) -> bytes:
    """A HEIC picture of one colour, as a telephone writes it; `turns`: quarters counter-clockwise."""
    encoder = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 128, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"x265-params": "log-level=none:repeat-headers=1:pools=1", "crf": "10"}
    pixels = np.broadcast_to(np.array(colour, np.uint8), (128, 64, 3)).copy()
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
        format="yuv420p", dst_color_range="JPEG"
    )
    frame.pts = 0
    data = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    nals = fragments.split_annex_b(data)
    headers = [nal for nal in nals if nal[0] >> 1 & 63 in (32, 33, 34)]
    picture = b"".join(struct.pack(">I", len(n)) + n for n in nals if n[0] >> 1 & 63 < 32)
    arrays = [bytes([0x80 | n[0] >> 1 & 63, 0, 1]) + struct.pack(">H", len(n)) + n for n in headers]
    start = bytes([1, 1]) + struct.pack(">I", 0x60000000) + bytes([0x90, 0, 0, 0, 0, 0, 90])
    config = start + bytes([0xF0, 0, 0xFC, 0xFD, 0xF8, 0xF8, 0, 0, 0x0F, len(arrays)])
    properties = [box(b"hvcC", config, *arrays), box(b"ispe", struct.pack(">II", *size), version=0)]
    properties += [box(b"irot", bytes([turns]))] if turns else []
    links = bytes(
        [len(properties), *(0x80 | i + 1 if i != 1 else 2 for i in range(len(properties)))]
    )
    front = box(b"ftyp", b"heic", bytes(4), b"mif1heic")

    def meta(offset: int) -> bytes:
        return box(
            b"meta",
            box(b"hdlr", bytes(4), b"pict", bytes(13), version=0),
            box(b"pitm", struct.pack(">H", 1), version=0),
            box(b"iloc", struct.pack(">HHHHHII", 0x4400, 1, 1, 0, 1, offset, len(picture)), version=0),
            box(b"iinf", struct.pack(">H", 1),
                box(b"infe", struct.pack(">HH", 1, 0), b"hvc1", b"\0", version=2), version=0),
            box(b"iprp", box(b"ipco", *properties),
                box(b"ipma", struct.pack(">IH", 1, 1), links, version=0)),
            version=0,
        )  # fmt: skip

    return front + meta(len(front) + len(meta(0)) + 8) + box(b"mdat", picture)


def test_pictures_of_telephones_are_read_upright():
    shown = read_image(heic((200, 60, 40)))
    assert shown.shape == (128, 64, 3)
    assert np.abs(shown.mean((0, 1)) - (200, 60, 40)).max() < 30
    assert read_image(heic((200, 60, 40), turns=1)).shape == (64, 128, 3)


def test_bad_telephone_pictures_get_one_sentence():
    with pytest.raises(ValueError, match="50 million"):
        read_image(heic((0, 0, 0), size=(9000, 6000)))
    with pytest.raises(ValueError, match="AVIF or HEIC"):
        read_image(heic((0, 0, 0))[:300])


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
        (claiming(9000, 6000), "50 million"),
        (claiming(30000, 30000), "50 million"),
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


def test_sound_becomes_24_khz_mono():
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    samples = read_audio(sound(tone))
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert abs(len(samples) - SAMPLE_RATE) <= 16
    assert np.abs(np.fft.rfft(samples)).argmax() == pytest.approx(440, abs=1)


def stereo(left: np.ndarray, right: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.stack([left, right], 1), 48_000, subtype="PCM_16", format="WAV")
    return file.getvalue()


def test_left_and_right_are_heard_whatever_they_are():
    """The same on both sides is as loud as mono and does not clip; opposite sides are no silence."""
    tone = 0.95 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)
    for left, right, loudness in ((tone, tone, 1), (tone, -tone, 1), (tone, 0 * tone, 0.5)):
        heard = read_audio(stereo(left, right))
        assert heard.std() == pytest.approx(loudness * tone.std(), rel=0.01)
        assert np.abs(heard).max() < 0.97
    center = [0.1 * tone, 0.1 * tone, tone, 0 * tone, 0 * tone, 0 * tone]
    file = io.BytesIO()
    soundfile.write(file, np.stack(center, 1), 48_000, subtype="PCM_16", format="WAV")
    assert 0.5 < read_audio(file.getvalue()).std() / tone.std() < 1
    file = io.BytesIO()
    soundfile.write(file, np.stack([tone] * 6, 1), 48_000, subtype="PCM_16", format="WAV")
    assert (np.abs(read_audio(file.getvalue())) > 0.999).mean() < 0.05, "it does not clip"
    with pytest.raises(ValueError, match="silent"):
        read_audio(stereo(0 * tone, 0 * tone))


def test_sound_is_taken_out_of_films(tmp_path):
    write_mp4(tmp_path / "film", flashes_and_beeps(2))
    assert len(read_audio(tmp_path / "film")) == pytest.approx(2 * SAMPLES, abs=700)


def float_wav(value: float) -> bytes:
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
