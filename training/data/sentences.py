"""Sentences with a large vocabulary: natural templates, and dense ones that cover all diphones."""

from __future__ import annotations

import functools
import itertools
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

Split = Literal["train", "development", "test"]
HELDOUT: tuple[Split, ...] = ("development", "test")
HELDOUT_SHARE = 0.08
DENSE_SHARE = 0.35
COMMON_DIPHONE = 20
"""Diphones rarer than this in the lexicon are names and abbreviations; they do not count."""
_AVOID = re.compile(
    r"fuck|shit|cunt|nigg|rape|slut|whore|bitch|penis|vagin|porn|nazi|faggot|cock|dick"
)

_WORDS = {
    "noun": """apple answer arm artist aunt baby bag ball banana basket beach bear bed bell bird boat
    book bottle box boy bread breakfast bridge brother bucket building bus butter cake camera candle
    captain car carpet castle cat chair cheese chicken child church city class cloud clock coat coffee
    computer cook corner country cousin cow cup dance daughter day desk dinner doctor dog door dragon
    dream dress driver duck ear earth egg elephant engine evening eye face family farm farmer father
    field finger fire fish flag floor flower food foot forest friend frog fruit game garden gate ghost
    gift giraffe girl glass goat grandfather grass guitar hair hammer hand hat head heart hill history
    holiday horse hospital hotel house idea island jacket jewel job journey juice jungle key king
    kitchen knife ladder lake lamp language leaf lesson letter library light lion machine magician
    map market meal measure meeting message milk mirror money monkey moon morning mother mountain
    mouse mouth museum music name neighbor nest newspaper night noise nose number nurse ocean office
    onion orange oven owl page paint palace paper park party path pencil penguin people pepper phone
    photograph piano picture pie pillow pirate plane planet plant plate playground pocket poem police
    potato present prince princess problem puppy purse puzzle queen question rabbit radio rain rainbow
    recipe ribbon rice ring river road robot rocket roof room rope rose sailor salad sandwich school
    scissors sea season secret shadow sheep ship shirt shoe shoulder shower singer sister sky snake
    snow soap song soup space spider spoon spring squirrel stage star station stone storm story street
    student sugar summer sun sweater table tail teacher television theater thumb ticket tiger toast
    tomato tooth towel tower town toy train treasure tree trip truck trumpet turtle umbrella uncle
    vacation valley vegetable village violin visitor voice wagon wall watch water weather week whale
    wheel wind window winter wizard wolf woman wood world yard year zebra zoo""",
    "adjective": """amazing ancient angry bad beautiful big bitter black blue boring brave bright broken
    brown busy calm careful cheap cheerful clean clever cold colorful comfortable cool crazy curious
    dangerous dark dear deep delicious different dirty dry early easy empty enormous evil excellent
    expensive fair famous fast fresh friendly full funny gentle giant golden good gray great green
    happy hard healthy heavy honest hot huge hungry icy important kind large late lazy light little
    lonely long loud lovely lucky magic modern narrow near new nice noisy nervous old orange ordinary
    perfect pink pleasant polite poor pretty proud purple quick quiet rare ready red rich rough round
    rusty sad safe secret serious shallow sharp shiny short shy silent silly silver simple slow small
    smooth soft sour special strange strong sunny sweet tall tasty thick thin tiny tired ugly unusual
    useful usual warm weak wet white wide wild wise wonderful wooden wrong yellow young""",
    "verb": """ask borrow break bring build buy call carry catch change check choose clean climb close
    collect color cook copy count cover cut decorate describe discover draw drop enjoy explain find
    finish fix follow forget give guess hear help hide hold imagine invent invite join keep know
    learn leave lift like lose love make measure mention mix move need notice offer open order pack
    paint pass pay pick plan plant prepare promise pull push put reach read remember repair repeat
    save see sell send share show sing solve start steal study take taste teach tell throw touch
    train try understand use visit want wash watch wear win wish write""",
    "past": """asked borrowed broke brought built bought called carried caught changed checked chose
    cleaned climbed closed collected colored cooked copied counted covered described discovered drew
    dropped enjoyed explained found finished fixed followed forgot gave guessed heard helped hid held
    imagined invented invited joined kept knew learned left lifted liked lost loved made measured
    mentioned mixed moved needed noticed offered opened ordered packed painted passed paid picked
    planned planted prepared promised pulled pushed reached remembered repaired repeated saved saw
    sold sent shared showed sang solved started stole studied took tasted taught told threw touched
    tried understood used visited wanted washed watched wore won wrote""",
    "adverb": """again already always badly bravely carefully clearly easily finally gently gladly
    happily hardly honestly lately loudly maybe nearly never often only perhaps probably quickly
    quietly rarely really sadly slowly softly sometimes soon still suddenly together usually""",
    "name": """Alice Amy Anna Arthur Ben Carol Charlie Chloe Daniel David Emma Ethan Eva Felix Frank
    George Grace Hannah Harry Helen Henry Isabel Jack James Jane Joe John Julia Kate Kevin Laura Leo
    Lily Lucy Maria Mark Martha Mary Max Michael Mia Nancy Nora Oliver Oscar Paul Peter Rachel Rose
    Ruth Sam Sarah Sophie Steve Susan Theo Thomas Tony Victor Walter Yvonne Zoe""",
    "time": """today tomorrow yesterday tonight now later this_morning this_evening next_week last_night
    every_day on_Monday on_Tuesday on_Thursday on_Friday in_January in_March in_July in_August
    at_noon at_midnight before_breakfast after_dinner twice_a_year once_a_month in_the_winter
    in_the_summer last_year""",
    "place": """at_home at_school in_the_garden in_the_kitchen on_the_beach under_the_bridge by_the_river
    near_the_station behind_the_house in_the_city at_the_market on_the_roof in_the_forest on_the_moon
    across_the_street above_the_clouds inside_the_castle at_the_zoo in_London in_Paris in_Tokyo
    between_the_trees""",
    "number": """two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    twenty thirty forty fifty sixty seventy eighty ninety a_hundred a_thousand""",
}
_TEMPLATES = """
The {adjective} {noun} {past} the {noun} {place}.
{name} {past} {number} {adjective} things, and {name} {past} the {noun}.
Can you {verb} the {adjective} {noun} {time}?
Please {verb} my {noun} before you {verb} the {adjective} {noun}.
Why did {name} {verb} that {noun} {place}?
I {adverb} {verb} the {noun}, but I do not {verb} the {noun}.
Hello, my name is {name}, and I {past} a {adjective} {noun} {time}.
Good morning, {name}, did you {verb} the {noun}?
We {past} the {noun} {adverb}, because the {noun} was {adjective}.
It was a {adjective} day, so they {past} their {noun} {place}.
What a {adjective} {noun} you have, {name}!
First you {verb} the {noun}, then you {adverb} {verb} the {noun}.
There are {number} {adjective} chairs and {number} tables {place}.
If you {verb} the {noun}, I will {verb} your {adjective} {noun}.
The {noun} and the {noun} are {adjective}, but the {noun} is {adjective}.
Do you think that {name} could {verb} a {noun} {place}?
{name} and {name} {past} the {adjective} {noun} {time}.
Everybody should {verb} a {adjective} {noun} {time}.
I would like to {verb} a {noun}, a {noun}, and a {adjective} {noun}.
She {past} him a {noun}, and he {adverb} {past} it {time}.
Have you ever {past} a {adjective} {noun} {place}?
Thank you, {name}, that was a very {adjective} {noun}.
Nobody {past} the {noun}, although it was {adjective} and {adjective}.
Where is the {adjective} {noun} that you {past} {time}?
Look at the {noun}, it is as {adjective} as a {noun}!
{number} people {past} the {noun} {place}, and {number} people did not.
You must not {verb} the {noun} {place}.
This {noun} has a {adjective} {noun}, and that one has a {noun}.
Let us {verb} the {noun} together, then {verb} the {adjective} {noun}.
I am sorry, but the {noun} is too {adjective} for the {noun}.
When the {noun} is {adjective}, {name} will {verb} it {adverb}.
My {noun} never {past} such a {adjective} {noun} {time}.
How many {adjective} things can a {noun} {verb} {time}?
In the story, a {adjective} {noun} {past} a {noun} {place}.
Well, I think the {noun} would be {adjective} with a {noun}.
The {noun} of the {noun} is {adverb} {adjective}.
Oh no, somebody {past} the {adjective} {noun}!
Tell me about the {noun}, the {noun}, and the {noun} {place}.
They {past} {number} things, and {adverb} {past} the {noun}.
"""
_DENSE = """
The {any} {any} near the {any} was {any}.
{name} said {any}, {any}, and {any}.
Say the words {any}, {any}, {any}, and {any}.
A {any} is not a {any}, but it may be a {any}.
Is {any} like {any}, or more like {any}?
My {adjective} {any} {past} the {any} {place}.
They call it {any} {any}, and we call it {any}.
I {past} {any} with the {any} of a {any}.
"""


class SentenceMaker:
    """Draws sentences; about 4 % of the words occur in development sentences only, 4 % in test sentences.

    The split depends on `seed` alone.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 17])
        slots = {kind: [w.replace("_", " ") for w in text.split()] for kind, text in _WORDS.items()}
        slots["any"] = lexicon_words()
        split_kinds = ("noun", "adjective", "verb", "past", "adverb", "name", "any")
        vocabulary = sorted({word.lower() for kind in split_kinds for word in slots[kind]})
        draws = rng.random(len(vocabulary))
        held = {w for w, draw in zip(vocabulary, draws, strict=True) if draw < HELDOUT_SHARE}
        fixed = {word.lower() for word in re.findall(r"[A-Za-z]+", _spoken_frame())}
        self.heldout_words = frozenset(held - fixed)
        halves = rng.random(len(vocabulary)) < 0.5
        tested = {word for word, half in zip(vocabulary, halves, strict=True) if half}
        self.words: dict[Split, frozenset[str]] = {
            "development": self.heldout_words - tested, "test": self.heldout_words & tested
        }  # fmt: skip
        known = {k: [w for w in slots[k] if not self._is_held(w)] for k in slots}
        self._slots = {"train": known}
        self._held_slots: dict[Split, dict[str, list[str]]] = {"train": {}}
        for split, words in self.words.items():
            held_slots = {k: [w for w in slots[k] if w.lower() in words] for k in split_kinds}
            self._held_slots[split] = held_slots
            self._slots[split] = {k: known[k] + held_slots.get(k, []) for k in slots}

    @functools.cached_property
    def _rarity(self) -> np.ndarray:
        """Of the training words of the lexicon; whoever only asks what is held out does not wait for it."""
        return _cumulative(self._slots["train"]["any"])

    def sentence(self, rng: np.random.Generator, split: Split) -> str:
        """A sentence of `split`; development and test ones contain at least one word of theirs alone."""
        dense = rng.random() < DENSE_SHARE
        templates = (_DENSE if dense else _TEMPLATES).strip().splitlines()
        template = templates[rng.integers(len(templates))].strip()
        kinds = re.findall(r"\{(\w+)\}", template)
        own = self._held_slots[split]
        held_places = [i for i, kind in enumerate(kinds) if own.get(kind)]
        held = {int(rng.choice(held_places))} if held_places else set()
        held |= {i for i in held_places if rng.random() < 0.3}
        words = iter(
            self._draw(kind, own if i in held else self._slots[split], rng)
            for i, kind in enumerate(kinds)
        )
        text = re.sub(r"\{\w+\}", lambda _: next(words), template)
        text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
        return text[0].upper() + text[1:]

    def _is_held(self, word: str) -> bool:
        return word.lower() in self.heldout_words

    def _draw(self, kind: str, slots: dict[str, list[str]], rng: np.random.Generator) -> str:
        if kind == "any" and slots is self._slots["train"]:
            return slots[kind][int(np.searchsorted(self._rarity, rng.random()))]
        return slots[kind][rng.integers(len(slots[kind]))]


def _spoken_frame() -> str:
    """The fixed words of all templates, and those of the slots that are not split."""
    unsplit = " ".join(_WORDS[kind] for kind in ("time", "place", "number"))
    return re.sub(r"\{\w+\}", " ", _TEMPLATES + _DENSE) + unsplit.replace("_", " ")


@functools.lru_cache(maxsize=1)
def _lexicon() -> dict[str, tuple[str, ...]]:
    """Word to phonemes without stress: gruut's own lexicon (MIT), first pronunciations."""
    import gruut_lang_en

    path = Path(gruut_lang_en.__file__).with_name("lexicon.db")
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT word, phonemes FROM word_phonemes WHERE pron_order = 0"
        ).fetchall()
    return {w: tuple(re.sub("[ˈˌ]", "", p).split()) for w, p in rows}


@functools.lru_cache(maxsize=1)
def lexicon_words() -> list[str]:
    """Plain lower-case words of 4 to 9 letters of the lexicon, sorted."""
    return sorted(
        word for word in _lexicon() if re.fullmatch(r"[a-z]{4,9}", word) and not _AVOID.search(word)
    )


def _cumulative(words: Sequence[str]) -> np.ndarray:
    """Cumulative probabilities that favour words with rare diphones, so that few sentences cover all."""
    lexicon, counts = _lexicon(), _diphone_counts()
    weights = np.array(
        [
            sum(
                1 / counts[pair]
                for pair in _diphones(lexicon[word])
                if counts[pair] >= COMMON_DIPHONE
            )
            for word in words
        ]
    )
    return np.cumsum(weights) / weights.sum()


def _diphones(phonemes: Sequence[str]) -> Iterable[tuple[str, str]]:
    return itertools.pairwise(phonemes)


@functools.lru_cache(maxsize=1)
def _diphone_counts() -> Counter[tuple[str, str]]:
    return Counter(pair for phonemes in _lexicon().values() for pair in _diphones(phonemes))


def spoken_coverage(words: Iterable[str]) -> float:
    """Share of the lexicon's common within-word diphones that occur in `words`.

    Common means in at least 20 of the lexicon's 120,000 words; rarer ones are names and abbreviations.
    """
    lexicon = _lexicon()
    wanted = {pair for pair, count in _diphone_counts().items() if count >= COMMON_DIPHONE}
    heard = {pair for word in words if word in lexicon for pair in _diphones(lexicon[word])}
    return len(wanted & heard) / len(wanted)
