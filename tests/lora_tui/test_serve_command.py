from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import DEADLINE_S, wait_for

from lora_tui import serve_command
from lora_tui.__main__ import main


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_without_the_extra_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(serve_command, "find_spec", lambda name: None)
    assert main(["serve", "--runs", str(tmp_path)]) == 4
    assert "pip install 'lora-tui[serve]'" in capsys.readouterr().err


def test_a_taken_port_and_a_wrong_one_are_errors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("textual_serve")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", "--runs", str(tmp_path), "--port", str(taken.getsockname()[1])]) == 4
    assert "is taken" in capsys.readouterr().err
    assert main(["serve", "--port", "0"]) == 4


def test_only_its_own_pages_are_answered() -> None:
    pytest.importorskip("textual_serve")
    from lora_tui.web_server import allowed

    name = "127.0.0.1:8000"
    assert allowed(name, None, name) and allowed(name, "http://127.0.0.1:8000", name)
    assert not allowed("evil.example:8000", None, name) and not allowed(None, None, name)
    for origin in (
        "http://evil.example",
        "null",
        "https://127.0.0.1:8000",
        "http://127.0.0.1:9999",
        "http://localhost:8000",
    ):
        assert not allowed(name, origin, name), origin


@pytest.mark.parametrize(
    "line",
    [
        '<link\n  rel="stylesheet"\n  href="https://fonts.googleapis.com/css?family=Roboto%20Mono"\n />',
        "<script src='//cdn.example/x.js'>",
        "<LINK HREF=http://cdn.example/x.css>",
    ],
)
def test_the_page_asks_no_other_host(line: str) -> None:
    pytest.importorskip("textual_serve")
    from lora_tui.web_server import without_links_out

    kept = '<link rel="stylesheet" href="/static/css/xterm.css" /><p>see https://example.org</p>'
    assert without_links_out(f"{kept}{line}{kept}") == f"{kept}{kept}"


def test_the_page_has_a_title_by_which_its_tab_is_named() -> None:
    pytest.importorskip("textual_serve")
    from lora_tui.web_server import titled

    assert titled("<html><head><link></head>") == "<html><head><title>lora-tui</title><link></head>"
    assert titled("<head><title>own</title>") == "<head><title>own</title>"


class Served:
    """`lora-tui serve` as a process."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        arguments = ["serve", "--port", str(self.port), "--runs", str(folder / "runs")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lora_tui", *arguments], cwd=folder, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        assert self.process.stderr is not None
        self.address = self.process.stderr.readline().split()[0]
        self.home = f"http://127.0.0.1:{self.port}"

        def answers() -> bool:
            assert self.process.poll() is None
            return self.get(f"{self.home}/")[0] != 0

        wait_for(answers)

    def get(self, url: str, **headers: str) -> tuple[int, str, Any]:
        """Status (0: no answer), text and headers; redirections are not followed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request("GET", url.removeprefix(self.home), headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace"), answer.headers
        except OSError:
            return 0, "", {}
        finally:
            connection.close()

    def enter(self) -> tuple[str, str]:
        """The path of the dashboard, and the cookie."""
        status, _, headers = self.get(self.address)
        assert status == 303
        return headers["Location"], headers["Set-Cookie"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pytest.importorskip("textual_serve")
    server = Served(tmp_path_factory.mktemp("served"))
    yield server
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(20) in (0, 2)
    assert server.process.stderr is not None
    assert "token" not in server.process.stderr.read(), "it is printed once"


def test_who_has_no_token_gets_nothing(served: Served) -> None:
    path, cookie = served.enter()
    inside = ("ws", "static/js/textual.js", "download/x")
    for url in (
        "/",
        "/?token=",
        "/?token=wrong",
        path,
        *(f"/{one}" for one in inside),
        *(path + one for one in inside),
    ):
        status, text, _ = served.get(url)
        assert status in (403, 404) and "terminal" not in text, url
    assert served.get(path, Cookie="lora-tui=wrong")[0] == 403
    assert served.get(path, Cookie=cookie.split(";")[0])[0] == 200


def test_the_cookie_is_for_its_path_and_no_script(served: Served) -> None:
    path, cookie = served.enter()
    words = {word.strip().lower() for word in cookie.split(";")}
    assert {"httponly", "samesite=lax", f"path={path.rstrip('/').lower()}"} <= words
    assert served.address.partition("token=")[2] not in cookie and len(path) > 16


def test_the_page_is_in_no_frame_and_asks_nobody_else(served: Served) -> None:
    path, cookie = served.enter()
    for url, more in ((path, {"Cookie": cookie.split(";")[0]}), ("/", {}), ("/nothing", {})):
        status, text, headers = served.get(url, **more)
        assert headers["X-Frame-Options"] == "DENY", (url, status)
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "no-referrer" and headers["Cache-Control"] == "no-store"
        hosts = set(re.findall(r"(?:https?|wss?)://([^/\"']+)", text))
        assert hosts <= {f"127.0.0.1:{served.port}", "www.w3.org"}, "the name of SVG is no request"


def test_the_page_has_the_script_and_the_style_without_which_it_stays_empty(served: Served) -> None:
    path, cookie = served.enter()
    known = {"Cookie": cookie.split(";")[0]}
    _, page, _ = served.get(path, **known)
    own = re.findall(r"<(?:script|link)\b[^>]*\b(?:src|href)=\"([^\"]+)\"", page)
    assert {name.rpartition("/")[2] for name in own} == {"textual.js", "xterm.css"}
    assert all(served.get(name, **known)[0] == 200 for name in own)
    assert f'"ws://127.0.0.1:{served.port}{path}ws"' in page, "where the script finds the dashboard"


def test_other_names_and_pages_are_refused_though_they_have_the_token(served: Served) -> None:
    path, cookie = served.enter()
    known = {"Cookie": cookie.split(";")[0]}
    for url in (served.address, path):
        assert served.get(url, Host=f"evil.example:{served.port}", **known)[0] == 403
        assert served.get(url, Origin="http://evil.example", **known)[0] == 403
        assert served.get(url, Origin="null", **known)[0] == 403


@pytest.mark.heavy
def test_a_browser_gets_the_dashboard(served: Served) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    import asyncio

    path, cookie = served.enter()
    known, own = {"Cookie": cookie.split(";")[0]}, f"http://127.0.0.1:{served.port}"

    async def look() -> bytes:
        seen = b""
        async with aiohttp.ClientSession() as session:
            url = f"ws://127.0.0.1:{served.port}{path}ws?width=100&height=30"
            async with session.ws_connect(url, origin=own, headers=known) as browser:
                while b"lora-tui init" not in seen:
                    message = await asyncio.wait_for(browser.receive(), 60)
                    seen += message.data if isinstance(message.data, bytes) else str(message.data).encode()
            for headers, origin in (({}, own), ({"Cookie": "lora-tui=wrong"}, own), (known, "http://evil.example")):
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    await session.ws_connect(url, origin=origin, headers=headers)
        return seen

    assert b"read only" in asyncio.run(look())
