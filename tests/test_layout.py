"""The direction of dependencies (see README, Layout)."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODEL_MAY_IMPORT = {"audio", "config", "types", "motion", "chunks", "text", "models"}
TEXT_MAY_IMPORT = {"audio", "config", "types", "chunks", "text"}


def imports_of(path: Path) -> set[str]:
    """Absolute module names imported anywhere in a file."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            found.add(".".join([*base, *([node.module] if node.module else [])]))
    return found


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_no_two_modules_or_classes_have_one_name() -> None:
    modules = [*files("mutual_forcing"), *files("training")]
    classes = [
        node.name
        for path in modules
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name[0] != "_"
    ]
    stems = [path.stem for path in modules if path.stem != "__init__"]
    for names in (stems, classes):
        assert not [name for name, count in Counter(names).items() if count > 1]


def test_the_library_imports_neither_training_nor_gradio() -> None:
    """Its page, mutual_forcing/demo, aside, which nothing else in the library imports."""
    for path in files("mutual_forcing"):
        names = imports_of(path)
        tops = {name.split(".")[0] for name in names}
        assert not tops & {"training", "app"}, path
        if path.relative_to(ROOT).parts[1] != "demo":
            assert "gradio" not in tops, path
            assert not any(name.startswith("mutual_forcing.demo") for name in names), path


def test_training_does_not_know_the_page() -> None:
    for path in files("training"):
        names = imports_of(path)
        assert not {name.split(".")[0] for name in names} & {"gradio", "app"}, path
        assert not any(name.startswith("mutual_forcing.demo") for name in names), path


def test_models_and_text_import_only_what_is_below_them() -> None:
    for folder, allowed in (("models", MODEL_MAY_IMPORT), ("text", TEXT_MAY_IMPORT)):
        for path in files(f"mutual_forcing/{folder}"):
            inner = {n.split(".")[1] for n in imports_of(path) if n.startswith("mutual_forcing.")}
            assert inner <= allowed, (path, inner)


def test_the_inventory_imports_nothing_of_the_library() -> None:
    """Configurations, below everything else, say how many of its phonemes a model knows."""
    path = ROOT / "mutual_forcing" / "text" / "inventory.py"
    assert not any(name.startswith("mutual_forcing") for name in imports_of(path))


def test_no_judge_is_used_in_training() -> None:
    """The monitors may measure pixels and samples (drift); whatever was trained to judge only judges."""
    judging = ("evaluation", "evaluate.py")
    learned = {path.stem for path in files("mutual_forcing/metrics")} - {
        "__init__",
        "drift",
        "report",
    }
    assert {"mouth", "sync", "words", "frechet", "identity"} <= learned
    for path in files("training"):
        if path.relative_to(ROOT / "training").parts[0] in judging:
            continue
        used = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and "metrics" in (node.module or "").split("."):
                used |= {node.module.split(".")[-1], *(alias.name for alias in node.names)}
        assert not used & learned, (path, used)


def test_the_page_opens_files_of_strangers_in_its_cage_only() -> None:
    """What else it opens are films that it made itself."""
    reads, own = {"read_image", "read_audio", "read_comment"}, {"comparison_metrics.py"}
    for path in files("mutual_forcing/demo"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[-1] == "media":
                names |= {alias.name for alias in node.names} & reads
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                opened = f"{node.value.id}.{node.attr}"
                names |= {opened} & {"av.open", "Image.open", *(f"media.{name}" for name in reads)}
        assert not names or path.name in own | {"cage_worker.py"}, (path, names)


@pytest.mark.slow
def test_packages_that_not_every_machine_can_load_are_imported_in_few_places() -> None:
    allowed = {
        "torchaudio": {"mutual_forcing/audio.py"},
        "xformers": {"mutual_forcing/models/varlen.py"},
        # The second one writes random weights for the first one to read.
        "transformers": {"mutual_forcing/models/wan_text.py", "training/random_public.py"},
    }
    for package, modules in allowed.items():
        paths = [*files("mutual_forcing"), *files("training"), *files("examples"), ROOT / "app.py"]
        users = {p for p in paths if package in {n.split(".")[0] for n in imports_of(p)}}
        assert users == {ROOT / module for module in modules}, (package, users)
