"""UMT5's text with times: a tiny random encoder and a tokenizer made here, both from a folder."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.models.wan_text import END_TOKEN, PAGE_WORDS, UMT5Text
from mutual_forcing.text.timing import TEXT_MARGIN_SECONDS
from mutual_forcing.types import TextTokens, TimedPhoneme, TimedWord, Transcript
from training.random_public import write_text

LENGTH, WIDTH = 96, 16
WORDS = [
    "A",
    "young",
    "woman",
    "says",
    "hello",
    "there",
    "and",
    "then",
    "goodbye",
    "to",
    "all",
    "who",
    "hear",
    "her",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """As diffusers lays out a pipeline: text_encoder and tokenizer."""
    return write_text_folder(tmp_path_factory.mktemp("pipeline"), WIDTH)


def write_text_folder(folder: Path, width: int) -> Path:
    torch.manual_seed(0)
    write_text(width, folder, [" ".join(WORDS)] * 3, vocabulary=60)
    return folder


@pytest.fixture(scope="module")
def text(folder: Path) -> UMT5Text:
    return UMT5Text.load(folder, LENGTH)


def spoken(words: list[str], each: float = 0.4) -> Transcript:
    timed = tuple(TimedWord(w, i * each, (i + 1) * each) for i, w in enumerate(words))
    return Transcript((TimedPhoneme("_", 0, len(words) * each),), timed)


@pytest.mark.slow
def test_every_token_has_the_time_of_its_word(text: UMT5Text) -> None:
    transcript = spoken(WORDS)
    tokens = text.tokens(transcript, "a young woman", 2, 2)
    assert tokens.ids.shape == (1, 2, text.word_tokens)
    assert tokens.caption.shape == (1, text.caption_tokens)
    for chunk in range(2):
        found: dict[float, str] = {}
        for token, start in zip(tokens.ids[0, chunk], tokens.start[0, chunk], strict=True):
            if token:
                moment = round(float(start) + (2 + chunk) * CHUNK_SECONDS, 3)
                piece = text.tokenizer.convert_ids_to_tokens(int(token))
                found[moment] = found.get(moment, "") + piece
        whole = [found[key].replace("▁", "") for key in sorted(found)]
        assert whole == WORDS
        assert sorted(found) == pytest.approx([word.start for word in transcript.words], abs=1e-3)


def test_a_chunk_reads_the_caption_and_the_words_around_it(text: UMT5Text) -> None:
    encoded = text.encode(text.tokens(spoken(WORDS), "a young woman", 0, 6))
    q = text.caption_tokens
    said = encoded.states.abs().sum(-1) > 0
    assert torch.equal(said[:, :, :q], said[:, :1, :q].expand(-1, 6, -1))
    assert said[:, :, -1].all(), "the end token is always there"
    assert not encoded.timed[..., :q].any() and not encoded.timed[..., -1].any()
    assert torch.equal(said[..., q:-1], encoded.timed[..., q:-1])
    for chunk in range(6):
        low, high = -TEXT_MARGIN_SECONDS, CHUNK_SECONDS + TEXT_MARGIN_SECONDS
        read = encoded.timed[0, chunk]
        assert read.any()
        assert (encoded.end[0, chunk][read] > low).all()
        assert (encoded.start[0, chunk][read] < high).all()
    assert (encoded.timed[0, 0] != encoded.timed[0, 5]).any()


def test_what_is_read_is_what_umt5_says_of_the_whole_text(text: UMT5Text) -> None:
    """Caption, words and the end token in one text, without the gaps between them."""
    tokens = text.tokens(spoken(WORDS[:5]), "a young woman", 0, 1)
    row = torch.cat([tokens.caption[0], tokens.ids[0, 0]])
    ids = torch.cat([row[row > 0], torch.tensor([END_TOKEN])])[None]
    with torch.no_grad():
        wanted = text.encoder(ids, torch.ones_like(ids)).last_hidden_state[0]
    states = text.encode(tokens).states[0, 0]
    assert torch.allclose(states[states.abs().sum(-1) > 0], wanted, atol=1e-6)


def test_nothing_to_say_is_wan_s_empty_prompt(text: UMT5Text) -> None:
    nulled = text.tokens(spoken(WORDS), "a young woman", 0, 2)
    nulled = TextTokens(nulled.ids * 0, nulled.start, nulled.end, nulled.caption * 0)
    with torch.no_grad():
        end = text.encoder(torch.tensor([[END_TOKEN]])).last_hidden_state[0, 0]
    for tokens in (nulled, text.tokens(None, "", 0, 2)):
        states = text.encode(tokens).states
        assert not states[:, :, :-1].any()
        assert torch.allclose(states[0, 0, -1], end, atol=1e-6)


def test_words_are_relative_to_the_chunk(text: UMT5Text) -> None:
    """The same words later in a stream are the same text."""
    late = spoken(WORDS).shifted(1571 * CHUNK_SECONDS)
    one, two = text.tokens(spoken(WORDS), "", 3, 1), text.tokens(late, "", 1574, 1)
    assert torch.equal(one.ids, two.ids)
    assert torch.allclose(one.start, two.start, atol=1e-4)


def test_a_long_text_is_encoded_page_by_page(text: UMT5Text) -> None:
    """However long it is, the words around a chunk are there, and few texts are encoded for many chunks."""
    words = (WORDS * 40)[: 5 * PAGE_WORDS]
    transcript = spoken(words)
    chunks = int(transcript.seconds / CHUNK_SECONDS)
    short = UMT5Text(text.encoder, text.tokenizer, 512)
    pages = set()
    for chunk in range(0, chunks, 7):
        encoded = short.encode(tokens := short.tokens(transcript, "woman", chunk, 1))
        pages.add(tuple(tokens.ids.flatten().tolist()))
        origin = chunk * CHUNK_SECONDS
        near = [
            w
            for w in transcript.words
            if w.end > origin - TEXT_MARGIN_SECONDS
            and w.start < origin + CHUNK_SECONDS + TEXT_MARGIN_SECONDS
        ]
        starts = encoded.start[0, 0][encoded.timed[0, 0]].unique()
        assert len(starts) == len(near)
    assert len(pages) == 5


def test_texts_are_encoded_once_and_copies_share_the_encoder(folder: Path) -> None:
    text, calls = UMT5Text.load(folder, LENGTH), []
    text.encoder.register_forward_hook(lambda *_: calls.append(1))
    tokens = text.tokens(spoken(WORDS), "woman", 0, 4)
    for _ in range(3):
        copy.deepcopy(text).encode(tokens)
    assert len(calls) == 1
    text.encode(text.tokens(spoken(WORDS), "man", 0, 4))
    assert len(calls) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "from mutual_forcing.models.wan_text import UMT5Text; UMT5Text.load({folder!r})",
        "from mutual_forcing.codecs.public_weights import network_class; "
        "network_class('AutoencoderKLWan')",
    ],
)
def test_it_loads_in_a_process_of_its_own(folder: Path, line: str) -> None:
    """Also beside a build of torch that torchaudio, which transformers imports, was not made for."""
    command = [sys.executable, "-c", line.format(folder=str(folder))]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="text_encoder is missing"):
        UMT5Text.load(tmp_path)
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "tokenizer").mkdir()
    with pytest.raises(ValueError, match="can be read"):
        UMT5Text.load(tmp_path)
