"""HTTP itself: what is asked, what is answered, which function answers, and what may be made to go wrong."""

import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlencode

if TYPE_CHECKING:
    from .hub import Account, LoopbackHub

logger = logging.getLogger(__name__)

REPO = r"/api/(?P<kind>models|datasets|spaces)/(?P<name>[^/]+(?:/[^/]+)?)"  # one word too: "gpt2" must be looked for
GIT_REPO = r"/(?:(?P<kind>datasets|spaces)/)?(?P<name>[^/]+(?:/[^/]+)?)"
REVISION = r"(?P<revision>[^/]+)"  # the clients quote its slashes, which is why the raw path is matched


class Seen(NamedTuple):
    """One request as it arrived (the path still quoted, with its query) and the status it got; 0 is no answer."""

    method: str
    path: str
    token: str | None
    status: int


@dataclass
class Request:
    """One request, its body read; `account` is filled in once the token is known to be right."""

    method: str
    target: str
    headers: Any
    body: bytes
    account: "Account | None" = None

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @cached_property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.target.partition("?")[2], keep_blank_values=True)

    @property
    def token(self) -> str | None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" and token else None

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[-1].lower() in ("1", "true")

    def json(self) -> dict[str, Any]:
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise HubError(400, f"The body is not JSON: {error}") from error


@dataclass
class Answer:
    """What is sent back; the body may be a view into a file, so that large ones are never copied."""

    body: bytes | memoryview = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> "Answer":
        body = json.dumps(value, default=str).encode()  # str: the dates that YAML finds in a card
        return cls(body, status, {"Content-Type": "application/json", **(headers or {})})


class HubError(Exception):
    """A refusal, with the headers by which the clients choose the exception they raise."""

    def __init__(self, status: int, message: str, code: str | None = None, **body: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.body = status, message, body
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})

    def answer(self) -> Answer:
        return Answer.json({"error": self.message, **self.body}, self.status, self.headers)


Endpoint = Callable[..., Answer]
ROUTES: list[tuple[str, re.Pattern[str], Endpoint]] = []


def route(method: str, pattern: str) -> Callable[[Endpoint], Endpoint]:
    """Registers a function under a method and a pattern of the raw path; its groups become keywords, unquoted."""

    def register(endpoint: Endpoint) -> Endpoint:
        ROUTES.append((method, re.compile(pattern), endpoint))
        return endpoint

    return register


def dispatch(hub: "LoopbackHub", request: Request) -> Answer:
    """The answer of the first route that fits; what no route knows is 404, as telemetry should be."""
    method = "GET" if request.method == "HEAD" else request.method
    for wanted, pattern, endpoint in ROUTES:
        if wanted == method and (match := pattern.fullmatch(request.path)):
            return endpoint(hub, request, **{key: unquote(value or "") for key, value in match.groupdict().items()})
    raise HubError(404, "Sorry, we can't find the page you are looking for.")


def paged(hub: "LoopbackHub", request: Request, items: Sequence[Any], size: int) -> Answer:
    """One page of the items, and in `Link` where the next one is."""
    start = int(request.query.get("cursor", ["0"])[0])
    end = start + max(1, min(size, hub.page_size))
    headers = {}
    if end < len(items):
        query = urlencode({**request.query, "cursor": end}, doseq=True)
        headers["Link"] = f'<{hub.endpoint}{request.path}?{query}>; rel="next"'
    return Answer.json(items[start:end], headers=headers)


@dataclass
class Fault:
    """Something that goes wrong on the next `times` requests that fit.

    - `status`: that status instead of an answer.
    - `slow`: the answer comes `seconds` late.
    - `truncate`: only the first `after_bytes` of the body (half of it by default), with a `Content-Length` that
      agrees: what a bad proxy does, and only the file's known size or hash can show it.
    - `disconnect`: the whole length is promised, and the line goes dead after `after_bytes` of the body; by
      default before anything is answered; with `lose_answer` the request is carried out, and only its answer is lost.

    The first `spare` requests that fit are answered as usual.
    """

    path_contains: str = ""
    kind: Literal["status", "slow", "truncate", "disconnect"] = "status"
    method: str | None = None
    times: int = 1
    status: int = 503
    seconds: float = 0.0
    after_bytes: int | None = None
    spare: int = 0
    lose_answer: bool = False

    def fits(self, request: Request) -> bool:
        """Whether it is this fault's turn; the path is compared unquoted, with its query."""
        cuts_body = self.kind == "truncate" or self.after_bytes is not None
        if self.times <= 0 or (cuts_body and request.method == "HEAD"):  # HEAD has no body to cut
            return False
        return self.method in (None, request.method) and self.path_contains in unquote(request.target)


class Handler(BaseHTTPRequestHandler):
    """Reads one request, lets the hub answer it, and writes the answer, or what the fault leaves of it."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # headers and body leave together: apart, each answer waits 40 ms for the other side's ACK
    disable_nagle_algorithm = True
    server: "Server"

    def serve(self) -> None:
        request = Request(self.command, self.path, self.headers, self._read_body())
        hub = self.server.hub
        fault = hub.take_fault(request)
        if fault is not None and fault.kind == "slow":
            self.server.stopped.wait(fault.seconds)
        if fault is not None and fault.kind == "disconnect" and fault.after_bytes is None:
            if fault.lose_answer:
                hub.answer(request)
            hub.requests.append(Seen(request.method, request.target, request.token, 0))
            self.close_connection = True
            return
        if fault is not None and fault.kind == "status":
            answer = HubError(fault.status, "This failure was asked for by the test.").answer()
        else:
            answer = hub.answer(request)
        # Noted before it is sent: a test that has its answer may look at once.
        hub.requests.append(Seen(request.method, request.target, request.token, answer.status))
        self._write(answer, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve  # noqa: N815

    def log_message(self, *args: Any) -> None:
        """Nothing: `hub.requests` is the log."""

    def _write(self, answer: Answer, fault: Fault | None) -> None:
        body = memoryview(answer.body)
        sent = body if self.command != "HEAD" else body[:0]
        if fault is not None and fault.kind in ("truncate", "disconnect"):
            sent = sent[: len(sent) // 2 if fault.after_bytes is None else fault.after_bytes]
        if fault is not None and fault.kind == "truncate":
            body = sent
        if fault is not None and fault.kind == "disconnect":
            self.close_connection = True
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)


class Server(ThreadingHTTPServer):
    """A thread for each connection, and all of them gone after `stop`, also those a client keeps alive."""

    request_queue_size = 128

    def __init__(self, hub: "LoopbackHub", port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.hub = hub
        self.stopped = threading.Event()
        self._serving: dict[threading.Thread, socket.socket] = {}

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # not HTTPServer's: it asks for this machine's full name, slow without a DNS
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._serving[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._serving.pop(threading.current_thread(), None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: what a handler can get wrong is answered with 500, so only the client going away is left."""
        logger.debug("%s went away", client_address, exc_info=True)

    @contextmanager
    def running(self) -> Iterator["Server"]:
        thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True, name="loopback-hub")
        thread.start()
        try:
            yield self
        finally:
            self.stopped.set()
            self.shutdown()
            thread.join()
            self._hang_up()
            self.server_close()

    def _hang_up(self) -> None:
        for thread, connection in list(self._serving.items()):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for the next request
            thread.join(timeout=2)
