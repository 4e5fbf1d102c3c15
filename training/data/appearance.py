"""What a character looks like: one frozen, JSON-friendly description per identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.data.head_model import BUILDS, CORNERS, ORIGINS, SHAPES

STYLES = ("natural", "toon", "flat", "line")
HAIR_STYLES = (
    "bald", "balding", "buzz", "short", "swept", "fringe", "curly", "afro", "bob", "long",
    "wavy", "bun", "mohawk",
)  # fmt: skip
NECKLINES = ("crew", "v", "scoop", "turtleneck", "hoodie", "shirt")
PATTERNS = ("plain", "stripes", "dots", "gradient", "checks")
BACKGROUNDS = ("studio", "gradient", "bokeh", "room", "shelves", "pattern", "window")
GLASSES = ("none", "round", "square")
BEARDS = ("full", "over_lips", "goatee", "moustache")
Color = tuple[float, float, float]

_NATURAL_HAIR = {
    "black": (0.035, 0.03, 0.03), "dark brown": (0.10, 0.06, 0.04), "brown": (0.22, 0.13, 0.075),
    "blond": (0.62, 0.46, 0.24), "red": (0.45, 0.15, 0.06), "grey": (0.48, 0.47, 0.46),
    "white": (0.82, 0.81, 0.79),
}  # fmt: skip
_FANTASY = {
    "blue": (0.25, 0.42, 0.85), "green": (0.32, 0.70, 0.35), "violet": (0.52, 0.32, 0.80),
    "pink": (0.93, 0.45, 0.65), "teal": (0.15, 0.62, 0.62), "grey": (0.55, 0.58, 0.62),
    "orange": (0.93, 0.50, 0.15), "red": (0.80, 0.22, 0.20),
}  # fmt: skip
_IRISES = (
    (0.22, 0.12, 0.06), (0.36, 0.22, 0.10), (0.20, 0.34, 0.52), (0.27, 0.42, 0.28),
    (0.38, 0.42, 0.46), (0.10, 0.06, 0.04),
)  # fmt: skip
# Skin from deep to fair; a colour is drawn between two neighbours near the origin's own range.
_SKINS = np.array(
    [
        (0.28, 0.17, 0.12), (0.37, 0.235, 0.165), (0.47, 0.31, 0.22), (0.58, 0.39, 0.27),
        (0.70, 0.50, 0.36), (0.80, 0.60, 0.47), (0.87, 0.69, 0.57), (0.93, 0.77, 0.68),
    ]
)  # fmt: skip
_SKIN_RANGE = {"african": (0.0, 3.2), "asian": (3.0, 6.2), "caucasian": (4.2, 7.0)}


@dataclass(frozen=True)
class Appearance:
    """One identity: person, clothes, background, camera and light.

    Colours are display RGB in 0..1; lengths are eye distances; angles are radians. What has a default is
    varied by portraits.py alone: `texture` is the strength of patches and strokes that no skin has, `folds`
    that of the lines of age, `beard` one of BEARDS, `beard_grain` how much hairs differ, `lip_height` and
    `lip_edge` how much of the lips is coloured and how softly it ends, `teeth_down` how much lower the upper
    and the lower teeth stand. Only numbers, strings and tuples of them, so `dataclasses.asdict` gives JSON.
    """

    style: str
    seed: int
    sex: str
    age: str
    origin: str
    corner_weights: tuple[float, ...]
    builds: tuple[float, ...]
    shapes: tuple[float, ...]
    skin: Color
    skin_name: str
    lip: Color
    blush: float
    stubble: float
    freckles: float
    makeup: float
    brow: Color
    brow_thickness: float
    brow_arch: float
    iris: Color
    iris_radius: float
    hair_style: str
    hair: Color
    hair_name: str
    hair_volume: float
    hair_length: float
    hair_part: float
    hairline: float
    neckline: str
    garment: Color
    garment_second: Color
    pattern: str
    pattern_scale: float
    glasses: str
    glasses_color: Color
    background: str
    background_colors: tuple[Color, Color, Color]
    frame_height: float
    frame_center: tuple[float, float]
    camera_angles: tuple[float, float]
    camera_distance: float
    key_direction: Color
    key_color: Color
    fill_color: Color
    rim_color: Color
    outline: float
    tint: float
    texture: float = 0.0
    folds: float = 0.0
    beard: str = "full"
    beard_grain: float = 0.2
    lip_height: float = 1.0
    lip_edge: float = 0.022
    teeth_down: tuple[float, float] = (0.0, 0.0)


def sample_appearance(rng: np.random.Generator, style: str | None = None) -> Appearance:
    """Draw a character; without a `style` two thirds are natural, the rest toon, flat or line.

    Raises ValueError for a style outside `STYLES`.
    """
    if style is not None and style not in STYLES:
        raise ValueError(f"Unknown style {style!r}; choose one of {', '.join(STYLES)}.")
    style = style or str(rng.choice(STYLES, p=(0.66, 0.14, 0.11, 0.09)))
    drawn = style != "natural"
    person = _sample_person(rng, drawn)
    fantasy = drawn and rng.random() < 0.4
    values = {"style": style, "seed": int(rng.integers(2**31))} | person
    values |= _sample_skin(rng, person, fantasy)
    values |= _sample_hair(rng, person, drawn)
    values |= _sample_clothes(rng, drawn)
    values |= _sample_scene(rng, style)
    if values["hair_style"] in ("bun", "afro", "mohawk", "curly"):
        center_x, center_y = values["frame_center"]
        values["frame_center"] = (center_x, round(center_y + 0.3, 4))
    return Appearance(**values)


def describe(appearance: Appearance) -> str:
    """A short English noun phrase: "a young woman with long red hair and glasses"."""
    nouns = {
        ("female", "child"): "girl", ("male", "child"): "boy", ("female", "young"): "young woman",
        ("male", "young"): "young man", ("female", "old"): "old woman", ("male", "old"): "old man",
    }  # fmt: skip
    noun = nouns[appearance.sex, appearance.age]
    medium = {"natural": "", "toon": "cartoon ", "flat": "flat cartoon ", "line": "line-drawn "}
    phrase = (
        medium[appearance.style]
        + (f"{appearance.skin_name}-skinned " if appearance.skin_name else "")
        + noun
    )
    phrase = ("an " if phrase[0] in "aeiou" else "a ") + phrase
    extras = [_describe_hair(appearance)]
    if appearance.stubble > 0.6:
        extras.append("a beard")
    if appearance.glasses != "none":
        extras.append("glasses")
    joined = extras[0] if len(extras) == 1 else ", ".join(extras[:-1]) + " and " + extras[-1]
    return f"{phrase} with {joined}"


def _describe_hair(appearance: Appearance) -> str:
    words = {
        "bald": "a bald head", "balding": f"thinning {appearance.hair_name} hair",
        "buzz": f"cropped {appearance.hair_name} hair", "afro": f"a {appearance.hair_name} afro",
        "bob": f"a {appearance.hair_name} bob", "bun": f"{appearance.hair_name} hair in a bun",
        "mohawk": f"a {appearance.hair_name} mohawk", "fringe": f"{appearance.hair_name} hair with a fringe",
        "swept": f"swept {appearance.hair_name} hair",
    }  # fmt: skip
    return words.get(appearance.hair_style, f"{appearance.hair_style} {appearance.hair_name} hair")


def _color(values: np.ndarray | tuple[float, ...]) -> Color:
    red, green, blue = (round(float(np.clip(value, 0, 1)), 4) for value in values)
    return red, green, blue


def _any_color(rng: np.random.Generator, saturation: float, value: float) -> Color:
    """A random hue at about this saturation and brightness."""
    hue = rng.random() * 6
    ramp = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return _color(value * (1 - saturation + saturation * ramp))


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 4)


def _pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    total = sum(weights.values())
    return str(rng.choice(list(weights), p=[weight / total for weight in weights.values()]))


def _sample_person(rng: np.random.Generator, drawn: bool) -> dict:
    sex = _pick(rng, {"female": 1, "male": 1})
    age = _pick(rng, {"child": 0.12, "young": 0.63, "old": 0.25})
    origin = _pick(rng, dict.fromkeys(ORIGINS, 1))
    blend = rng.dirichlet([0.5] * len(ORIGINS)) * 0.35
    blend[ORIGINS.index(origin)] += 0.65
    second_age = _pick(rng, {"child": 0.1, "young": 0.6, "old": 0.3})
    share = rng.uniform(0, 0.35) if age != "child" else 0.1
    sexes = {sex: rng.uniform(0.8, 1.0)}
    corner_weights = []
    for corner_sex, corner_age, corner_origin in CORNERS:
        of_sex = sexes.get(corner_sex, 1 - sexes[sex])
        of_age = (1 - share) * (corner_age == age) + share * (corner_age == second_age)
        corner_weights.append(float(of_sex * of_age * blend[ORIGINS.index(corner_origin)]))
    # A head at rest should look friendly rather than sour.
    spread = 0.5 if drawn else 0.38
    shapes = dict(zip(SHAPES, np.clip(rng.normal(0, spread, len(SHAPES)), -1, 1), strict=True))
    shapes["head-age-incr"] = max(0.0, shapes["head-age-incr"]) * (age == "old")
    shapes["ear-wing-incr"] *= 0.5
    shapes["mouth-angles-up"] += 0.6
    for name in ("head-scale-horiz-incr", "head-scale-vert-incr", "neck-scale-horiz-incr"):
        shapes[name] *= 0.45
    if drawn:
        shapes["eye-scale-incr"] = rng.uniform(0.3, 2.4)
        shapes["ear-shape-triangle"] = rng.choice([0.0, 1.8])
        shapes["head-scale-horiz-incr"] *= 2.2
        shapes["nose-volume-incr"] = rng.uniform(-1.6, 0.8)
        shapes["chin-width-incr"] = rng.uniform(-1.5, 1.2)
    return {
        "sex": sex,
        "age": age,
        "origin": origin,
        "corner_weights": tuple(round(weight, 5) for weight in corner_weights),
        "builds": tuple(_uniform(rng, -1, 1) for _ in BUILDS),
        "shapes": tuple(round(float(value), 4) for value in shapes.values()),
    }


def _sample_skin(rng: np.random.Generator, person: dict, fantasy: bool) -> dict:
    female = person["sex"] == "female"
    low, high = _SKIN_RANGE[person["origin"]]
    place = rng.uniform(low, high)
    index = min(int(place), len(_SKINS) - 2)
    skin = _SKINS[index] + (place - index) * (_SKINS[index + 1] - _SKINS[index])
    name = ""
    if fantasy:
        name = str(rng.choice(["blue", "green", "violet", "grey", "teal", "orange"]))
        skin = np.array(_FANTASY[name]) * rng.uniform(0.8, 1.1) + rng.uniform(0, 0.2)
    lip = skin * (0.86, 0.55, 0.56) + (0.05, 0.0, 0.01)
    makeup = float(rng.random()) if female and person["age"] != "child" else 0.0
    if makeup > 0.6:
        painted = [(0.68, 0.10, 0.14), (0.75, 0.25, 0.32), (0.50, 0.10, 0.22)]
        lip = 0.35 * lip + 0.65 * np.array(painted[rng.integers(3)])
    bearded = not female and person["age"] != "child"
    return {
        "skin": _color(skin),
        "skin_name": name,
        "lip": _color(lip),
        "blush": _uniform(rng, 0, 0.5),
        "stubble": _uniform(rng, 0, 1) if bearded and rng.random() < 0.6 else 0.0,
        "freckles": _uniform(rng, 0.3, 1) if rng.random() < 0.15 else 0.0,
        "makeup": round(makeup, 4),
    }


def _sample_hair(rng: np.random.Generator, person: dict, drawn: bool) -> dict:
    female = person["sex"] == "female"
    if female:
        weights = dict.fromkeys(HAIR_STYLES, 0.4) | {"long": 3, "wavy": 2, "bob": 2, "bun": 1.5}
        weights |= {"fringe": 1.2, "curly": 0.8, "bald": 0.05, "balding": 0, "mohawk": 0.15}
    else:
        weights = {"short": 3, "swept": 2, "buzz": 1.2, "fringe": 0.8, "curly": 1.0, "bald": 0.7}
        weights |= {"mohawk": 0.25, "long": 0.4, "bob": 0.2, "balding": 0.5}
    if person["age"] == "child":
        weights |= {"bald": 0, "balding": 0}
    if person["age"] == "old" and not female:
        weights |= {"balding": 3, "bald": 1.5}
    if person["origin"] == "african":
        weights |= {"afro": 1.8, "curly": 2, "buzz": 1.5}
    else:
        weights["afro"] = 0.05
    name = _pick(rng, dict(zip(_NATURAL_HAIR, (3, 2, 2, 1.8, 1, 0.2, 0.05), strict=True)))
    if person["origin"] != "caucasian":
        name = _pick(rng, {"black": 4, "dark brown": 2, "brown": 0.5})
    if person["age"] == "old":
        name = _pick(rng, {"grey": 2, "white": 1.5, name: 1})
    base = np.array(_NATURAL_HAIR[name])
    if rng.random() < (0.4 if drawn else 0.03):
        name = str(rng.choice(list(_FANTASY)))
        base = np.array(_FANTASY[name])
    hair = _color(base * rng.uniform(0.8, 1.2))
    iris = _IRISES[rng.integers(len(_IRISES))]
    if person["origin"] != "caucasian" and not drawn:
        iris = _IRISES[rng.choice([0, 1, 5])]
    if drawn and rng.random() < 0.4:
        iris = _any_color(rng, 0.8, 0.75)
    return {
        "brow": _color(np.array(hair) * 0.7 * (0.6 if name in ("white", "blond") else 1)),
        "brow_thickness": _uniform(rng, 0.045, 0.075) if female else _uniform(rng, 0.06, 0.1),
        "brow_arch": _uniform(rng, 0.0, 1.0),
        "iris": _color(np.array(iris) * rng.uniform(0.85, 1.3)),
        "iris_radius": _uniform(rng, 0.5, 0.62) if drawn else _uniform(rng, 0.45, 0.5),
        "hair_style": _pick(rng, weights),
        "hair": hair,
        "hair_name": name,
        "hair_volume": _uniform(rng, 0.0, 1.0),
        "hair_length": _uniform(rng, 0.0, 1.0),
        "hair_part": _uniform(rng, -0.6, 0.6),
        "hairline": _uniform(rng, -0.1, 0.12),
    }


def _sample_clothes(rng: np.random.Generator, drawn: bool) -> dict:
    dull = 0.8 if drawn else 0.55
    garment = _any_color(rng, rng.uniform(0, dull), rng.uniform(0.12, 0.9))
    return {
        "neckline": str(rng.choice(NECKLINES)),
        "garment": garment,
        "garment_second": _any_color(rng, rng.uniform(0, dull), rng.uniform(0.15, 0.95)),
        "pattern": _pick(rng, dict(zip(PATTERNS, (4, 1.2, 0.6, 0.8, 0.6), strict=True))),
        "pattern_scale": _uniform(rng, 0.2, 0.6),
        "glasses": _pick(rng, dict(zip(GLASSES, (0.8, 0.1, 0.1), strict=True))),
        "glasses_color": _color(np.array(_any_color(rng, 0.6, 0.5)) * rng.choice([0.12, 0.9])),
    }


def _sample_scene(rng: np.random.Generator, style: str) -> dict:
    bright = rng.uniform(0.25, 0.95)
    dull = 0.7 if style != "natural" else 0.4
    colors = [_any_color(rng, rng.uniform(0, dull), bright * rng.uniform(0.6, 1)) for _ in "abc"]
    background = str(rng.choice(BACKGROUNDS))
    if style == "line":
        background = "studio" if rng.random() < 0.6 else background
        colors[0] = _color(np.array(_any_color(rng, 0.06, 0.98)))
    side = rng.choice([-1, 1])
    key = np.array([side * rng.uniform(0.15, 1.0), rng.uniform(0.25, 0.9), 1.0])
    warm = rng.uniform(-0.08, 0.08)
    power = rng.uniform(0.78, 0.98)
    fill = rng.uniform(0.3, 0.5)
    return {
        "background": background,
        "background_colors": tuple(colors),
        "frame_height": _uniform(rng, 4.8, 5.7),
        "frame_center": (_uniform(rng, -0.3, 0.3), _uniform(rng, -0.45, -0.2)),
        "camera_angles": (_uniform(rng, -0.22, 0.22), _uniform(rng, -0.1, 0.14)),
        "camera_distance": _uniform(rng, 13, 32),
        "key_direction": tuple(round(float(v), 4) for v in key / np.linalg.norm(key)),
        "key_color": _color(np.array([power + warm, power, power - warm])),
        "fill_color": _color(np.array([fill - warm, fill, fill + 1.5 * warm])),
        "rim_color": _color(np.array(_any_color(rng, 0.4, rng.uniform(0, 0.6)))),
        "outline": _uniform(rng, 0.6, 1.0) if style != "natural" else 0.0,
        "tint": _uniform(rng, 0.0, 1.0) if style == "line" else 1.0,
    }
