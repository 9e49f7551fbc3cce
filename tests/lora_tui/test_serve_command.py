from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

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

    names = {"127.0.0.1:8000", "localhost:8000"}
    assert allowed("127.0.0.1:8000", None, names) and allowed("localhost:8000", "http://127.0.0.1:8000", names)
    assert not allowed("evil.example:8000", None, names) and not allowed(None, None, names)
    assert not allowed("127.0.0.1:8000", "http://evil.example", names)
    assert not allowed("127.0.0.1:8000", "null", names)


@pytest.mark.heavy
def test_a_browser_gets_the_dashboard_from_the_loopback_only(tmp_path: Path) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    pytest.importorskip("textual_serve")
    import asyncio

    port = free_port()
    arguments = ["serve", "--port", str(port), "--runs", str(tmp_path / "runs")]
    server = subprocess.Popen(
        [sys.executable, "-m", "lora_tui", *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}/"
        deadline = time.monotonic() + 60
        while True:
            try:
                page = urllib.request.urlopen(url, timeout=5).read().decode()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert "lora-tui" in page
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(url, headers={"Host": "evil.example"}), timeout=5)
        assert refused.value.code == 403

        async def look() -> bytes:
            seen = b""
            async with aiohttp.ClientSession() as session:
                socket_url = f"ws://127.0.0.1:{port}/ws?width=100&height=30"
                async with session.ws_connect(socket_url, origin=f"http://127.0.0.1:{port}") as browser:
                    while b"lora-tui init" not in seen:
                        message = await asyncio.wait_for(browser.receive(), 60)
                        seen += message.data if isinstance(message.data, bytes) else str(message.data).encode()
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    await session.ws_connect(socket_url, origin="http://evil.example")
            return seen

        assert b"read only" in asyncio.run(look())
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(20) in (0, 2)
