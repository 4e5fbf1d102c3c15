"""The command `mutual-forcing`: one name for all commands of the project."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "generate": ("mutual_forcing.make_film", "a film from a picture and a sentence"),
    "serve": ("mutual_forcing.demo.server", "the web page"),
    "engine": (
        "mutual_forcing.engine.ray_serve",
        "the model on several GPUs or machines, for pages",
    ),
    "replicas": ("mutual_forcing.demo.replicas", "several pages behind one address, by nginx"),
    "push": ("mutual_forcing.push", "a checkpoint on the Hugging Face Hub"),
    "deploy": ("mutual_forcing.deploy", "the web page on Hugging Face Spaces"),
    "train": ("training.train", "one stage of training"),
    "reproduce": ("training.reproduce", "corpus, all stages and export: the served checkpoint"),
    "clips": ("training.data.clips", "films of one's own as a corpus"),
    "finetune": ("training.finetune", "a checkpoint that goes on with them"),
    "refine": ("training.refine", "a checkpoint that goes on with a new synthetic corpus"),
    "evaluate": ("training.evaluate", "measure a checkpoint"),
    "compare": ("training.compare", "the method against its baselines"),
    "export": ("training.export", "a run as a checkpoint"),
}
"""Names, and the modules whose `main` they are; these know their own options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status, 2 for one that does not exist."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in COMMANDS:
        asked = bool(given) and given[0] not in ("-h", "--help")
        (sys.stderr if asked else sys.stdout).write(_usage())
        return 2 if asked else 0
    module, _ = COMMANDS[given[0]]
    try:
        command = importlib.import_module(module)
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"mutual-forcing {given[0]} needs {error.name}, which is not installed: "
            "pip install -e '.[train]' in a checkout.\n"
        )
        return 1
    sys.argv = [f"mutual-forcing {given[0]}", *given[1:]]
    return command.main()


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {said}" for name, (_, said) in COMMANDS.items()]
    head = "usage: mutual-forcing COMMAND [OPTIONS]; each command has --help\n"
    return "\n".join([head, *lines]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
