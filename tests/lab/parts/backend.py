"""A server process for the load balancer's tests: ``backend.py HOST PORT MODE``.

It answers every request with its own address. ``ok`` answers 200; ``broken`` answers 503 to
everything but ``/health``; in both modes ``/bad`` is answered with 500.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

host, port, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        status = 200
        if self.path == "/bad":
            status = 500
        elif mode == "broken" and self.path != "/health":
            status = 503
        body = host.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def log_message(self, *args: object) -> None:
        pass


ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer((host, port), Handler).serve_forever()
