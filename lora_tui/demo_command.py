"""`lora-tui demo`: a folder with a plan, a small base model and speech, to try everything on.

Plan, model and the recipe of the speech come with the package; the speech is made on the spot.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from core.errors import ExitCode, UserError
from core.system.files import write_bytes
from core.system.process import Interrupts, usable_cpus
from core.user_paths import user_path
from core.version import PACKAGE
from lora_tui.diagnostics import say
from lora_tui.request import DEFAULT_PLAN

DESCRIPTION = """\
Writes a plan, a small base model and a speech corpus into a folder, and says the next command. The speech, 3,800
clips in 200 MB, is made on the spot by espeak-ng (the extra `lora-tui[corpus]`) in a minute or two. Run it again after
an interruption: a set that is whole is kept, and no file of yours is replaced."""
DEFAULT_FOLDER = "lora-tui-demo"
_DATA = Path("data")
_FILES = ("recipe.toml", "texts/*.toml", "base_model/*")
"""Of the folder data/: what the demo begins with. Manifests and audio are made."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "folder", nargs="?", type=user_path, default=Path(DEFAULT_FOLDER), metavar="DIR", help="default: ./%(default)s"
    )


def run(args: argparse.Namespace) -> ExitCode:
    """Write what is missing, make the speech. UserError: a file of another content is in the way."""
    from core.corpus.build import build_corpus, usual_sets
    from core.corpus.recipe import read_recipe
    from core.corpus.synth import Synthesiser

    Synthesiser()  # a UserError where espeak-ng is missing, before anything is written
    source = shipped_files()
    folder: Path = args.folder
    copy_files(source, folder)
    recipe = read_recipe(folder / _DATA / "recipe.toml")
    with Interrupts():
        build_corpus(recipe, folder / _DATA, usual_sets(recipe), usable_cpus())
    go = "" if folder.absolute() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    say(f"{folder} has a plan, a model and speech. Next: {go}lora-tui --start")
    return ExitCode.ACCEPTED


def shipped_files() -> Path:
    """The folder that holds experiments.toml and data/: the checkout, or what the wheel installed into share/."""
    return next((place for place in _places() if _is_whole(place)), None) or _missing()


def copy_files(source: Path, folder: Path) -> None:
    """Bring the files of `source` into `folder`; those that are there already must be the same."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(f"{folder}: is no folder: name another one")
    wanted = {path.relative_to(source): path for path in (source / DEFAULT_PLAN, *_data_files(source))}
    new = []
    for name, path in wanted.items():
        target = folder / name
        if not os.path.lexists(target):
            new.append((target, path))
        elif not target.is_file() or target.read_bytes() != path.read_bytes():
            raise UserError(f"{target}: differs from the demo's: move it away, or name another folder")
    for target, path in new:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, path.read_bytes())


def _places() -> Iterator[Path]:
    package = Path(__file__).resolve().parents[1]
    yield package
    try:
        files = metadata.files(PACKAGE) or ()
    except metadata.PackageNotFoundError:
        files = ()
    for file in files:
        if file.name == DEFAULT_PLAN:
            yield Path(str(file.locate())).resolve().parent
    yield package / "share" / PACKAGE  # `pip install --target`
    yield Path(sys.prefix) / "share" / PACKAGE


def _is_whole(place: Path) -> bool:
    return (place / DEFAULT_PLAN).is_file() and all(any((place / _DATA).glob(pattern)) for pattern in _FILES)


def _data_files(source: Path) -> list[Path]:
    return sorted(path for pattern in _FILES for path in (source / _DATA).glob(pattern) if path.is_file())


def _missing() -> Path:
    raise UserError(f"the demo's files are not installed: install {PACKAGE} again, or run the command in a checkout")
