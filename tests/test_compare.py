"""Comparing step counts, without a browser; the checkpoint and the films are real."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import portraits
import pytest

from demo import compare, compare_grid, compare_tab, compare_view
from demo.compare import Bench, Row
from demo.limits import Limits
from demo.pace import Pace
from demo.studio import Studio
from mutual_forcing import AVChunk, GenerationRequest, StreamingGenerator, canvas
from mutual_forcing.checkpoint import PRETRAINED
from mutual_forcing.media import read_image, write_mp4
from mutual_forcing.types import FaceCrop

FACE = Path(__file__).parents[1] / "examples" / "characters" / "01-blond-bob.png"
ROW = Row(4, "Few", 4, 0.5, 2.0, 3.0, 0.25, 1.5, 2.0, -0.5)


@pytest.fixture(scope="module")
def generator() -> StreamingGenerator:
    if (PRETRAINED / "tiny" / "config.json").is_file():
        return StreamingGenerator.from_pretrained("tiny", device="cpu")
    return StreamingGenerator.random("tiny")


@pytest.fixture(scope="module")
def request_() -> GenerationRequest:
    return GenerationRequest(read_image(FACE), "Hello there.", seconds=1.28)


@pytest.fixture(scope="module")
def compared(generator, request_):
    bench = Bench(Studio(generator))
    seen = list(bench.run("visitor", request_, [2, 1]))
    return bench, seen[-1], len(seen)


def test_every_lane_becomes_a_film_with_figures(compared):
    bench, comparison, messages = compared
    assert messages >= 4
    assert [lane.steps for lane in comparison.lanes] == [1, 2], "in the order of the steps"
    for lane in comparison.lanes:
        assert lane.state == "done" and lane.row is not None
        assert lane.row.nfe_per_chunk == lane.steps and lane.row.mode == "Few"
        assert lane.row.real_time > 0 and lane.row.first_chunk > 0
        assert lane.row.seconds == pytest.approx(1.28, abs=0.04)
        assert bench.studio.shelf._films[lane.path.rsplit("/", 1)[1]].closed
    assert comparison.lanes[0].film.read_bytes() != comparison.lanes[1].film.read_bytes()


def test_the_same_request_gives_the_same_film(compared, generator, request_):
    _, comparison, _ = compared
    again = Bench(Studio(generator))
    other = list(again.run("x", request_, [1]))[-1].lanes[0]
    assert np.array_equal(compare._frames(other.film), compare._frames(comparison.lanes[0].film)), (
        "lanes share the seed"
    )


def test_the_grid_is_one_film_with_sound_and_metadata(compared, tmp_path):
    _, comparison, _ = compared
    path = tmp_path / "grid.mp4"
    compare_grid.write_grid(path, comparison.finished, {"steps": [1, 2]})
    side = 512
    with av.open(str(path)) as film:
        assert (film.streams.video[0].width, film.streams.video[0].height) == (2 * side, side)
        assert film.streams.audio, "one lane is heard"
        settings = json.loads(film.metadata["comment"])
        pictures = [f.to_ndarray(format="rgb24") for f in film.decode(video=0)]
    assert settings["ai_generated"] and settings["steps"] == [1, 2]
    assert len(pictures) / 25 == pytest.approx(1.28, abs=0.08)
    first, second = pictures[10][60:, :side], pictures[10][60:, side:]
    assert first.std() > 5 and second.std() > 5, "both lanes are there"
    label = pictures[10][12:26, 14:60].reshape(-1, 3)
    green = (label[:, 1].astype(int) > label[:, 0] + 40).mean()
    assert green > 0.3, "labelled in the mode's colour"
    with pytest.raises(ValueError, match="No lane"):
        compare_grid.write_grid(path, [], {})


@pytest.fixture(scope="module")
def tall(generator, tmp_path_factory):
    """Two lanes of a portrait film."""
    path = portraits.save(portraits.portrait(), tmp_path_factory.mktemp("tall") / "tall.png")
    values = (path, "Hi.", [1, 2], "happy", "calm", 0, 0, 0.64, 256, "whole", 1)
    request, counts, face = compare_tab._asked(Limits(), *values)
    bench = Bench(Studio(generator))
    return bench, list(bench.run("visitor", request, counts, face))[-1]


def test_lanes_and_the_grid_keep_the_shape_of_a_portrait(tall, tmp_path):
    bench, comparison = tall
    for lane in comparison.lanes:
        with av.open(str(lane.film)) as film:
            assert (film.streams.video[0].width, film.streams.video[0].height) == (256, 456)
    message = json.loads(compare_view.player_message(comparison))
    assert message["ratio"] == pytest.approx(256 / 456, abs=0.001)
    with av.open(str(compare_tab._grid_or_none(bench, comparison))) as film:
        assert (film.streams.video[0].width, film.streams.video[0].height) == (512, 456)
        settings = json.loads(film.metadata["comment"])
    assert (settings["size"], settings["framing"], settings["face"]) == (256, "whole", 1)


def test_a_grid_is_never_larger_than_a_film():
    for cells, size in ((2, (1920, 1080)), (6, (1080, 1080)), (4, (608, 1080)), (1, (256, 256))):
        width, height = compare_grid.cell_size(*size, cells)
        assert cells * width * height <= compare_grid.MOST_PIXELS
        assert width % 2 == height % 2 == 0 and width <= size[0]
        assert width / height == pytest.approx(size[0] / size[1], rel=0.01)
    assert compare_grid.cell_size(512, 512, 4) == (512, 512), "small ones are not reduced"


@pytest.mark.parametrize("size", [256, 1080])
def test_the_judges_see_the_square_around_the_face_and_no_large_frames(tmp_path, size):
    image = portraits.two().repeat(2, 0).repeat(2, 1)
    crop = FaceCrop(1352, 530, 500, 0.1)
    request = GenerationRequest(image, "Hi.", crop=crop, size=size)
    still = canvas.prepare(image, crop, 512, "whole", size).still
    write_mp4(tmp_path / "still.mp4", [(np.stack([still] * 4), np.zeros(2560, np.float32))])
    frames = compare._frames(tmp_path / "still.mp4", compare.square_in_film(request))
    assert frames.shape == (4, 128, 128, 3)
    seen = canvas.prepare(image, crop, 128).square.astype(int)
    apart = np.abs(frames[0] - seen).mean()
    moved = np.abs(frames[0] - np.roll(seen, 3, 1)).mean()
    assert apart < 8 and apart < moved / 1.5, (apart, moved)
    assert compare.square_in_film(replace(request, framing="face")) is None


def test_no_time_is_promised_for_what_would_be_refused(generator, request_):
    studio = Studio(generator, Limits(seconds=5))
    studio.pace = Pace(base=0.1, few_step=0.05, guided_step=0.1, overhead=0.2)
    seconds = compare.expected_seconds(studio, request_, [1, 4])
    assert seconds == pytest.approx(2 * (0.1 + 0.05 + 0.1 + 0.2) + 2 * 0.2)
    long = replace(request_, text="One two three four five six seven. " * 5, seconds=None)
    for refused in (long, replace(request_, seconds=9.0)):
        with pytest.raises(ValueError, match="longer than 5 seconds"):
            compare.expected_seconds(studio, refused, [1, 4])
        with pytest.raises(ValueError, match="longer than 5 seconds"):
            list(Bench(studio).run("visitor", refused, [1]))


def test_grids_are_as_square_as_they_can_be():
    assert [compare_grid.grid_columns(n) for n in range(1, 7)] == [1, 2, 3, 2, 3, 3]


def test_stop_keeps_the_finished_lanes(generator, request_):
    bench = Bench(Studio(generator))
    long = replace(request_, seconds=5.0)
    stream = bench.run("visitor", long, [1, 2, 3])
    for comparison in stream:
        if comparison.rows and comparison.lanes[1].made:
            bench.stop("visitor")
    states = [lane.state for lane in comparison.lanes]
    assert states == ["done", "stopped", "waiting"]
    assert [row.steps for row in comparison.rows] == [1]
    assert comparison.lanes[0].film.is_file()
    bench.forget("visitor")
    assert not comparison.folder.exists(), "nothing is left behind"


def test_stop_is_obeyed_before_there_is_a_stream(generator, request_):
    bench = Bench(Studio(generator))
    stream = bench.run("visitor", replace(request_, seconds=12.8), [1])
    next(stream)
    bench.stop("visitor")
    lane = list(stream)[-1].lanes[0]
    assert lane.state == "stopped" and lane.made < 6


class Failing(StreamingGenerator):
    """A generator that fails at the second chunk of two steps."""

    def stream(self, request=None, state=None) -> Iterator[AVChunk]:
        for chunk in super().stream(request, state):
            if chunk.index == 1 and chunk.nfe == 2:
                raise RuntimeError("CUDA out of memory.")
            yield chunk


def test_a_failure_keeps_the_finished_lanes_and_the_film_says_so(generator, request_):
    bench = Bench(Studio(Failing(generator.system, generator.device)))
    comparison = compare_tab._finished(bench, "api", request_, [1, 2, 4])
    assert [lane.state for lane in comparison.lanes] == ["done", "stopped", "waiting"]
    assert comparison.problem == "The machine ran out of memory."
    with av.open(str(compare_tab._grid_or_none(bench, comparison))) as film:
        settings = json.loads(film.metadata["comment"])
    assert settings["steps"] == [1] and settings["ended_early"] == comparison.problem
    bench.studio.close()


def test_without_ffmpeg_the_figures_are_still_there(compared, monkeypatch):
    def refuse(*_, **__) -> None:
        raise OSError("no ffmpeg")

    bench, comparison, _ = compared
    monkeypatch.setattr(compare_tab, "write_grid", refuse)
    assert compare_tab._grid_or_none(bench, comparison) is None
    monkeypatch.setenv("FFMPEG_BINARY", "/nowhere/ffmpeg")
    assert compare_grid.film_maker_problem().startswith("ffmpeg is missing")
    monkeypatch.delenv("FFMPEG_BINARY")
    assert compare_grid.film_maker_problem() == ""


def test_files_of_callers_who_never_leave_are_removed(generator, request_, monkeypatch):
    monkeypatch.setattr(compare, "_KEEP", 2)
    bench = Bench(Studio(generator))
    short = replace(request_, seconds=0.64)
    made = [list(bench.run(f"caller-{n}", short, [1]))[-1] for n in range(3)]
    assert [c.folder.exists() for c in made] == [False, True, True]
    watched = [c.lanes[0].path.rsplit("/", 1)[1] in bench.studio.shelf._films for c in made]
    assert watched == [False, True, True]
    bench.studio.close()
    assert not any(c.folder.parent.exists() for c in made) and not bench._comparisons


def test_work_is_bounded_over_all_lanes(generator, request_):
    studio = Studio(generator, Limits(minutes=1))
    studio.pace = Pace(base=5.0, few_step=1.0, guided_step=2.0, overhead=0.0)
    with pytest.raises(ValueError, match="about 2 minutes here"):
        list(Bench(studio).run("visitor", replace(request_, seconds=6.4), [1, 4]))
    bench = Bench(Studio(generator, Limits(minutes=1e-6)))
    comparison = list(bench.run("visitor", replace(request_, seconds=6.4), [1, 2]))[-1]
    assert [lane.state for lane in comparison.lanes] == ["stopped", "waiting"]
    assert "minutes of work" in comparison.problem


@pytest.mark.parametrize(
    "steps", [[], [1, 2, 3, 4, 5, 6, 7], [0], [51], [2.5], ["many"], [float("nan")], None]
)
def test_wrong_step_counts_get_one_sentence(steps):
    with pytest.raises(ValueError, match=r"^(Choose|Each|The step)[^\n]+\.$"):
        compare.step_counts(steps)
    assert compare.step_counts([8, "1", 8.0]) == [1, 8]


def test_the_numbers_as_csv_keep_unknown_figures_empty():
    text = compare.to_csv([ROW, replace(ROW, steps=16, mode="Multi", word_errors=None)])
    first, second = csv.DictReader(io.StringIO(text))
    assert first["steps"] == "4" and float(first["word_errors"]) == 0.25
    assert second["mode"] == "Multi" and second["word_errors"] == ""


def test_columns_without_figures_are_left_out():
    assert "Words missed" in compare_view.table_html([ROW])
    assert "25 %" in compare_view.table_html([ROW])
    assert "Words missed" not in compare_view.table_html([replace(ROW, word_errors=None)])


def test_plots_place_every_lane_and_their_order_is_right():
    slow = replace(ROW, steps=16, mode="Multi", nfe_per_chunk=32, real_time=0.5)
    plot = compare_view.plots_html([ROW, slow])
    assert plot.count("<svg") == 2 and plot.count('class="multi"') == 2
    (x1, y1), (x2, y2) = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', plot)[:2]
    assert float(x1) < float(x2) and float(y1) > float(y2), "more NFE right, slower above"
    assert compare_view.plots_html([ROW]) == ""


def test_lip_sync_has_its_column_and_its_plot():
    rows = [replace(ROW, lip_sync=0.2), replace(ROW, steps=8, nfe_per_chunk=8, lip_sync=-0.01)]
    assert "Lip sync" in compare_view.table_html(rows)
    assert "Lip sync" not in compare_view.table_html([ROW])
    plot = compare_view.plots_html(rows)
    assert plot.count("<svg") == 3 and "8: 0.00" in plot


def test_frozen_lips_are_in_sync_with_nothing_and_short_films_with_none():
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000 * 2).astype(np.float32)
    frozen = np.full((50, 64, 64, 3), 90, np.uint8)
    assert compare._lip_sync(frozen, sound) == 0.0
    assert compare._lip_sync(frozen[:20], sound) is None


def test_a_space_without_the_evaluation_leaves_its_figures_out(compared, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "training"]:
        monkeypatch.delitem(sys.modules, name)
    elsewhere = [p for p in sys.path if not (Path(p or ".") / "training").is_dir()]
    monkeypatch.setattr(sys, "path", elsewhere)
    _, comparison, _ = compared
    assert compare.judge(comparison.lanes[0].film, ["hello"]) == {}


def test_a_word_that_is_not_heard_costs(compared):
    _, comparison, _ = compared
    film = comparison.lanes[0].film
    assert compare.judge(film, ["unspeakable", "elephants"])["word_errors"] >= 0.5
    assert "word_errors" not in compare.judge(film, [])
