"""A web site on the loopback that serves files of the shape of the authors'."""

from __future__ import annotations

from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Serves bytes by path, ranges included; paths in ``cut`` break off once in the middle."""

    def __init__(self, *args: object, site: Site) -> None:
        self.site = site
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.site.asked.append((self.path, self.headers.get("Range")))
        content = self.site.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if start >= len(content) and start:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if self.path in self.site.cut:
            self.site.cut.remove(self.path)
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Site:
    """A web site on the loopback."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: list[str] = []
        self.asked: list[tuple[str, str | None]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, site=self))
        self.url = "http://{}:{}".format(*self.server.server_address[:2])
