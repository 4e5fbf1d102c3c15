"""The sentences' vocabulary and its split."""

import re

import numpy as np

from training.data.sentences import HELDOUT, SentenceMaker, spoken_coverage


def words_of(sentence: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Za-z']+", sentence)}


def test_heldout_words_never_occur_in_train() -> None:
    maker, rng = SentenceMaker(0), np.random.default_rng(0)
    for _ in range(1500):
        assert not words_of(maker.sentence(rng, "train")) & maker.heldout_words


def test_what_is_held_out_for_choices_is_not_what_reports_are_made_on() -> None:
    """Every development sentence has a word that is said nowhere else, and so has every test sentence."""
    maker, rng = SentenceMaker(0), np.random.default_rng(0)
    development, test = (maker.words[split] for split in HELDOUT)
    assert not development & test and development | test == maker.heldout_words
    assert 0.4 < len(test) / len(maker.heldout_words) < 0.6
    for split, own, other in (("development", development, test), ("test", test, development)):
        for _ in range(300):
            words = words_of(maker.sentence(rng, split))
            assert words & own and not words & other, words


def test_train_sentences_cover_the_diphones() -> None:
    maker, rng = SentenceMaker(0), np.random.default_rng(0)
    spoken = set().union(*(words_of(maker.sentence(rng, "train")) for _ in range(1000)))
    assert spoken_coverage(spoken) > 0.9
    assert spoken_coverage(["cat", "dog"]) < 0.05


def test_same_seed_same_sentences() -> None:
    texts = [SentenceMaker(3).sentence(np.random.default_rng(5), "train") for _ in range(2)]
    assert texts[0] == texts[1]
