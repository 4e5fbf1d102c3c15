"""Comparisons without a browser; the checkpoint and the videos are real."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import portraits
import pytest

from mutual_forcing import AVChunk, GenerationRequest, StreamingGenerator, canvas
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.demo import (
    comparison,
    comparison_grid,
    comparison_metrics,
    comparison_tab,
    comparison_tracks,
    comparison_view,
)
from mutual_forcing.demo.comparison import ComparisonManager, VariantMetrics
from mutual_forcing.demo.comparison_metrics import (
    animated_square,
    lip_sync,
    measure_video,
    read_squares,
)
from mutual_forcing.demo.latency import LatencyModel
from mutual_forcing.demo.leaving import Departure
from mutual_forcing.demo.limits import Limits
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.media import read_image, write_mp4
from mutual_forcing.types import FaceCrop

FACE = Path(__file__).parents[1] / "examples" / "characters" / "01-blond-bob.png"
ROW = VariantMetrics(4, "Few", 4, 0.5, 2.0, 3.0, 0.25, 1.5, 2.0, -0.5)


@pytest.fixture(scope="module")
def generator(random_generator: StreamingGenerator) -> StreamingGenerator:
    return random_generator


@pytest.fixture(scope="module")
def request_() -> GenerationRequest:
    return GenerationRequest(read_image(FACE), "Hello there.", seconds=1.28, size=256)


@pytest.fixture(scope="module")
def compared(generator, request_):
    comparisons = ComparisonManager(SessionManager(generator))
    seen = list(comparisons.run("visitor", request_, [2, 1]))
    return comparisons, seen[-1], len(seen)


def test_every_variant_becomes_a_film_with_figures(compared):
    comparisons, run, messages = compared
    assert messages >= 4
    assert [variant.steps for variant in run.variants] == [1, 2], "in the order of the steps"
    for variant in run.variants:
        assert variant.state == "done" and variant.metrics is not None
        assert variant.metrics.nfe_per_chunk == variant.steps and variant.metrics.mode == "Few"
        assert variant.metrics.real_time > 0 and variant.metrics.first_chunk > 0
        assert variant.metrics.seconds == pytest.approx(1.28, abs=0.04)
        assert comparisons.sessions.videos._videos[variant.path.rsplit("/", 1)[1]].closed
    assert run.variants[0].video.read_bytes() != run.variants[1].video.read_bytes()


def test_the_same_request_gives_the_same_film(compared, generator, request_):
    _, run, _ = compared
    again = ComparisonManager(SessionManager(generator))
    other = list(again.run("x", request_, [1]))[-1].variants[0]
    frames, others = (read_squares(variant.video) for variant in (run.variants[0], other))
    assert np.array_equal(frames, others), "variants share the seed"


def test_the_grid_is_one_film_with_sound_and_metadata(compared, tmp_path):
    _, run, _ = compared
    path = tmp_path / "grid.mp4"
    comparison_grid.write_grid(path, run.finished, {"steps": [1, 2]})
    side = 256
    with av.open(str(path)) as film:
        assert (film.streams.video[0].width, film.streams.video[0].height) == (2 * side, side)
        assert film.streams.audio, "one variant is heard"
        settings = json.loads(film.metadata["comment"])
        pictures = [f.to_ndarray(format="rgb24") for f in film.decode(video=0)]
    assert settings["ai_generated"] and settings["steps"] == [1, 2]
    assert len(pictures) / 25 == pytest.approx(1.28, abs=0.08)
    first, second = pictures[10][60:, :side], pictures[10][60:, side:]
    assert first.std() > 5 and second.std() > 5, "both variants are there"
    label = pictures[10][12:26, 14:60].reshape(-1, 3)
    green = (label[:, 1].astype(int) > label[:, 0] + 40).mean()
    assert green > 0.3, "labelled in the mode's colour"
    with pytest.raises(ValueError, match="No variant"):
        comparison_grid.write_grid(path, [], {})


@pytest.fixture(scope="module")
def tall(generator, tmp_path_factory):
    """Two variants of a portrait film."""
    path = portraits.save(portraits.portrait(), tmp_path_factory.mktemp("tall") / "tall.png")
    values = (path, "Hi.", [1, 2], "happy", "calm", 0, 0, 0.64, 256, "whole", 1)
    job = comparison_tab._job(Limits(), "visitor", *values)
    comparisons = ComparisonManager(SessionManager(generator))
    return comparisons, list(comparisons.run(*job))[-1]


def test_variants_and_the_grid_keep_the_shape_of_a_portrait(tall, tmp_path):
    comparisons, run = tall
    for variant in run.variants:
        with av.open(str(variant.video)) as film:
            assert (film.streams.video[0].width, film.streams.video[0].height) == (256, 456)
    message = json.loads(comparison_view.player_message(run))
    assert message["ratio"] == pytest.approx(256 / 456, abs=0.001)
    with av.open(str(comparison_tab._grid_or_none(comparisons, run))) as film:
        assert (film.streams.video[0].width, film.streams.video[0].height) == (512, 456)
        settings = json.loads(film.metadata["comment"])
    assert (settings["size"], settings["framing"], settings["face"]) == (256, "whole", 1)


def test_a_grid_is_never_larger_than_a_film():
    for cells, size in ((2, (1920, 1080)), (6, (1080, 1080)), (4, (608, 1080)), (1, (256, 256))):
        width, height = comparison_grid.cell_size(*size, cells)
        assert cells * width * height <= comparison_grid.MAX_PIXELS
        assert width % 2 == height % 2 == 0 and width <= size[0]
        assert width / height == pytest.approx(size[0] / size[1], rel=0.01)
    assert comparison_grid.cell_size(512, 512, 4) == (512, 512), "small ones are not reduced"


@pytest.mark.parametrize("size", [256, 1080])
def test_the_judges_see_the_square_around_the_face_and_no_large_frames(tmp_path, size):
    image = portraits.two().repeat(2, 0).repeat(2, 1)
    crop = FaceCrop(1352, 530, 500, 0.1)
    request = GenerationRequest(image, "Hi.", crop=crop, size=size)
    still = canvas.prepare(image, crop, 512, "whole", size).reference_frame
    write_mp4(tmp_path / "still.mp4", [(np.stack([still] * 4), np.zeros(2560, np.float32))])
    frames = read_squares(tmp_path / "still.mp4", animated_square(request))
    assert frames.shape == (4, 128, 128, 3)
    seen = canvas.prepare(image, crop, 128).square.astype(int)
    apart = np.abs(frames[0] - seen).mean()
    moved = np.abs(frames[0] - np.roll(seen, 3, 1)).mean()
    assert apart < 8 and apart < moved / 1.5, (apart, moved)
    assert animated_square(replace(request, framing="face")) is None


def test_no_time_is_promised_for_what_would_be_refused(generator, request_):
    sessions = SessionManager(generator, Limits(seconds=5))
    sessions.latency = LatencyModel(base=0.1, few_step=0.05, guided_step=0.1, overhead=0.2)
    seconds = comparison.expected_seconds(sessions, request_, [1, 4])
    assert seconds == pytest.approx(2 * (0.1 + 0.05 + 0.1 + 0.2) + 2 * 0.2)
    long = replace(request_, text="One two three four five six seven. " * 5, seconds=None)
    for refused in (long, replace(request_, seconds=9.0)):
        with pytest.raises(ValueError, match="longer than 5 seconds"):
            comparison.expected_seconds(sessions, refused, [1, 4])
        with pytest.raises(ValueError, match="longer than 5 seconds"):
            list(ComparisonManager(sessions).run("visitor", refused, [1]))


def test_grids_are_as_square_as_they_can_be():
    assert [comparison_grid.grid_columns(n) for n in range(1, 7)] == [1, 2, 3, 2, 3, 3]


@pytest.mark.slow
def test_stop_keeps_the_finished_variants(generator, request_):
    comparisons = ComparisonManager(SessionManager(generator))
    long = replace(request_, seconds=5.0)
    stream = comparisons.run("visitor", long, [1, 2, 3])
    for run in stream:
        if run.metrics and run.variants[1].made:
            comparisons.stop("visitor")
    states = [variant.state for variant in run.variants]
    assert states == ["done", "stopped", "waiting"]
    assert [row.steps for row in run.metrics] == [1]
    assert run.variants[0].video.is_file()
    comparisons.forget("visitor")
    assert not run.folder.exists(), "nothing is left behind"


def test_stop_is_obeyed_before_there_is_a_stream(generator, request_):
    comparisons = ComparisonManager(SessionManager(generator))
    stream = comparisons.run("visitor", replace(request_, seconds=12.8), [1])
    next(stream)
    comparisons.stop("visitor")
    variant = list(stream)[-1].variants[0]
    assert variant.state == "stopped" and variant.made < 6


def interrupted(generator, request_, monkeypatch, name: str):
    """A comparison whose manager's method `name` is called while the first variant's words are heard: the
    manager, the run at its end and the lengths of sound that were heard.
    """
    comparisons = ComparisonManager(SessionManager(generator))
    stretches = []

    def hear(audio: np.ndarray) -> str:
        stretches.append(len(audio))
        getattr(comparisons, name)("visitor")
        return ""

    monkeypatch.setattr(comparison_metrics, "_STRETCH_SECONDS", (0.4, 0.6))
    monkeypatch.setattr("mutual_forcing.metrics.words.transcribe", hear)
    run = list(comparisons.run("visitor", request_, [1, 2]))[-1]
    assert [variant.state for variant in run.variants] == ["stopped", "waiting"]
    return comparisons, run, stretches


def test_measuring_ends_with_who_waits_for_it(generator, request_, monkeypatch):
    """A minute of film takes ten seconds to measure; whoever has left waits for none of them."""
    _, run, stretches = interrupted(generator, request_, monkeypatch, "forget")
    assert len(stretches) == 1 and max(stretches) <= 0.6 * SAMPLE_RATE
    assert not run.folder.exists(), "nothing is left behind"


def test_stop_during_measuring_leaves_nothing_of_the_variant(generator, request_, monkeypatch):
    comparisons, run, _ = interrupted(generator, request_, monkeypatch, "stop")
    assert not list(run.folder.iterdir())
    assert comparisons.sessions.session_of("visitor/compare") is None


class FailsWithTwoSteps(StreamingGenerator):
    """A generator that fails at the second chunk of two steps."""

    def stream(self, request=None, state=None) -> Iterator[AVChunk]:
        for chunk in super().stream(request, state):
            if chunk.index == 1 and chunk.nfe == 2:
                raise RuntimeError("CUDA out of memory.")
            yield chunk


@pytest.mark.slow
def test_a_failure_keeps_the_finished_variants_and_the_film_says_so(generator, request_):
    comparisons = ComparisonManager(
        SessionManager(FailsWithTwoSteps(generator.system, generator.device))
    )
    job = comparison_tab._Job("api", request_, [1, 2, 4])
    run = comparison_tab._run_to_end(comparisons, job, Departure())
    assert [variant.state for variant in run.variants] == ["done", "stopped", "waiting"]
    assert run.problem == "The machine ran out of memory."
    with av.open(str(comparison_tab._grid_or_none(comparisons, run))) as film:
        settings = json.loads(film.metadata["comment"])
    assert settings["steps"] == [1] and settings["ended_early"] == run.problem
    comparisons.sessions.close()


def test_without_ffmpeg_the_figures_are_still_there(compared, monkeypatch):
    def refuse(*_, **__) -> None:
        raise OSError("no ffmpeg")

    comparisons, run, _ = compared
    monkeypatch.setattr(comparison_tab, "write_grid", refuse)
    assert comparison_tab._grid_or_none(comparisons, run) is None
    monkeypatch.setenv("FFMPEG_BINARY", "/nowhere/ffmpeg")
    assert comparison_grid.ffmpeg_problem().startswith("ffmpeg is missing")
    monkeypatch.delenv("FFMPEG_BINARY")
    assert comparison_grid.ffmpeg_problem() == ""


@pytest.mark.slow
def test_files_of_callers_who_never_leave_are_removed(generator, request_, monkeypatch):
    monkeypatch.setattr(comparison, "_MAX_RUNS", 2)
    comparisons = ComparisonManager(SessionManager(generator))
    short = replace(request_, seconds=0.64)
    made = [list(comparisons.run(f"caller-{n}", short, [1]))[-1] for n in range(3)]
    assert [c.folder.exists() for c in made] == [False, True, True]
    watched = [
        c.variants[0].path.rsplit("/", 1)[1] in comparisons.sessions.videos._videos for c in made
    ]
    assert watched == [False, True, True]
    comparisons.sessions.close()
    assert not any(c.folder.parent.exists() for c in made) and not comparisons._runs.items()


def test_work_is_bounded_over_all_variants(generator, request_):
    sessions = SessionManager(generator, Limits(minutes=1))
    sessions.latency = LatencyModel(base=5.0, few_step=1.0, guided_step=2.0, overhead=0.0)
    with pytest.raises(ValueError, match="about 2 minutes here"):
        list(ComparisonManager(sessions).run("visitor", replace(request_, seconds=6.4), [1, 4]))
    comparisons = ComparisonManager(SessionManager(generator, Limits(minutes=1e-6)))
    run = list(comparisons.run("visitor", replace(request_, seconds=6.4), [1, 2]))[-1]
    assert [variant.state for variant in run.variants] == ["stopped", "waiting"]
    assert "minutes of work" in run.problem


@pytest.mark.parametrize(
    "steps", [[], [1, 2, 3, 4, 5, 6, 7], [0], [51], [2.5], ["many"], [float("nan")], None]
)
def test_wrong_step_counts_get_one_sentence(steps):
    with pytest.raises(ValueError, match=r"^(Choose|Each|The step)[^\n]+\.$"):
        comparison.step_counts(steps)
    assert comparison.step_counts([8, "1", 8.0]) == [1, 8]


def test_the_numbers_as_csv_keep_unknown_figures_empty():
    text = comparison.to_csv([ROW, replace(ROW, steps=16, mode="Multi", word_errors=None)])
    first, second = csv.DictReader(io.StringIO(text))
    assert first["steps"] == "4" and float(first["word_errors"]) == 0.25
    assert second["mode"] == "Multi" and second["word_errors"] == ""


def test_columns_without_figures_are_left_out():
    assert "Words missed" in comparison_view.table_html([ROW])
    assert "25 %" in comparison_view.table_html([ROW])
    assert "Words missed" not in comparison_view.table_html([replace(ROW, word_errors=None)])


def test_plots_place_every_variant_and_their_order_is_right():
    slow = replace(ROW, steps=16, mode="Multi", nfe_per_chunk=32, real_time=0.5)
    plot = comparison_view.plots_html([ROW, slow])
    assert plot.count("<svg") == 2 and plot.count('class="multi"') == 2
    (x1, y1), (x2, y2) = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', plot)[:2]
    assert float(x1) < float(x2) and float(y1) > float(y2), "more NFE right, slower above"
    assert comparison_view.plots_html([ROW]) == ""


def test_lip_sync_has_its_column_and_its_plot():
    rows = [replace(ROW, lip_sync=0.2), replace(ROW, steps=8, nfe_per_chunk=8, lip_sync=-0.01)]
    assert "Lip sync" in comparison_view.table_html(rows)
    assert "Lip sync" not in comparison_view.table_html([ROW])
    plot = comparison_view.plots_html(rows)
    assert plot.count("<svg") == 3 and "8: 0.00" in plot


def test_frozen_lips_are_in_sync_with_nothing_and_short_films_with_none():
    sound = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE * 2).astype(np.float32)
    frozen = np.full((50, 64, 64, 3), 90, np.uint8)
    assert lip_sync(frozen, sound) == 0.0
    assert lip_sync(frozen[:20], sound) is None


def test_a_word_that_is_not_heard_costs(compared):
    _, run, _ = compared
    film = run.variants[0].video
    measured = measure_video(film, ["unspeakable", "elephants", "—"])
    assert measured.figures["word_errors"] >= 0.5
    assert [word for word, _ in measured.heard] == ["unspeakable", "elephants", "—"]
    assert not all(heard for _, heard in measured.heard)
    shown = comparison_tracks.tracks_html([replace(run.variants[0], heard=measured.heard)])
    assert "<s>elephants</s>" in shown
    for words in ([], ["こんにちは"]):
        unheard = measure_video(film, words)
        assert "word_errors" not in unheard.figures and unheard.heard == ()


def test_japanese_is_compared_without_a_recogniser_of_english(generator, request_):
    japanese = replace(request_, text="AIの声です。", seconds=0.64)
    run = list(ComparisonManager(SessionManager(generator)).run("x", japanese, [1]))[-1]
    assert run.variants[0].state == "done" and run.metrics[0].word_errors is None
    assert run.variants[0].heard == () and "mf-heard" not in comparison_tracks.tracks_html(
        run.finished
    )


def test_tracks_lie_over_each_other_and_break_where_there_is_no_voice(compared):
    _, run, _ = compared
    tracks = run.variants[0].tracks
    pitch = np.array([100, 200, np.nan, 150], np.float32)
    empty = np.full(4, np.nan, np.float32)
    drawn = replace(tracks, pitch=pitch, mouth=empty, turn=empty, nod=empty)
    variants = [replace(run.variants[0], tracks=drawn, heard=())] * 2
    shown = comparison_tracks.tracks_html(variants)
    assert shown.count("<svg") == 1, "a film without a face has no other track"
    assert shown.count('d="M0.0 70.0h0L225.0 0.0M675.0 35.0h0"') == 2
    assert "200 Hz" in shown and "100 Hz" in shown and 'data-seconds="0.32"' in shown
    assert comparison_tracks.tracks_html([]) == ""
