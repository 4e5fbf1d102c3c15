"""The evaluation suite: the same seed gives the same table, and damage is caught by whom it should."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mutual_forcing import StreamingGenerator
from mutual_forcing.checkpoint import PRETRAINED
from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.metrics import frechet
from mutual_forcing.metrics.words import normalise
from training.data.dataset import Corpus
from training.data.synthesize import SECONDS_PER_CLIP, CorpusOptions
from training.evaluate import evaluate, options_of, suite_of
from training.evaluation import film, plots
from training.evaluation.heldout import (
    CLIPS,
    Choice,
    heldout_corpus,
    identities,
    split_warning,
)
from training.evaluation.judge import ENDS, Judge
from training.evaluation.long import mean, write_script, write_scripts
from training.evaluation.memory import peak_of
from training.evaluation.results import Results, write
from training.evaluation.suites import SUITES, Suite, pool
from training.evaluation.systems import (
    ClipSample,
    MeasuredSystem,
    Setting,
    generate,
    request_for,
    truth,
)
from training.recipes import SCALES

SMALL = Suite(
    clips=2, multi_clips=1, slow_clips=1, steps=("1", "m2"), long_seconds=5.12, long_steps=("1",),
    controls=1, diversity=1, seeds=2, reference=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def judge(corpus_folder: Path) -> Judge:
    return Judge(Corpus(corpus_folder))


@pytest.fixture(scope="module")
def served(served_generator: StreamingGenerator) -> StreamingGenerator:
    return served_generator


@pytest.fixture(scope="module")
def hushed(random_generator: StreamingGenerator) -> StreamingGenerator:
    """Random weights whose sound nobody hears: noise takes the recogniser four times as long as speech, and
    it finds no words in it.
    """
    generator = copy.deepcopy(random_generator)
    codec = generator.system.audio_codec
    decode = codec.decode

    def quietly(latents: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        sound, state = decode(latents, state)
        return sound * 1e-4, state

    codec.decode = quietly
    return generator


def test_the_same_seed_gives_the_same_table(
    judge: Judge, hushed: StreamingGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the truth and of what is driven by it, the words are heard."""
    generators = {"": hushed}
    evaluate(SMALL, judge, generators, tmp_path / "first", seed=3)
    kept = {path: path.read_bytes() for path in (tmp_path / "first/rows").glob("*.json*")}
    for name in ("quality", "drift", "chunk_time"):  # drawn once
        monkeypatch.setattr(plots, name, lambda *_: None)
    monkeypatch.setattr(film, "grid", lambda *_: None)
    evaluate(SMALL, judge, generators, tmp_path / "first", seed=3)
    assert kept == {path: path.read_bytes() for path in kept}, "kept rows are not made again"
    evaluate(SMALL, judge, generators, tmp_path / "second", seed=3)
    for name in ("results.json", "results.md"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    for name in ("quality.png", "drift.png", "chunk_time.png", "grid.mp4", "timings.json"):
        assert (tmp_path / "first" / name).stat().st_size > 100, name
    found = json.loads((tmp_path / "first/results.json").read_text())
    assert list(found["systems"]) == [
        "ground truth", "still reference", "autoencoders", "true motion", "few 1", "multi 2",
        "predicted times, few 1", "wrong words, few 1", "wrong picture, few 1", "driven, few 1",
    ]  # fmt: skip
    assert found["systems"]["multi 2"]["nfe_per_chunk"] == 4, "a guided step evaluates twice"
    assert list(found["differences"]) == [
        "few 1 minus multi 2", "predicted times, few 1 minus few 1",
        "wrong words, few 1 minus few 1", "wrong picture, few 1 minus few 1",
    ]  # fmt: skip
    assert found["systems"]["still reference"]["wer"] == [1, 1, 1]
    assert found["systems"]["driven, few 1"]["wer"][0] < 1, "the given sound is heard"
    assert found["distances"]["ground truth"]["video_random"]["distance"][0] == pytest.approx(
        found["distances"]["ground truth"]["video_random"]["floor"], abs=1e-3
    )
    assert set(found["streams"]) == {"ground truth", "few 1"}
    real, noise = (found["streams"][name]["0-5 s"] for name in ("ground truth", "few 1"))
    branches = hushed.config.model
    for name, branch in (("video", branches.video), ("audio", branches.audio)):
        assert len(real["channels"][name]["means"]) == branch.token_dim
    assert real["video_spread"] > 0 and real["video_shift"] != noise["video_shift"]
    real = found["systems"]["ground truth"]
    assert real["wer_closed"][0] <= real["wer"][0], "fewer words to choose from are easier"
    assert found["systems"]["still reference"]["wer_closed"] == [1, 1, 1]
    told = (tmp_path / "first/results.json").read_text().split('"notes"')[0]
    assert "time" not in told.replace("predicted times", ""), "the clock is no figure"


def test_few_mode_is_paired_with_the_slowest_multi_mode() -> None:
    row = {"index": 1, "errors": 1, "closed_errors": 1, "words": 2}
    row |= dict.fromkeys(("mouth", "sync", "similarity"), 0.5)
    nfe = {"few 4": 4, "few 4 before": 4, "multi 50": 100, "multi 16": 32, "multi 50 before": 100}
    found = Results([MeasuredSystem(name, truth, n, "", ()) for name, n in nfe.items()], "notes")
    found.rows = {"few 4": [(row, {})]}
    assert not found.differences()
    found.rows = {name: [(row, {})] for name in nfe}
    assert list(found.differences()) == [
        "few 4 minus multi 50", "few 4 minus few 4 before", "multi 50 minus multi 50 before",
    ]  # fmt: skip


def test_the_end_of_a_stream_is_held_against_its_beginning(tmp_path: Path) -> None:
    first = {"similarity": 0.9, "colour": 100.0, "mouth": 0.5, "sync": -0.1, "loudness": 0.1}
    last = {"similarity": 0.45, "colour": 105.0, "mouth": 0.6, "sync": 0.2, "loudness": 0.1}
    found = Results([], "notes")
    found.streams = {"few 4": {ENDS[0]: first, ENDS[1]: last}, "short": {"0-5 s": first}}
    assert found.steadiness() == {
        "few 4": {
            "similarity": -0.5, "colour": 0.05, "mouth": 0.2, "sync": None, "loudness": 0.0
        }
    }  # fmt: skip
    found.streams["few 4"][ENDS[0]] = {**first, "similarity": None}
    assert found.steadiness()["few 4"]["similarity"] is None, "the truth has no one character"
    found.streams = {}
    assert "The end of a long stream" not in write(found, tmp_path)


@pytest.mark.slow
def test_memory_is_that_of_a_process_that_only_streams() -> None:
    held = np.ones(2**27)  # 1 GiB of this process is not of the other
    assert 0.2 < peak_of(PRETRAINED / "tiny", "1") < held.nbytes / 2**30


def test_a_long_script_says_the_same_at_both_ends(judge: Judge) -> None:
    clips = pool(judge)
    script = write_script(clips, 60)
    assert 60 <= script.seconds < 80 and 10 <= script.opening < 20
    count = round(script.opening * FPS)
    assert np.array_equal(script.visemes[:count], script.visemes[-count:])
    words, begin = script.transcript.words, script.seconds - script.opening
    first = [word.word for word in words if word.end <= script.opening]
    assert first == [word.word for word in words if word.start >= begin - 1e-6]
    assert write_script(clips, 15).seconds == 15 and write_script(clips, 15).opening == 0
    short = write_script(clips, 5, opening=2)
    assert short.clips[0] is short.clips[-1] and 2 <= short.opening <= short.seconds / 2
    starts = [other.clips[0] for other in write_scripts(clips, 60, len(clips))]
    assert starts == clips


def test_streams_are_averaged() -> None:
    one = {"sync": 1.0, "similarity": None, "channels": {"video": [1.0, 2.0]}}
    two = {"sync": 2.0, "similarity": 0.5, "channels": {"video": [3.0, 2.0]}}
    expected = {"sync": 1.5, "similarity": None, "channels": {"video": [2.0, 2.0]}}
    assert mean([one, two]) == expected and mean([None, None]) is None
    assert mean([{**one, "60-70 s": 1.0}, two]) == expected, "a stretch that only one has"


def test_a_corpus_that_is_split_otherwise_is_told(judge: Judge, tmp_path: Path) -> None:
    told = json.loads((judge.corpus.clips[0].root / "corpus.json").read_text(encoding="utf-8"))
    path = tmp_path / "record.json"
    for seed, warns in ((told["options"]["seed"], False), (99, True)):
        options = {**told["options"], "seed": seed}
        path.write_text(json.dumps({"corpus": {"options": options}}), encoding="utf-8")
        warning = split_warning(judge.corpus, tmp_path)
        assert ("seed 76 instead of 99" in warning) == warns == bool(warning)
    path.write_text("{}", encoding="utf-8")
    assert split_warning(judge.corpus, tmp_path) == split_warning(judge.corpus, None) == ""


@pytest.mark.parametrize("source", ["truth", "served"])
def test_damage_is_caught(judge: Judge, served: StreamingGenerator, source: str) -> None:
    clips = judge.corpus.split("test")
    setting = Setting(4, "few")
    made = {
        clip.index: truth(clip)
        if source == "truth"
        else generate(served, request_for(judge.corpus, clip, setting, 0), setting)
        for clip in clips
    }
    for clip in clips:
        real = made[clip.index]
        good, _ = judge.measure(clip, real)

        frozen, _ = judge.measure(
            clip, ClipSample(real.frames[:1].repeat(len(real.frames), 0), real.audio)
        )
        assert frozen["motion"] == 0 < good["motion"]
        assert frozen["mouth"] == 0 and good["mouth"] > 0.5
        assert frozen["sync"] == 0

        silent, _ = judge.measure(clip, ClipSample(real.frames, np.zeros_like(real.audio)))
        assert silent["silence"] == 1 > good["silence"]
        assert silent["errors"] == silent["words"]

    late = [np.roll(made[clip.index].audio, 5 * SAMPLE_RATE // FPS) for clip in clips]
    rows = [
        (
            judge.measure(c, made[c.index])[0],
            judge.measure(c, ClipSample(made[c.index].frames, a))[0],
        )
        for c, a in zip(clips, late, strict=True)
    ]
    shift = [[np.median(row["onsets"]) for row in pair if row["onsets"]] for pair in rows]
    moved = [pair[1] - pair[0] for pair in shift if len(pair) == 2]
    assert moved and np.median(moved) == pytest.approx(200, abs=60), "words come 5 frames late"
    margins = np.array([[row["sync"] for row in pair] for pair in rows])
    assert margins[:, 0].mean() > margins[:, 1].mean(), "lips and sound do not belong together"
    lags = np.median([[row["sync_lag"] for row in pair] for pair in rows], 0)
    # One of the two films that are made has a margin of 0.05 at lag 0, and as much at -1; and the judge
    # learnt from lips that were half a frame earlier than the corpus's are now.
    assert np.abs(lags - [0, -5]).max() <= 0.5, "the sound is 5 frames late"


def test_noise_in_the_weights_is_caught(judge: Judge, served: StreamingGenerator) -> None:
    """By its sound first; lips hold out longer."""
    clip, setting = judge.corpus.split("test")[0], Setting(4, "few")
    request = request_for(judge.corpus, clip, setting, 0)
    good, found = judge.measure(clip, generate(served, request, setting))
    _, real = judge.measure(clip, truth(clip))
    for deviations, further in ((0.7, 1.1), (1.0, 1.2)):
        spoiled = copy.deepcopy(served)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in spoiled.system.model.parameters():
                noise = deviations * torch.randn(weight.shape, generator=generator)
                weight.add_(noise * weight.std() if weight.numel() > 1 else noise)
        bad, lost = judge.measure(clip, generate(spoiled, request, setting))
        for name in ("audio_random", "audio_sync"):
            before, after = (frechet.distance(f[name], real[name]) for f in (found, lost))
            assert after > further * before, (name, deviations)
    # The decoder draws a face whatever it is told: not how the picture looks but how it moves is spoiled.
    assert bad["sync"] < good["sync"] / 2 and bad["mouth"] < good["mouth"] - 0.1
    assert bad["closed_errors"] > good["closed_errors"]


def test_without_a_corpus_the_held_out_part_of_the_training_corpus_is_made(
    corpus_folder: Path, tmp_path: Path
) -> None:
    """`corpus_folder` only skips where nothing can be rendered or spoken."""
    made = heldout_corpus(tmp_path, Choice(heldout=1, train=1), 32, workers=1)
    assert [clip.identity for clip in made.clips] == ["id-00000"] * CLIPS + ["id-00012"] * CLIPS
    judge = Judge(made)
    assert len(pool(judge)) == len(made.split("train")) == CLIPS
    assert made.clips[0].read_frames(0, 1).shape == (1, 32, 32, 3)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    again = heldout_corpus(tmp_path, Choice(heldout=1, train=1), 32)
    assert [clip.row for clip in again.clips] == [clip.row for clip in made.clips]
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert judge.unseen.intersection(normalise(made.split("test")[0].row["text"]))
    with pytest.raises(ValueError, match="split development has a second clip"):
        pool(Judge(made, "development"))
    for folder, size in ((tmp_path, 64), (corpus_folder, 128)):
        with pytest.raises(ValueError, match="another corpus"):
            heldout_corpus(folder, Choice(1, 1), size)


def test_the_made_corpus_is_held_out_and_large_enough() -> None:
    whole = CorpusOptions(SCALES["tiny"].hours, 0, 128, 0.08, CLIPS)
    for suite in SUITES.values():
        chosen = identities(whole, suite.choice)
        held = sum(whole.split(number) == "test" for number in chosen)
        assert held * CLIPS >= suite.clips and (len(chosen) - held) * CLIPS >= suite.reference
    with pytest.raises(ValueError, match="47 identities of the split test"):
        identities(whole, Choice(heldout=100, train=0))


def test_few_mode_of_the_full_suite_has_windows_enough() -> None:
    """evaluation.md asks for 512 windows and more; held-out clips last 3.77 s on average."""
    frames = round(SECONDS_PER_CLIP * FPS)
    windows = (frames - 8) // frechet.STRIDE + 1
    assert SUITES["full"].clips * windows > frechet.ENOUGH
    assert SUITES["full"].reference * windows > frechet.ENOUGH and frechet.DIM <= 128


def test_the_command_line_changes_a_suite() -> None:
    given = ["--corpus", "c", "--out", "o"]
    assert suite_of(options_of(given)).steps == ("4", "8", "50")
    assert suite_of(options_of(given)).ceilings
    assert not suite_of(options_of([*given, "--no-ceilings"])).ceilings
    changed = suite_of(options_of([*given, "--suite", "full", "--steps", "4,m8", "--clips", "3"]))
    assert changed.steps == ("4", "m8") and changed.clips == 3 and changed.long_seconds == 60
    assert (
        changed.opening == 10
        and suite_of(options_of([*given, "--opening-seconds", "3"])).opening == 3
    )
    with pytest.raises(ValueError, match="a second or more"):
        suite_of(options_of([*given, "--opening-seconds", "0"]))
    with pytest.raises(ValueError, match="1 or more"):
        suite_of(options_of([*given, "--multi-clips", "0"]))
    assert Setting.parse("m8").sampler.nfe == 16 and Setting.parse("8").sampler.nfe == 8
    for wrong in ("0", "m51", "x", "-4"):
        with pytest.raises(ValueError, match="number of steps"):
            Setting.parse(wrong)
