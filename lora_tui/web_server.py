"""The web server of `lora-tui serve`: textual-serve's, which answers only who was given its address.

Every user of the machine, and every web page in its browsers, can reach a port of the loopback address. So the address
that is printed holds a token, as Jupyter's does. A browser that brings it goes on with a cookie, under a path that
nobody can guess: browsers send a cookie to all ports of a host, where other users may listen, but only under its path.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web
from textual_serve.server import Server

from core.console import err

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
COOKIE = "lora-tui"
REFUSED = "Open the address that `lora-tui serve` has printed, with its token, in this browser.\n"
FOREIGN = "lora-tui serve answers only its own pages.\n"


_LINK_OUT = re.compile(r"<(?:link|script)\b[^>]*\b(?:href|src)\s*=\s*[\"']?(?:https?:)?//[^>]*>", re.IGNORECASE)


class _Warnings(logging.Handler):
    """Says what a library logs as everything is said."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record on stderr."""
        err(self.format(record), multiline=True)


class LoopbackServer(Server):  # type: ignore[misc,unused-ignore] # it has no types
    """Bound to one address. Refuses who has not the token, requests for another name, and those of other pages."""

    def __init__(self, command: str, host: str, port: int) -> None:
        super().__init__(command, host=host, port=port, title="lora-tui")
        self._name = f"{host}:{port}"
        self._token, self._session = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._prefix = f"/{secrets.token_urlsafe(16)}"

    @property
    def address(self) -> str:
        """What a browser opens first."""
        return f"http://{self._name}/?token={self._token}"

    async def _make_app(self) -> web.Application:
        pages = await super()._make_app()
        pages.middlewares.append(self._only_known)
        app = web.Application(middlewares=[self._only_own])
        app.router.add_get("/", self._enter)
        app.add_subapp(self._prefix, pages)
        app.on_response_prepare.append(self._harden)
        return app

    async def handle_index(self, request: web.Request) -> web.Response:
        """The page with the terminal."""
        page: web.Response = await super().handle_index(request)
        # textual-serve names its own script and style with this host, too
        page.text = titled(without_links_out((page.text or "").replace(f'"{self.public_url}/', '"/')))
        return page

    def initialize_logging(self) -> None:
        """Only what goes wrong: a list of requests would show the token."""
        logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
        logging.basicConfig(level=logging.WARNING, handlers=[_Warnings()])

    async def on_startup(self, app: web.Application) -> None:
        """No banner: what there is to say was said."""

    @web.middleware  # type: ignore[untyped-decorator,unused-ignore]
    async def _only_own(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not allowed(request.headers.get("Host"), request.headers.get("Origin"), self._name):
            raise web.HTTPForbidden(text=FOREIGN)
        return await handler(request)

    @web.middleware  # type: ignore[untyped-decorator,unused-ignore]
    async def _only_known(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not same(request.cookies.get(COOKIE), self._session):
            raise web.HTTPForbidden(text=REFUSED)
        return await handler(request)

    async def _enter(self, request: web.Request) -> web.StreamResponse:
        """From the address with the token to the dashboard."""
        if not same(request.query.get("token"), self._token):
            raise web.HTTPForbidden(text=REFUSED)
        page = web.HTTPSeeOther(f"{self._prefix}/")
        page.set_cookie(COOKIE, self._session, path=self._prefix, httponly=True, samesite="Lax")
        raise page

    async def _harden(self, request: web.Request, response: web.StreamResponse) -> None:
        """No page is shown in a frame, asks anybody but this server for anything, or is kept."""
        response.headers["Content-Security-Policy"] = (
            f"default-src 'self'; connect-src 'self' ws://{self._name}; img-src 'self' data:; font-src 'self' data:; "
            "script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-store"


def allowed(host: str | None, origin: str | None, name: str) -> bool:
    """Whether the request names this server, and, when a page made it, comes from a page of this server. Pure."""
    return host == name and (origin is None or origin == f"http://{name}")


def same(given: str | None, secret: str) -> bool:
    """Whether it is the secret, in a time that tells nothing of it."""
    return hmac.compare_digest((given or "").encode("utf-8", "surrogateescape"), secret.encode())


def titled(page: str) -> str:
    """The page with a title, by which a browser names its tab; textual-serve's has none. Pure."""
    return page if "<title>" in page else page.replace("<head>", "<head><title>lora-tui</title>", 1)


def without_links_out(page: str) -> str:
    """The page without what asks another host for something: textual-serve's asks for a font. Pure."""
    return _LINK_OUT.sub("", page)
