"""An HTTP server for small archives of CIFAR."""

import contextlib
import http.server
import re
import threading
import time

import pytest

from tests.data.cifar_archives import expect, make_archive


@pytest.fixture
def server(monkeypatch):
    """An HTTP server on loopback that knows Range; `cut`: bytes after which it hangs up.

    With `endless`, it goes on for ever instead, with a pause of so many seconds after each word.
    """

    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            server.requests.append(asked)
            if self.path != "/archive":
                self.send_error(404)
                return
            start = 0
            if asked and server.ranges:
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-/{len(server.content)}")
            else:
                self.send_response(200)
            if server.endless is None:
                self.send_header("Content-Length", str(len(server.content) - start))
            self.end_headers()
            self.wfile.write(server.content[start : server.cut])
            with contextlib.suppress(OSError):  # until the other side hangs up
                while server.endless is not None:
                    self.wfile.write(b"more")
                    time.sleep(server.endless)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.ranges, server.cut, server.endless = [], True, None, None
        server.url = f"http://127.0.0.1:{server.server_port}/archive"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def served(server, tmp_path, monkeypatch):
    """Has the server offer a small cifar10, and `prepare` expect it from there."""
    path = tmp_path / "made"
    make_archive("cifar10", path)
    server.content = path.read_bytes()
    expect(monkeypatch, "cifar10", path, server.url)
    return server
