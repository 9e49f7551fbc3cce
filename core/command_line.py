"""What both commands have: `--version`, and a script that completes their words in a shell."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from core.console import out

SHELLS = ("bash", "zsh", "fish", "tcsh")
COMPLETION = """\
Prints a script that completes the commands, options and files of {prog} in a shell:
  bash  {prog} completion bash > ~/.local/share/bash-completion/completions/{prog}
  zsh   {prog} completion zsh > DIR/_{prog}, where DIR is one of $fpath
  fish  {prog} completion fish > ~/.config/fish/completions/{prog}.fish
Run it again after an upgrade: the script knows the options of this version."""
_FOLDERS = ("DIR", "RUN_DIR", "RUN")
_FILES = ("FILE", "PLAN", "MANIFEST", "MODEL", "PATH", "SOURCE")


class ShowVersion(argparse.Action):
    """Looked up only when it is asked for: that reads the metadata of packages and asks git."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it, and end."""
        from core.version import this_version  # brings what reads packages, for which every other command would wait

        out(f"{parser.prog} {this_version()}")
        parser.exit()


def add_version(parser: argparse.ArgumentParser) -> None:
    """`--version`: the release, and the commit of a checkout."""
    parser.add_argument("--version", action=ShowVersion, help="show the release, and the commit of a checkout")


def add_shell(parser: argparse.ArgumentParser) -> None:
    """The argument of the command `completion`."""
    parser.add_argument("shell", choices=SHELLS, help="whose script to print")


def completion_script(parser: argparse.ArgumentParser, shell: str, *, first_may_be_file: bool = False) -> str:
    """What the shell must read to complete the words of `parser` and of its commands.

    `first_may_be_file`: in place of a command the first word may be a file, which shtab has no words for.
    """
    import shtab

    _mark_paths(parser, shtab.FILE, shtab.DIRECTORY)
    if not first_may_be_file:
        return str(shtab.complete(parser, shell))
    name = re.sub(r"\W", "_", parser.prog)
    script = str(shtab.complete(parser, shell))
    if shell == "bash":
        script = script.replace("complete -o bashdefault ", "complete -o bashdefault -o default ", 1)
    if shell == "zsh":
        described = f"_describe '{parser.prog} commands' _commands"
        script = script.replace(described, f"{described}\n  _files", 1)
    if shell == "fish":
        where = f"_shtab_{name}_using; and test $_shtab_{name}_npos -eq 0"
        script += f"\ncomplete -c {parser.prog} -n '{where}' -F\n"
    return script


def _mark_paths(parser: argparse.ArgumentParser, files: dict[str, str], folders: dict[str, str]) -> None:
    """Tell the script which arguments are files: by their type, or by what the help calls them."""
    for action in parser._actions:  # argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                _mark_paths(child, files, folders)
        elif action.metavar in _FOLDERS:
            action.complete = folders  # type: ignore[attr-defined]
        elif action.metavar in _FILES or getattr(action.type, "__name__", "") == "user_path":
            action.complete = files  # type: ignore[attr-defined]


_NO_CHOICE = re.compile(r"invalid choice: '([^']*)'")
_UNKNOWN = "unrecognized arguments: "


def with_suggestion(message: str, parser: argparse.ArgumentParser) -> str:
    """What argparse says of a word or an option that there is not, with the one that was probably meant."""
    if (found := _NO_CHOICE.search(message)) is not None:
        choices = (str(one) for action in parser._actions for one in action.choices or ())
        return f"{message.partition(' (choose from')[0]}{did_you_mean(found[1], choices) or _all(message)}"
    if message.startswith(_UNKNOWN):
        word = message.removeprefix(_UNKNOWN).split()[0].partition("=")[0]
        return f"{message}{did_you_mean(word, parser._option_string_actions)}"
    return message


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """`: did you mean `status`?`, or nothing where no name is like the word."""
    near = get_close_matches(word, list(names), 1, 0.6)
    return f": did you mean `{near[0]}`?" if near else ""


def _all(message: str) -> str:
    _, choose, rest = message.partition(" (choose from")
    return f"{choose}{rest}"
