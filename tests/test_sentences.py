"""The sentences' vocabulary and its split."""

import re

import numpy as np

from training.data.sentences import SentenceMaker, spoken_coverage


def words_of(sentence: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Za-z']+", sentence)}


def test_heldout_words_never_occur_in_train() -> None:
    maker, rng = SentenceMaker(0), np.random.default_rng(0)
    for _ in range(1500):
        assert not words_of(maker.sentence(rng, "train")) & maker.heldout_words


def test_heldout_sentences_hold_a_heldout_word() -> None:
    maker, rng = SentenceMaker(0), np.random.default_rng(0)
    for _ in range(300):
        sentence = maker.sentence(rng, "heldout")
        assert words_of(sentence) & maker.heldout_words, sentence


def test_train_sentences_cover_the_diphones() -> None:
    maker, rng = SentenceMaker(0), np.random.default_rng(0)
    spoken = set().union(*(words_of(maker.sentence(rng, "train")) for _ in range(1000)))
    assert spoken_coverage(spoken) > 0.9
    assert spoken_coverage(["cat", "dog"]) < 0.05


def test_same_seed_same_sentences() -> None:
    texts = [SentenceMaker(3).sentence(np.random.default_rng(5), "train") for _ in range(2)]
    assert texts[0] == texts[1]
