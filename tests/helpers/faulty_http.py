"""A proxy in front of a server on loopback that fails the requests it is told to fail."""

from __future__ import annotations

import http.client
import http.server
import socket
import threading

HOP_BY_HOP = {"connection", "transfer-encoding", "expect", "keep-alive", "host"}


class FaultyProxy:
    """Passes requests on, and notes them.

    Args:
        host: The server's.
        port: The server's.

    Attributes:
        requests: `(method, path)` of each request, in their order.
        fault: Takes method, path and body; returns `None` to pass the request on, a status to
            answer with, `"cut"` to end the connection instead, or `"lose the answer"` to end it
            when the server has done what it was asked.
    """

    def __init__(self, host, port):
        self.server = (host, port)
        self.requests = []
        self.fault = lambda method, path, body: None
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def _handler(proxy):  # noqa: N805 - the handler has a self of its own
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except ConnectionError:  # the client has gone, as it may
                    self.close_connection = True

            def relay(self):
                body = self.body()
                proxy.requests.append((self.command, self.path))
                fault = proxy.fault(self.command, self.path, body)
                if fault == "cut":
                    self.cut()
                    return
                if isinstance(fault, int):
                    self.answer(fault, [("Content-Length", "0")], b"")
                    return
                connection = http.client.HTTPConnection(*proxy.server, timeout=30)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
                headers["Content-Length"] = str(len(body))
                headers["Host"] = self.headers["Host"]  # it is part of the signature
                connection.request(self.command, self.path, body, headers)
                response = connection.getresponse()
                data = response.read()
                connection.close()
                if fault == "lose the answer":
                    self.cut()
                    return
                kept = [(k, v) for k, v in response.getheaders() if k.lower() not in HOP_BY_HOP]
                if response.getheader("Content-Length") is None:
                    kept.append(("Content-Length", str(len(data))))
                self.answer(response.status, kept, data)

            def __getattr__(self, name):
                if name in ("do_GET", "do_PUT", "do_POST", "do_HEAD", "do_DELETE"):
                    return self.relay
                raise AttributeError(name)

            def body(self):
                if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    continue  # trailers
                return b"".join(parts)

            def answer(self, status, headers, data):
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def cut(self):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

            def log_message(self, *args):
                pass

        return Handler
