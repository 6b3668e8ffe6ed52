"""A server of files on this machine, which can end a connection early and may not support ranges."""

import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by name and records in `asked` which ranges were requested."""

    files: dict[str, bytes]
    asked: list[str]
    ranges = True
    stop_after: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        data = self.server.files.get(self.path.rpartition("/")[2])
        if data is None:
            return self.send_error(404)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if self.server.ranges else 0
        if start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            return self.end_headers()
        self.send_response(206 if self.server.ranges else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = len(data) if self.server.stop_after is None else start + self.server.stop_after
        self.wfile.write(data[start:end])
        return None

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def serve_files(files: dict[str, bytes]) -> Iterator[Server]:
    """Serve files by name until the end of the block."""
    server = Server(("127.0.0.1", 0), Handler)
    server.files, server.asked = files, []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sha256(data: bytes) -> str:
    """Return the digest of some data with the name of the algorithm before it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def make_zip(**files: str) -> bytes:
    """Return a zip archive of texts; `__` in a name is a slash."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)
    return out.getvalue()
