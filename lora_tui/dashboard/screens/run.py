"""One run: intervals, settings and files, log, transcripts, data, verdict. Each is a page of lines."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Footer
from textual.worker import get_current_worker

from core.runs.headline import headline
from core.runs.row import Row
from core.sanitise import sanitise
from lora_tui.cells import Pieces, cut, headline_pieces, padded, plain, width_of
from lora_tui.dashboard.messages import FollowsBoard
from lora_tui.dashboard.reading.log_text import read_tail
from lora_tui.dashboard.reading.snapshots import Board, RunView
from lora_tui.dashboard.text.run_pages import (
    Transcripts,
    clip_lines,
    health_lines,
    interval_lines,
    read_transcripts,
    settings_lines,
)
from lora_tui.dashboard.text.ship_page import ship_lines, ship_text
from lora_tui.dashboard.widgets.lines_view import LinesView, TextView
from lora_tui.dashboard.widgets.mended import ClosesOnce, KeysFooter

PAGES = ("intervals", "settings", "log", "transcripts", "data", "verdict")
_MOST_CLIPS = 500


class Tabs(LinesView):
    """The names of the pages, the one that is open marked."""

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self.title = ""
        self.page = PAGES[0]
        self.note = ""
        self.signs = ""
        """What marks on the page mean; at the end of the line of the tabs."""
        self.stands: Pieces = ()
        """The sentence of where the row stands."""

    def paint(self, width: int, height: int) -> list[Pieces]:
        """Title and tabs."""
        tabs: list[tuple[str, str]] = []
        for number, name in enumerate(PAGES, 1):
            here = name == self.page
            tabs.append((f"[{number} {name}]" if here else f" {number} {name} ", "key" if here else "muted"))
        room = width - 2 - sum(width_of(text) for text, _ in tabs)
        tabs.append((padded(self.signs, room, right=True) if width_of(self.signs) < room else "", "muted"))
        lines: list[Pieces] = [[(plain(f" {self.title}", self._ascii), "title")], [(" ", ""), *tabs]]
        stands = [(plain(text, self._ascii), role) for text, role in ((" ", ""), *self.stands)]
        lines.insert(1, cut(stands, width, "~" if self._ascii else "…"))
        return [*lines, [(plain(f" {self.note}", self._ascii), "muted")]]


class RunScreen(ClosesOnce, FollowsBoard, Screen[None]):
    """Follows its run while it is open; Esc goes back to the board."""

    CSS = """
    RunScreen { layout: vertical; }
    #tabs { height: 4; background: $panel; }
    #page { height: 1fr; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Back"),
        Binding("1", "page('intervals')", "Intervals", show=False),
        Binding("2", "page('settings')", "Settings", show=False, tooltip="identity, attempts, files too"),
        Binding("3", "page('log')", "Log", show=False),
        Binding("4", "page('transcripts')", "Transcripts", show=False),
        Binding("5", "page('data')", "Data", show=False, tooltip="sizes, leakage, running error rate, parity"),
        Binding("6", "page('verdict')", "Verdict", show=False, tooltip="and how an accepted adapter ships"),
        Binding("y", "copy", "Copy", tooltip="what the page of the verdict says of shipping it"),
        Binding("tab,right,l", "turn(1)", "Next page"),
        Binding("shift+tab,left,h", "turn(-1)", "Previous page", show=False),
        Binding("o", "order", "Fixed/broken first"),
        Binding("d", "dataset", "Domain/heldout"),
    ]

    def __init__(self, view: RunView, row: Row, *, ascii_only: bool, page: str = PAGES[0]) -> None:
        """`row`: as the board has it, which knows of the queue too."""
        super().__init__()
        self.view, self.row, self.state = view, row, row.status.text
        self._ascii = ascii_only
        self._page = page
        self._dataset = "domain"
        self._broken_first = False
        self._reading: object = None
        self._read: dict[tuple[str, object], Transcripts] = {}

    def compose(self) -> ComposeResult:
        """Tabs above one page."""
        yield Tabs(ascii_only=self._ascii, id="tabs")
        yield TextView(ascii_only=self._ascii, id="page")
        yield KeysFooter(show_command_palette=False)

    def on_mount(self) -> None:
        """The first page."""
        self.query_one(TextView).focus()
        self._fill(fresh=True)

    def on_resize(self, event: Resize) -> None:
        """Transcripts are broken at the screen's width."""
        self.call_after_refresh(self._fill)

    def show(self, board: Board) -> None:
        """A new board: the run may have gone on."""
        new, row = board.selected, board.row(self.view.row_id)
        fresh = new is not None and new.row_id == self.view.row_id and new is not self.view
        if fresh and new is not None:
            self.view = new
        row = self.row if row is None else row
        if fresh or row != self.row:
            self.row, self.state = row, row.status.text
            self._fill()
        elif self._page == "log" and self.view.snapshot.state.active:
            self._fill()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only the transcripts have an order and two sets."""
        if action == "copy":
            return self._page == "verdict"
        return self._page == "transcripts" if action in ("order", "dataset") else True

    def action_close(self) -> None:
        """Back to the board."""
        self.dismiss()

    def action_page(self, name: str) -> None:
        """Open a page."""
        self._page = name
        self.refresh_bindings()
        self._fill(fresh=True)

    def action_turn(self, by: int) -> None:
        """The next page, or the one before."""
        self.action_page(PAGES[(PAGES.index(self._page) + by) % len(PAGES)])

    def action_copy(self) -> None:
        """Put what the page says of shipping, or how it was judged, on the clipboard of the terminal (OSC 52)."""
        text = ship_text(self.view, self.row)
        self.app.copy_to_clipboard(text)
        self.notify(f"{len(text.splitlines())} lines are on the clipboard, where the terminal allows it", timeout=3)

    def action_order(self) -> None:
        """Order the transcripts: most fixed words first, or most broken."""
        self._broken_first = not self._broken_first
        self._fill(fresh=True)

    def action_dataset(self) -> None:
        """Show the other evaluation set."""
        self._dataset = "heldout" if self._dataset == "domain" else "domain"
        self._fill(fresh=True)

    def _fill(self, *, fresh: bool = False) -> None:
        if not self.query(Footer):
            return  # a screen that closes
        page = self.query_one(TextView)
        note = ""
        lines: list[Pieces] = []
        if self._page == "intervals":
            lines = interval_lines(self.view, max(20, page.size.width))
        elif self._page == "settings":
            lines = settings_lines(self.view)
        elif self._page == "log":
            log = read_tail(self.view.snapshot.paths.log)
            note = f"the end of {self.view.snapshot.paths.log}" if any(log) else ""
            lines = [[(line, "")] for line in log] if any(log) else [[("Nothing in the log yet.", "muted")]]
        elif self._page == "data":
            width = max(20, page.size.width)
            lines = health_lines(self.view, width, ascii_only=self._ascii)
        elif self._page == "verdict":
            lines = ship_lines(self.view, self.row, max(20, page.size.width))
        else:
            note, lines = self._transcript_lines()
        follow = self._page == "log" if fresh else None
        page.show(lines, top=0 if fresh else None, follow=follow)
        tabs = self.query_one(Tabs)
        tabs.title = sanitise(f"{self.view.label}  {self.view.snapshot.paths.name}  {self.state}", 300)
        stands = headline(self.row)
        tabs.stands = headline_pieces(stands.word, sanitise(stands.text, 600), stands.role)
        tabs.page, tabs.note = self._page, sanitise(note, 300)
        tabs.signs = "[sub] +ins --del" if self._page == "transcripts" else ""
        tabs.update()

    def _transcript_lines(self) -> tuple[str, list[Pieces]]:
        key = (self._dataset, self.view.verdict.best_step, self.view.judged.evidence.tuned_domain is None)
        found = self._read.get((self._dataset, key))
        if found is None and self._reading != key:
            self._reading = key
            self.run_worker(lambda: self._load(self._dataset, key), thread=True, exclusive=True, exit_on_error=False)
        if found is None:
            return "reading and aligning …", []
        if found.problem:
            return "", [[(found.problem, "muted")]]
        order = "most broken first" if self._broken_first else "most fixed first"
        against = "" if found.tuned_name == "tuned" else f" ({found.tuned_name})"
        units = self.view.snapshot.unit.plural
        note = f"{self._dataset}{against}: {found.fixed} {units} fixed, {found.broken} broken, "
        note += f"{len(found.clips)} clips; {order}"
        width = max(20, self.query_one(TextView).size.width)
        clips = found.sorted(broken_first=self._broken_first)
        lines = [line for clip in clips[:_MOST_CLIPS] for line in clip_lines(clip, width)]
        if len(clips) > _MOST_CLIPS:
            lines.append([(f"and {len(clips) - _MOST_CLIPS} more clips between these and the other end", "muted")])
        return note, lines

    def _load(self, dataset: str, key: object) -> None:
        """Read the page's files; called in a worker thread."""
        snapshot = self.view.snapshot
        found = read_transcripts(snapshot.paths, dataset, self.view.verdict.best_step, snapshot.unit)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._loaded, dataset, key, found)

    def _loaded(self, dataset: str, key: object, found: Transcripts) -> None:
        self._read[dataset, key] = found
        if self.is_mounted:
            self._fill(fresh=True)
