"""Uses the whole surface of FastHttpUser on the base class named; prints what was seen as JSON.

Run by test_session.py: ``python surface.py FastHttpUser|HarnessUser``.
"""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import threading
import traceback
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        path = self.path.partition("?")[0]
        status, headers, answer = 200, {}, b"hello"
        if path.startswith("/status/"):
            status = int(path.rsplit("/", 1)[1])
        elif path == "/json":
            headers, answer = {"Content-Type": "application/json"}, b'{"a": [1, 2]}'
        elif path == "/notjson":
            answer = b"<html>"
        elif path == "/latin":
            headers = {"Content-Type": "text/plain; charset=latin-1"}
            answer = "gr\xfc\xdfe".encode("latin-1")
        elif path == "/gzip":
            headers, answer = {"Content-Encoding": "gzip"}, gzip.compress(b"hello" * 9)
        elif path == "/deflate":
            headers, answer = {"Content-Encoding": "deflate"}, zlib.compress(b"hello" * 9)
        elif path == "/badgzip":
            headers = {"Content-Encoding": "gzip"}
        elif path == "/lines":
            answer = b"one\ntwo\nthree"
        elif path.startswith("/redirect/"):
            _, _, code, to = path.split("/", 3)
            status, headers, answer = int(code), {"Location": f"/{to}"}, b""
        elif path == "/loop":
            status, headers = 302, {"Location": "/loop"}
        elif path == "/setcookie":
            headers = {"Set-Cookie": "taste=sweet; Path=/"}
        elif path == "/close":
            self.close_connection = True
            return
        elif path == "/garbage":
            self.wfile.write(b"this is not http\r\n\r\n")
            self.close_connection = True
            return
        elif path == "/echo":
            wanted = ("content-type", "accept", "authorization", "cookie", "x-a")
            fields = {k.lower(): v for k, v in self.headers.items() if k.lower() in wanted}
            if "boundary=" in fields.get("content-type", ""):
                boundary = fields["content-type"].partition("boundary=")[2]
                body = body.replace(boundary.encode(), b"BOUNDARY")
                fields["content-type"] = "multipart"
            told = {"method": self.command, "path": self.path, "fields": fields}
            answer = json.dumps({**told, "body": body.decode("latin-1")}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        empty = self.command == "HEAD" or status in (204, 304)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if not empty:
            self.wfile.write(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = do_OPTIONS = handle_any

    def log_message(self, *_: object) -> None:
        pass


def serve() -> None:
    """Say the port, then serve until standard input ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


# ---- the cases: each a task's body; what it returns is compared -----------------------------


def case_get(user):
    r = user.client.get("/")
    return r.status_code, r.content, r.text, r.ok, r.url, r.headers["content-length"]


def case_headers_are_found_in_any_case(user):
    r = user.client.get("/json")
    return r.headers["CONTENT-type"], r.headers.get("nope"), "Content-Type" in r.headers


def case_json(user):
    return user.client.get("/json").json()


def case_text_is_decoded(user):
    return user.client.get("/latin").text


def case_gzip_and_deflate(user):
    return user.client.get("/gzip").text, user.client.get("/deflate").text


def case_methods(user):
    c = user.client
    made = (c.get, c.put, c.post, c.patch, c.delete, c.options)
    return [call("/echo").json()["method"] for call in made], c.head("/").status_code


def case_request_verb(user):
    return user.client.request("PUT", "/echo", data="x", name="named").json()


def case_data_text_bytes_and_form(user):
    c = user.client
    return [c.post("/echo", data=d).json() for d in ("t\xe9xt", b"bytes", {"a": "1", "b": "2 3"})]


def case_json_body(user):
    return user.client.post("/echo", json={"a": 1}).json(), user.client.put(
        "/echo", json=[1]
    ).json()


def case_own_headers(user):
    return user.client.get("/echo", headers={"X-A": "b", "Accept": "text/x"}).json()


def case_basic_auth(user):
    return user.client.get("/echo", auth=("user", "pass")).json()


def case_query(user):
    c = user.client
    return [
        c.get("/echo", params={"a": "1", "b": "x y"}).json()["path"],
        c.get("/echo?z=1").json()["path"],
        c.get("/echo?q=a b\xe9").json()["path"],
    ]


def case_files(user):
    r = user.client.post("/echo", files={"f": ("name.txt", io.BytesIO(b"content"), "text/x")})
    body = r.json()
    return body["fields"], "content" in body["body"], 'filename="name.txt"' in body["body"]


def case_name_groups(user):
    user.client.get("/?a=1", name="/grouped")
    with user.client.rename_request("renamed"):
        user.client.get("/?a=2")
    return user.client.get("/").status_code


def case_bad_status(user):
    return [(user.client.get(f"/status/{s}").status_code) for s in (404, 500, 201, 204, 304)]


def case_catch_response_failure(user):
    with user.client.get("/", catch_response=True) as r:
        r.failure("not what I wanted")
    return r.status_code


def case_catch_response_success(user):
    with user.client.get("/status/404", catch_response=True) as r:
        if r.status_code == 404:
            r.success()
    return r.content


def case_catch_response_left_alone(user):
    with user.client.get("/status/500", catch_response=True):
        pass
    with user.client.get("/", catch_response=True) as r:
        pass
    return r.ok


def case_catch_response_exception(user):
    from locust.exception import ResponseError

    with user.client.get("/", catch_response=True):
        raise ResponseError("odd")
    try:
        with user.client.get("/", catch_response=True):
            raise ValueError("mine")
    except ValueError as error:
        return str(error)


def case_success_without_with_is_refused(user):
    from locust.exception import LocustError

    r = user.client.get("/")
    refused = []
    for call in (r.success, r.failure):
        try:
            call()
        except LocustError as error:
            refused.append(type(error).__name__)
    try:
        with user.client.get("/"):
            pass
    except LocustError as error:
        refused.append(type(error).__name__)
    return refused


def case_redirects(user):
    c = user.client
    return [
        [c.get(f"/redirect/{code}/json").json() for code in (301, 302, 303, 307, 308)],
        c.post("/redirect/302/echo", data="x").json(),
        c.post("/redirect/307/echo", data="x").json(),
        c.get("/redirect/302/json", allow_redirects=False).status_code,
    ]


def case_redirect_loop(user):
    return user.client.get("/loop").status_code


def case_cookies(user):
    user.client.get("/setcookie")
    first = user.client.get("/echo").json()["fields"]
    again = user.client.get("/echo").json()["fields"]
    names = [cookie.name for cookie in user.client.cookiejar]
    user.client.cookiejar.clear()
    return first, again, names, user.client.get("/echo").json()["fields"]


def case_connection_ends(user):
    return user.client.get("/close").status_code, user.client.get("/").status_code


def case_garbage(user):
    return user.client.get("/garbage").status_code


def case_nobody_listens(user):
    r = user.client.get("http://127.0.0.1:9/x")
    try:
        r.raise_for_status()
    except OSError as error:
        return r.status_code, type(error).__name__, r.content, r.text


def case_broken_encoding(user):
    return user.client.get("/badgzip").status_code


def case_stream(user):
    r = user.client.get("/lines", stream=True)
    return r.status_code, b"".join(c.encode() for c in r.iter_content(4)).decode()


def case_iter_lines(user):
    return list(user.client.iter_lines("/lines"))


def case_rest(user):
    with user.rest("GET", "/json") as r:
        assert r.js["a"][0] == 2, "first is wrong,"
    with user.rest("POST", "/echo", json={"q": 1}) as r:
        return r.js["method"], r.js["body"], r.js["fields"]


def case_rest_not_json(user):
    with user.rest("GET", "/notjson") as r:
        return r.js


def case_rest_nobody_listens(user):
    with user.rest("GET", "http://127.0.0.1:9/x") as r:
        return r.js


def case_rest_time_stamped(user):
    with user.rest_("GET", "/echo") as r:
        return r.js["path"].startswith("/echo?_=")


def case_context_reaches_listeners(user):
    user.client.get("/", context={"k": "v"})
    return True


def case_request_of_a_response(user):
    r = user.client.post("/echo", data="abc", headers={"X-A": "b"})
    return r.request.method, r.request.url, r.request.body, r.request.headers["x-a"]


def case_absolute_urls(user):
    return user.client.get(user.host + "/json").json()


def case_default_headers(user):
    return user.client.get("/echo").json()["fields"].get("x-default")


def main(base_name: str) -> None:
    argv = [sys.executable, __file__, "serve"]
    # A process of its own: Locust patches this one's sockets and threads.
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        port = int(server.stdout.readline())
        print(json.dumps(seen_on(base_name, port)))
        server.stdin.close()


def seen_on(base_name: str, port: int) -> dict:
    from locust import FastHttpUser
    from locust.env import Environment

    from harness.load.session import HarnessUser

    base = {"FastHttpUser": FastHttpUser, "HarnessUser": HarnessUser}[base_name]

    class MyUser(base):  # type: ignore[misc, valid-type]
        host = f"http://127.0.0.1:{port}"
        network_timeout = 5.0

        def context(self):
            return {"who": "me"}

    environment = Environment(user_classes=[MyUser])
    events: list = []

    def heard(request_type, name, response_length, exception, context, response, url, **rest):
        events.append(
            [
                request_type,
                name.replace(str(port), "PORT"),
                response_length,
                type(exception).__name__ if exception else None,
                _said(exception),
                context,
                response is not None,
                url.replace(str(port), "PORT"),
                sorted(rest),
            ]
        )

    environment.events.request.add_listener(heard)
    found = {}
    for name, case in sorted(globals().items()):
        if name.startswith("case_"):
            events.clear()
            user = MyUser(environment)
            try:
                result = case(user)
            except Exception:  # noqa: BLE001 - what it raises is compared too
                result = traceback.format_exc().splitlines()[-1]
            text = json.dumps([result, events], default=_plain).replace(str(port), "PORT")
            found[name.removeprefix("case_")] = json.loads(_without_stamp(text))
    return found


def _said(exception) -> str | None:
    """What a failure is called; of transport errors only the kind is promised to be the same."""
    from locust.exception import CatchResponseError

    if isinstance(exception, CatchResponseError):
        return str(exception).partition(" at ")[0]
    code = getattr(exception, "code", None)
    return str(code) if code else None


def _without_stamp(text: str) -> str:
    import re

    return re.sub(r"_=\d{13}", "_=STAMP", text)


def _plain(value):
    return value.decode("latin-1") if isinstance(value, bytes) else repr(value)


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else main(sys.argv[1])
