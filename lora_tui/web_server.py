"""The web server of `lora-tui serve`: textual-serve's, which answers only pages that it has served itself.

A browser lets any web page open a WebSocket to this machine; without the check a page could press keys here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.server import Server

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LoopbackServer(Server):  # type: ignore[misc,unused-ignore] # it has no types
    """Bound to one address; refuses requests that were meant for another name, or come from another page."""

    def __init__(self, command: str, host: str, port: int) -> None:
        super().__init__(command, host=host, port=port, title="lora-tui")
        self._names = {f"{host}:{port}", f"localhost:{port}"}

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        names = self._names

        @web.middleware  # type: ignore[untyped-decorator,unused-ignore]
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not allowed(request.headers.get("Host"), request.headers.get("Origin"), names):
                raise web.HTTPForbidden(text="lora-tui serve answers only its own pages")
            return await handler(request)

        app.middlewares.append(guard)
        return app

    async def on_startup(self, app: web.Application) -> None:
        """No banner: what there is to say was said."""


def allowed(host: str | None, origin: str | None, names: set[str]) -> bool:
    """Whether the request names this server, and, when a page made it, comes from a page of this server. Pure."""
    return host in names and (origin is None or urlsplit(origin).netloc in names)
