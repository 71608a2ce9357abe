"""Every fault that a network or a server can produce, over real sockets, plain and TLS: the outcome is the truth.

Each case is a row: the server's behavior, and what the exchange proves. The server also counts requests: never a second
one, and "not sent" only if no request byte arrived or the response is one of the gateway's refusals.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from optus_sms.gateway.api import Outcome, PostResult, Stop, classify
from optus_sms.gateway.transport import CONNECT_SECONDS, MAX_BODY_BYTES, Exchange, Transport, failure_code
from tests.support.fault_server import (
    FaultServer,
    Peer,
    Script,
    client_tls,
    old_server_tls,
    server_tls,
    stranger_pem,
)

SENT, NOT_SENT, REJECTED, UNKNOWN = Outcome.ACCEPTED, Outcome.NOT_SENT, Outcome.REJECTED, Outcome.UNKNOWN
# Deadlines of the exchange: one that must not matter, and one that must end it.
AMPLE, SHORT = 15.0, 0.5
AT_A_TIME: Final = 4  # cases mostly wait, but a handshake must not take long
# If the peer breaks off, the error comes from the write, the read or TLS, depending on timing.
TOO_LARGE: Final = "response_too_large"
LOST: Final = ("connection_lost", "closed_without_response", "tls_failed")

GOOD: Final = b'{"id":"g-1","status":"accepted","detail":"Message queued"}'
HTML: Final = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>send_failed</body></html>"
BOMB: Final = gzip.compress(bytes(20_000_000))
DOCUMENTED_REFUSALS: Final = {400, 401, 403, 404, 405, 413, 415, 422, 429, *range(300, 400)}


@dataclass(frozen=True, slots=True)
class Case:
    """The server's behavior, and what it proves.

    ``reason``: of the outcome, or several, of which timing decides. ``failure``: of the exchange, if it must be that
    one. ``seconds``: the exchange's deadline; ``SHORT`` where nothing else would end it.
    """

    label: str
    server: Script
    outcome: Outcome
    reason: str | tuple[str, ...]
    status: int | None = None
    gateway_id: str | None = None
    failure: str | None = None
    seconds: float = AMPLE


def head(status: int, *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 %d Reason" % status, *headers, b"", b""])


def answer(status: int, body: bytes = GOOD, *headers: bytes) -> bytes:
    return head(status, b"Content-Length: %d" % len(body), *headers) + body


def error(status: int, word: str, field: str = "error") -> bytes:
    return answer(status, json.dumps({field: word}).encode(), b"Content-Type: application/json")


def silence(peer: Peer) -> None:
    peer.wait_until_closed()


def after_request(data: bytes = b"", then: Callable[[Peer], None] = Peer.fin) -> Script:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(data)
        then(peer)

    return script


def before_reading(data: bytes = b"", then: Callable[[Peer], None] = Peer.fin) -> Script:
    def script(peer: Peer) -> None:
        peer.wait_for_request()
        peer.send(data)
        then(peer)

    return script


def after_head(then: Callable[[Peer], None]) -> Script:
    def script(peer: Peer) -> None:
        peer.read_head()
        then(peer)

    return script


def dripping(data: bytes, *, start: bytes = b"", pause: float = 0.02) -> Script:
    return after_request(start, lambda peer: peer.drip(data, pause=pause))


def repeating(data: bytes, *, start: bytes = b"", pause: float = 0.0) -> Script:
    return after_request(start, lambda peer: peer.repeat(data, pause=pause))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED: Final = b"Transfer-Encoding: chunked"
NESTED: Final = b'{"error":' + b"[" * 30_000 + b"]" * 30_000 + b"}"

# The connection ends before a response: bytes left this machine, and none came back.
NO_ANSWER = [
    Case("FIN before the request is read", before_reading(), UNKNOWN, LOST),
    Case("RST before the request is read", before_reading(then=Peer.reset), UNKNOWN, LOST),
    Case("the request is never read", silence, UNKNOWN, "timed_out", seconds=SHORT),
    Case("FIN after the request's head", after_head(Peer.fin), UNKNOWN, LOST),
    Case("RST after the request's head", after_head(Peer.reset), UNKNOWN, LOST),
    Case("silence after the request's head", after_head(silence), UNKNOWN, "timed_out", seconds=SHORT),
    Case("FIN after the whole request: an empty answer", after_request(), UNKNOWN, "closed_without_response"),
    Case("RST after the whole request", after_request(then=Peer.reset), UNKNOWN, LOST),
    Case("silence after the whole request", after_request(then=silence), UNKNOWN, "timed_out", seconds=SHORT),
]

# A status line counts once its three digits are certain, even if the rest is missing.
CUT_STATUS_LINE = [
    Case("FIN inside the version", after_request(b"HTTP/1."), UNKNOWN, "not_http"),
    Case("FIN inside the status", after_request(b"HTTP/1.1 20"), UNKNOWN, "not_http"),
    Case("FIN after the status", after_request(b"HTTP/1.1 202"), SENT, "accepted", 202),
    Case("FIN inside the reason phrase", after_request(b"HTTP/1.1 202 Acc"), SENT, "accepted", 202),
    Case("FIN after 503", after_request(b"HTTP/1.1 503"), UNKNOWN, "server_error", 503),
    Case("FIN after 429", after_request(b"HTTP/1.1 429"), NOT_SENT, "throttled", 429),
    Case("RST inside the status", after_request(b"HTTP/1.1 20", Peer.reset), UNKNOWN, (*LOST, "not_http")),
    Case("RST inside the reason phrase", after_request(b"HTTP/1.1 202 Acc", Peer.reset), SENT, "accepted", 202),
    Case("silence inside the status", after_request(b"HTTP/1.1 20", silence), UNKNOWN, "timed_out", seconds=SHORT),
    Case("silence inside the reason phrase", after_request(b"HTTP/1.1 202 Acc", silence),
         SENT, "accepted", 202, failure="timed_out", seconds=SHORT),
    Case("202, an endless reason phrase", after_request(b"HTTP/1.1 202 " + b"A" * 70_000),
         SENT, "accepted", 202, failure="not_http"),
]  # fmt: skip

CUT_HEADERS = [
    Case("202, FIN inside a header", after_request(head(202)[:-2] + b"Content-Ty"), SENT, "accepted", 202),
    Case("202, RST inside a header", after_request(head(202)[:-2] + b"Content-Ty", Peer.reset), SENT, "accepted", 202),
    Case(
        "202, silence inside a header", after_request(head(202)[:-2] + b"Content-Ty", silence),
        SENT, "accepted", 202, failure="timed_out", seconds=SHORT,
    ),
    Case("200, FIN inside a header", after_request(head(200)[:-2] + b"Content-Ty"), UNKNOWN, "server_error", 200),
    Case("200, RST inside a header", after_request(head(200)[:-2] + b"Co", Peer.reset), UNKNOWN, "server_error", 200),
    Case("400, FIN inside a header", after_request(head(400)[:-2] + b"Content-Ty"), NOT_SENT, "refused_in_front", 400),
    Case("503, FIN inside a header", after_request(head(503)[:-2] + b"Content-Ty"), UNKNOWN, "server_error", 503),
    Case(
        "503, silence inside a header", after_request(head(503)[:-2] + b"Content-Ty", silence),
        UNKNOWN, "server_error", 503, failure="timed_out", seconds=SHORT,
    ),
]  # fmt: skip

CUT_BODY = [
    Case("202, FIN inside the body", after_request(answer(202)[:-9]), SENT, "accepted", 202, failure="cut_short"),
    Case("202, RST inside the body", after_request(answer(202)[:-9], Peer.reset), SENT, "accepted", 202),
    Case(
        "202, silence inside the body", after_request(answer(202)[:-9], silence),
        SENT, "accepted", 202, failure="timed_out", seconds=SHORT,
    ),
    Case("202, FIN before the body", after_request(answer(202)[: -len(GOOD)]), SENT, "accepted", 202),
    Case("200, FIN inside the body", after_request(answer(200)[:-9]), UNKNOWN, "server_error", 200),
    Case(
        "200, silence inside the body", after_request(answer(200)[:-9], silence),
        UNKNOWN, "server_error", 200, failure="timed_out", seconds=SHORT,
    ),
    Case(
        "503 send_failed, FIN inside the body", after_request(error(503, "send_failed")[:-4]),
        UNKNOWN, "server_error", 503, failure="cut_short",
    ),
    Case("400, RST inside the body", after_request(error(400, "invalid_json")[:-4], Peer.reset),
         NOT_SENT, "refused_in_front", 400),
]  # fmt: skip

NOT_HTTP = [
    Case(f"not HTTP: {label}", after_request(data), UNKNOWN, "not_http")
    for label, data in {
        "an SSH banner": b"SSH-2.0-OpenSSH_9.6\r\n",
        "an SMTP greeting": b"220 mail.example ESMTP\r\n",
        "a page without head": HTML,
        "binary": bytes(range(256)) * 8,
        "blank lines": b"\r\n" * 40,
        "only line ends before a good answer": b"\r\n\r\n" + answer(202),
        "SHOUTcast": b"ICY 202 OK\r\n\r\n",
        "lower case": b"http/1.1 202 OK\r\n\r\n",
        "HTTP/2": b"HTTP/2 202 Accepted\r\n\r\n",
        "HTTP/2 frames": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
        "a status that only Python reads as 202 (2_02)": b"HTTP/1.1 2_02 Accepted\r\n\r\n",
        "a status that only Python reads as 202 (+202)": b"HTTP/1.1 +202 Accepted\r\n\r\n",
        "a status of four digits (0202)": b"HTTP/1.1 0202 Accepted\r\n\r\n",
        "a status of four digits (2020)": b"HTTP/1.1 2020 Accepted\r\n\r\n",
        "a negative status": b"HTTP/1.1 -202 Accepted\r\n\r\n",
        "a status in words": b"HTTP/1.1 Accepted 202\r\n\r\n",
        "a status below 100": b"HTTP/1.1 002 Accepted\r\n\r\n",
        "no status": b"HTTP/1.1 \r\n\r\n",
    }.items()
]

INTERIM = [
    Case("100, then 202", after_request(head(100) + answer(202)), SENT, "accepted", 202, "g-1"),
    Case("102, then 202", after_request(head(102) + answer(202)), SENT, "accepted", 202, "g-1"),
    Case("103 with a link, then 202", after_request(head(103, b"Link: </a>") + answer(202)),
         SENT, "accepted", 202, "g-1"),
    Case("100, 103, 103, then 503", after_request(head(100) + head(103) * 2 + answer(503)),
         UNKNOWN, "server_error", 503),
    Case("103, then 429", after_request(head(103) + answer(429)), NOT_SENT, "throttled", 429),
    Case("100, then FIN", after_request(head(100)), UNKNOWN, "closed_without_response"),
    Case("100, then RST", after_request(head(100), Peer.reset), UNKNOWN, LOST),
    Case("103, then silence", after_request(head(103), silence), UNKNOWN, "timed_out", seconds=SHORT),
    Case("101: nobody asked for another protocol", after_request(head(101)), UNKNOWN, "not_http"),
    Case("endless 100s", repeating(head(100)), UNKNOWN, ("timed_out", "response_too_large"), seconds=SHORT),
    Case("endless 103s, one at a time", repeating(head(103), pause=0.02), UNKNOWN, "timed_out", seconds=SHORT),
]  # fmt: skip


def as_202_and_200(label: str, server: Callable[[int], Script], *, readable: bool) -> list[Case]:
    """Return the response with both statuses: 202 alone is proof, 200 only with an ID in a complete body."""
    gateway_id = "g-1" if readable else None
    return [
        Case(f"202, {label}", server(202), SENT, "accepted", 202, gateway_id),
        Case(f"200, {label}", server(200), SENT, "accepted", 200, gateway_id)
        if readable
        else Case(f"200, {label}", server(200), UNKNOWN, "server_error", 200),
    ]


def with_lengths(*lengths: bytes) -> Callable[[int], Script]:
    return lambda status: after_request(head(status, *[b"Content-Length: " + length for length in lengths]) + GOOD)


def in_chunks(body: bytes, then: Callable[[Peer], None] = Peer.fin) -> Callable[[int], Script]:
    return lambda status: after_request(head(status, CHUNKED) + body, then)


def with_body(body: bytes, *headers: bytes) -> Callable[[int], Script]:
    return lambda status: after_request(answer(status, body, *headers))


LENGTHS = [
    *as_202_and_200("length too long", with_lengths(b"5000"), readable=False),
    *as_202_and_200("length far too long", with_lengths(b"9" * 30), readable=False),
    *as_202_and_200("length too short", with_lengths(b"9"), readable=False),
    *as_202_and_200("length zero", with_lengths(b"0"), readable=False),
    *as_202_and_200("length negative", with_lengths(b"-5"), readable=True),
    *as_202_and_200("length in words", with_lengths(b"many"), readable=True),
    *as_202_and_200("length missing", with_lengths(), readable=True),
    *as_202_and_200("two different lengths", with_lengths(b"58", b"9"), readable=False),
    *as_202_and_200("a list of different lengths", with_lengths(b"58, 9"), readable=False),
    *as_202_and_200("two equal lengths", with_lengths(b"58", b"58"), readable=True),
]

WELL_CHUNKED: Final = chunk(GOOD[:9]) + chunk(GOOD[9:]) + b"0\r\n\r\n"
CHUNKS = [
    *as_202_and_200("chunked", in_chunks(WELL_CHUNKED), readable=True),
    *as_202_and_200(
        "chunk extensions and trailers", in_chunks(b"3a;a=b\r\n" + GOOD + b"\r\n0\r\nA: b\r\n\r\n"), readable=True
    ),
    *as_202_and_200("chunk size in words", in_chunks(b"many\r\n" + GOOD), readable=False),
    *as_202_and_200("chunk size negative", in_chunks(b"-5\r\n" + GOOD), readable=False),
    *as_202_and_200("chunk size beyond the data", in_chunks(b"ffffffffffff\r\n" + GOOD), readable=False),
    *as_202_and_200("endless chunk size", in_chunks(b"3" * 70_000), readable=False),
    *as_202_and_200("cut in a chunk size", in_chunks(b"3"), readable=False),
    *as_202_and_200("cut in a chunk", in_chunks(chunk(GOOD)[:-20]), readable=False),
    *as_202_and_200("cut before the last chunk", in_chunks(chunk(GOOD)), readable=False),
    *as_202_and_200("reset before the last chunk", in_chunks(chunk(GOOD), Peer.reset), readable=False),
    *as_202_and_200("chunked, no chunk", in_chunks(b""), readable=False),
    *as_202_and_200("chunked in name only", in_chunks(GOOD), readable=False),
    Case("202, endless trailers", repeating(b"A: b\r\n", start=head(202, CHUNKED) + chunk(GOOD) + b"0\r\n"),
         SENT, "accepted", 202, failure="timed_out", seconds=SHORT),
    Case("202, endless small chunks", repeating(chunk(b" " * 100), start=head(202, CHUNKED)),
         SENT, "accepted", 202, failure="body_too_large"),
    Case("202, chunked and with a length", after_request(head(202, CHUNKED, b"Content-Length: 9") + WELL_CHUNKED),
         SENT, "accepted", 202, "g-1"),
    Case("202, a transfer coding nobody knows", after_request(head(202, b"Transfer-Encoding: blocks") + GOOD),
         SENT, "accepted", 202, "g-1"),
]  # fmt: skip

# The transport requests no compression and never decompresses, so a compressed body is unreadable.
DEFLATE_BOMB: Final = zlib.compress(bytes(20_000_000))
GZIP: Final = b"Content-Encoding: gzip"
COMPRESSED = [
    *as_202_and_200("gzip", with_body(gzip.compress(GOOD), GZIP), readable=False),
    *as_202_and_200("gzip bomb", with_body(BOMB, GZIP), readable=False),
    *as_202_and_200("gzip bomb in a bomb", with_body(gzip.compress(BOMB), GZIP + b", gzip"), readable=False),
    *as_202_and_200("deflate bomb", with_body(DEFLATE_BOMB, b"Content-Encoding: deflate"), readable=False),
    *as_202_and_200("says gzip, is not", with_body(GOOD, GZIP), readable=True),
    *as_202_and_200("a chain of codings", with_body(GOOD, GZIP + b",gzip" * 50), readable=False),
    Case("503, gzip bomb", after_request(answer(503, BOMB, GZIP)), UNKNOWN, "server_error", 503),
    Case("302, gzip bomb", after_request(answer(302, BOMB, GZIP, b"Location: /elsewhere")),
         UNKNOWN, "server_error", 302),
    Case("302, endless gzip body", repeating(BOMB, start=head(302, GZIP, b"Location: /elsewhere")),
         UNKNOWN, "server_error", 302, failure="body_too_large"),
]  # fmt: skip

# Each byte comes soon, the end never: only a deadline over the exchange ends these.
DRIPS = [
    Case("status line byte by byte", dripping(b"HTTP/1.1 202 A", pause=0.2), UNKNOWN, "timed_out", seconds=SHORT),
    Case("202, reason phrase byte by byte", dripping(b"A" * 1000, start=b"HTTP/1.1 202 "),
         SENT, "accepted", 202, failure="timed_out", seconds=SHORT),
    Case("202, headers byte by byte", dripping(b"X: " + b"A" * 1000, start=head(202)[:-2]),
         SENT, "accepted", 202, failure="timed_out", seconds=SHORT),
    Case("503, headers byte by byte", dripping(b"X: " + b"A" * 1000, start=head(503)[:-2]),
         UNKNOWN, "server_error", 503, failure="timed_out", seconds=SHORT),
    Case("202, a header every 20 ms", repeating(b"X: 1\r\n", start=head(202)[:-2], pause=0.02),
         SENT, "accepted", 202, failure="timed_out", seconds=SHORT),
    Case("202, body byte by byte", dripping(b" " * 1000, start=head(202, b"Content-Length: 1000")),
         SENT, "accepted", 202, failure="timed_out", seconds=SHORT),
    Case("200, body byte by byte", dripping(b" " * 1000, start=head(200, b"Content-Length: 1000")),
         UNKNOWN, "server_error", 200, failure="timed_out", seconds=SHORT),
    Case("202, chunks byte by byte", dripping(chunk(b" ") * 200, start=head(202, CHUNKED)),
         SENT, "accepted", 202, failure="timed_out", seconds=SHORT),
    Case("202, all of it byte by byte, in time", dripping(answer(202), pause=0.001), SENT, "accepted", 202, "g-1"),
]  # fmt: skip

# What each status proves with an empty body: "certainly not sent" only for the gateway's own refusals.
STATUSES = [
    Case(f"status {status}", after_request(answer(status, b"{}")), outcome, reason, status)
    for outcome, reason, statuses in [
        (SENT, "accepted", [202]),
        (NOT_SENT, "refused_in_front", [400, 401, 403, 413, 422]),
        (NOT_SENT, "throttled", [429]),
        (NOT_SENT, "misconfigured", [404, 405, 415, 301, 307, 308]),
        (UNKNOWN, "server_error", [300, 302, 303, 304, 305, 306, 309, 399]),
        (UNKNOWN, "server_error", [200, 201, *range(203, 209), 226, 299]),
        (UNKNOWN, "server_error", [402, *range(406, 413), 414, *range(416, 419), 421, *range(423, 427), 428, 431]),
        (UNKNOWN, "server_error", [444, 451, 460, 494, 499]),
        (UNKNOWN, "server_error", [*range(500, 512), *range(520, 531), 561, 598, 599, 600, 700, 999]),
    ]
    for status in statuses
]

UNUSABLE_BODIES: Final = {
    "empty": b"",
    "not JSON": b"queued",
    "cut JSON": GOOD[:-1],
    "an array": b'["g-1"]',
    "a string": b'"g-1"',
    "null": b"null",
    "id null": b'{"id":null}',
    "id empty": b'{"id":""}',
    "id true": b'{"id":true}',
    "id a list": b'{"id":["g-1"]}',
    "id of 300 characters": b'{"id":"%b"}' % (b"x" * 300),
    "id with a line end": b'{"id":"g\\n1"}',
    "not UTF-8": b'{"id":"\xff\xfe"}',
    "half an emoji": b'{"id":"\\ud83d"}',
    "a huge number": b'{"id":%b}' % (b"9" * 5000),
    "nested too deep": NESTED,
    "zeros": bytes(1000),
}
BODIES = [
    Case("202 with an id", after_request(answer(202)), SENT, "accepted", 202, "g-1"),
    Case("200 with an id", after_request(answer(200)), SENT, "accepted", 200, "g-1"),
    Case("201 with an id", after_request(answer(201)), SENT, "accepted", 201, "g-1"),
    Case("201 with a number as id", after_request(answer(201, b'{"id": 7}')), SENT, "accepted", 201, "7"),
    Case("206 with an id", after_request(answer(206)), UNKNOWN, "server_error", 206),
    Case("500 with an id", after_request(answer(500)), UNKNOWN, "server_error", 500),
    *[
        Case(f"{status} send_failed", after_request(error(status, "send_failed", key)), NOT_SENT, "send_failed", status)
        for status, key in [(500, "error"), (502, "code"), (503, "message"), (408, "error"), (409, "code")]
    ],
    *[
        Case(f"{status} {word}", after_request(error(status, word)), REJECTED, "rejected", status)
        for status, word in [(500, "invalid_json"), (503, "missing_attrib"), (409, "invalid_attrib")]
    ],
    Case("202 send_failed", after_request(error(202, "send_failed")), UNKNOWN, "contradictory", 202),
    Case("200 invalid_attrib", after_request(error(200, "invalid_attrib")), UNKNOWN, "contradictory", 200),
    Case("503 that mentions send_failed in a sentence", after_request(error(503, "maybe send_failed")),
         UNKNOWN, "server_error", 503),
    *[
        Case(f"{status}, an HTML page", after_request(answer(status, HTML)), outcome, reason, status)
        for status, outcome, reason in [
            (200, UNKNOWN, "server_error"), (202, SENT, "accepted"),
            (400, NOT_SENT, "refused_in_front"), (403, NOT_SENT, "refused_in_front"),
            (404, NOT_SENT, "misconfigured"), (429, NOT_SENT, "throttled"), (500, UNKNOWN, "server_error"),
            (502, UNKNOWN, "server_error"), (503, UNKNOWN, "server_error"), (504, UNKNOWN, "server_error"),
        ]
    ],
    *[
        case
        for label, body in UNUSABLE_BODIES.items()
        for case in as_202_and_200(f"body {label}", with_body(body), readable=False)
    ],
    Case("HTTP/1.0 202", after_request(b"HTTP/1.0 202 Accepted\r\n\r\n" + GOOD), SENT, "accepted", 202, "g-1"),
    Case("202 without a reason phrase", after_request(b"HTTP/1.1 202\r\n\r\n" + GOOD), SENT, "accepted", 202, "g-1"),
    Case("202 with bare line feeds", after_request(b"HTTP/1.1 202 OK\n\n" + GOOD), SENT, "accepted", 202, "g-1"),
    Case("503, then an unasked 202", after_request(answer(503, b"") + answer(202)), UNKNOWN, "server_error", 503),
    Case("413 before the request is read", before_reading(answer(413)), NOT_SENT, "refused_in_front", 413),
]  # fmt: skip

FLOODS = [
    *as_202_and_200("body of exactly the limit", with_body(GOOD.ljust(MAX_BODY_BYTES)), readable=True),
    *as_202_and_200(
        "body one byte over", with_body(GOOD.ljust(MAX_BODY_BYTES + 1), b"Connection: close"), readable=False
    ),
    Case("200 with an id, body over the limit", after_request(answer(200, GOOD + b" " * MAX_BODY_BYTES)),
         UNKNOWN, "server_error", 200, failure="body_too_large"),
    Case("202, endless body", repeating(b" " * 4096, start=head(202)), SENT, "accepted", 202, failure="body_too_large"),
    Case("503, endless body", repeating(b" " * 4096, start=head(503)),
         UNKNOWN, "server_error", 503, failure="body_too_large"),
    Case("202, 101 headers", after_request(head(202, *[b"X-%d: 1" % n for n in range(101)]) + GOOD),
         SENT, "accepted", 202, failure="not_http"),
    Case("200, 101 headers", after_request(head(200, *[b"X-%d: 1" % n for n in range(101)]) + GOOD),
         UNKNOWN, "server_error", 200, failure="not_http"),
    Case("202, a header of 70 KB", after_request(head(202, b"X: " + b"x" * 70_000) + GOOD),
         SENT, "accepted", 202, failure="not_http"),
    Case("202, endless headers", repeating(b"X: 1\r\n", start=head(202)[:-2]),
         SENT, "accepted", 202, failure="not_http"),
    Case("503, endless headers", repeating(b"X: 1\r\n", start=head(503)[:-2]),
         UNKNOWN, "server_error", 503, failure="not_http"),
    Case("202, headers without colons", after_request(head(202, b"nonsense", b"\x00\x01") + GOOD),
         SENT, "accepted", 202, "g-1"),
    *as_202_and_200(
        "a flood of cookies", with_body(GOOD, *[b"Set-Cookie: " + b"a=b; expires=" * 40] * 20), readable=True
    ),
]  # fmt: skip

FAULTS = {
    "no answer": NO_ANSWER, "cut status line": CUT_STATUS_LINE, "cut headers": CUT_HEADERS, "cut body": CUT_BODY,
    "not HTTP": NOT_HTTP, "interim": INTERIM, "lengths": LENGTHS, "chunks": CHUNKS, "compressed": COMPRESSED,
    "drips": DRIPS, "statuses": STATUSES, "bodies": BODIES, "floods": FLOODS,
}  # fmt: skip


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("cases", FAULTS.values(), ids=FAULTS)
def test_the_outcome_is_the_truth(cases: list[Case], scheme: str, subtests: pytest.Subtests) -> None:
    tls = {"http": None, "https": server_tls()}[scheme]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        checks = {case.label: pool.submit(check_on_the_wire, case, tls) for case in cases}
    for label, check in checks.items():
        with subtests.test(label):
            check.result()


def check_on_the_wire(case: Case, tls: ssl.SSLContext | None) -> None:
    with FaultServer(case.server, tls=tls) as server, transport() as client:
        answered = post(client, server.url, case.seconds)
        outcome = judge(answered)

        if answered.failure is not None:
            assert server.wait_until_closed(), "a failed exchange must leave no connection open"
        client.close()
        assert server.wait_until_closed()

        check(case, answered, outcome)
        assert len(server.connections) == 1
        assert server.begun_requests <= 1
        if outcome.outcome in (NOT_SENT, REJECTED):
            refused = answered.status in DOCUMENTED_REFUSALS or outcome.reason in ("send_failed", "rejected")
            assert refused or server.begun_requests == 0


def check(case: Case, answered: Exchange, outcome: PostResult) -> None:
    reasons = (case.reason,) if isinstance(case.reason, str) else case.reason
    assert (outcome.outcome, outcome.status, outcome.gateway_id) == (case.outcome, case.status, case.gateway_id)
    assert outcome.reason in reasons
    if case.seconds == SHORT or case.failure is not None:
        assert answered.failure in (case.failure or "timed_out", *(each for each in reasons if each == TOO_LARGE))
    assert answered.body is None or len(answered.body) <= MAX_BODY_BYTES


# Faults before the first request byte: certainly not sent.


def unread_tls_garbage(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def half_a_server_hello(peer: Peer) -> None:
    peer.send(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + bytes(20))


def drip_a_server_hello(peer: Peer) -> None:
    peer.send(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03")
    peer.drip(bytes(1000))


def alert(peer: Peer) -> None:
    peer.send(b"\x15\x03\x03\x00\x02\x02\x28")  # fatal, handshake_failure


TLS_LOST: Final = ("tls_failed", "connection_lost")


@pytest.mark.parametrize(
    ("script", "reasons", "seconds"),
    [
        pytest.param(unread_tls_garbage, ("tls_failed",), AMPLE, id="plain HTTP on the TLS port"),
        pytest.param(alert, ("tls_failed",), AMPLE, id="alert"),
        pytest.param(Peer.fin, TLS_LOST, AMPLE, id="FIN"),
        pytest.param(Peer.reset, TLS_LOST, AMPLE, id="RST"),
        pytest.param(silence, ("timed_out",), SHORT, id="silence"),
        pytest.param(half_a_server_hello, ("timed_out",), SHORT, id="half a ServerHello"),
        pytest.param(drip_a_server_hello, ("timed_out",), SHORT, id="ServerHello byte by byte"),
    ],
)
def test_a_broken_handshake_is_not_sent(script: Script, reasons: tuple[str, ...], seconds: float) -> None:
    with FaultServer(script, scheme="https") as server, transport() as client:
        outcome = judge(post(client, server.url, seconds))
        assert (outcome.outcome, outcome.status) == (NOT_SENT, None)
        assert outcome.reason in reasons
        assert server.wait_until_closed()
        assert len(server.connections) == 1


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        pytest.param(lambda: server_tls(trusted=False), "certificate_issuer_unknown", id="a stranger's certificate"),
        pytest.param(lambda: server_tls(name="gateway.example"), "certificate_wrong_name", id="another name"),
        pytest.param(lambda: server_tls(days=(-9, -2)), "certificate_expired", id="expired"),
        pytest.param(lambda: server_tls(days=(2, 9)), "certificate_not_yet_valid", id="not yet valid"),
        pytest.param(old_server_tls, "tls_failed", id="TLS 1.1 only"),
    ],
)
def test_a_server_that_cannot_be_trusted_gets_no_byte(tls: Callable[[], Any], reason: str) -> None:
    with FaultServer(after_request(answer(202)), tls=tls()) as server, transport() as client:
        outcome = judge(post(client, server.url))
        assert (outcome.outcome, outcome.reason) == (NOT_SENT, reason)
        assert server.wait_until_closed()
        assert server.begun_requests == 0


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        pytest.param(b"", UNKNOWN, id="instead of the answer"),
        pytest.param(b"HTTP/1.1 20", UNKNOWN, id="inside the status line"),
        pytest.param(head(202, b"Content-Length: 58"), SENT, id="inside the body of a 202"),
        pytest.param(head(200, b"Content-Length: 58"), UNKNOWN, id="inside the body of a 200"),
    ],
)
@pytest.mark.parametrize(
    "record", [b"\x17\x03\x03\x00\x20" + bytes(32), b"nonsense" * 10], ids=["bad record", "no record"]
)
def test_a_tls_error_in_the_answer_is_no_proof_of_anything(data: bytes, outcome: Outcome, record: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(data)
        peer.send_below_tls(record)

    with FaultServer(script, tls=server_tls()) as server, transport() as client:
        answered = post(client, server.url)
        assert judge(answered).outcome is outcome
        assert answered.failure == "tls_failed"
        assert server.wait_until_closed()
        assert (len(server.connections), server.complete_requests) == (1, 1)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_refused_connection_is_not_sent(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with transport() as client:
        outcome = judge(post(client, f"{scheme}://127.0.0.1:{port}/messages"))
    assert (outcome.outcome, outcome.reason) == (NOT_SENT, "connection_refused")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "problem",
    [socket.gaierror(socket.EAI_NONAME, "unknown"), socket.gaierror(socket.EAI_AGAIN, "later"), OSError("no")],
)
def test_a_name_that_does_not_resolve_is_not_sent(
    scheme: str, problem: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with transport() as client:
        outcome = judge(post(client, f"{scheme}://gateway.example/messages"))
    assert (outcome.outcome, outcome.reason) == (NOT_SENT, "name_not_resolved")


@pytest.mark.parametrize("host", ["gateway..example", "x" * 64 + ".example"])
def test_a_name_that_cannot_be_looked_up_is_not_sent(host: str) -> None:
    with transport() as client:
        assert judge(post(client, f"https://{host}/messages")).outcome is NOT_SENT


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_is_never_answered_is_not_sent(scheme: str) -> None:
    with full_listener() as port, transport() as client:
        outcome = judge(post(client, f"{scheme}://127.0.0.1:{port}/messages", SHORT))
    assert outcome.seconds < CONNECT_SECONDS, "the deadline of the exchange counts, not only the one for connecting"
    assert (outcome.outcome, outcome.reason) == (NOT_SENT, "timed_out")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_redirect_is_never_followed(status: int, scheme: str) -> None:
    tls = server_tls() if scheme == "https" else None
    with FaultServer(after_request(answer(202)), tls=tls) as elsewhere:
        location = b"Location: " + elsewhere.url.encode()
        with FaultServer(after_request(answer(status, GOOD, location)), tls=tls) as server, transport() as client:
            outcome = judge(post(client, server.url))
            client.close()
            assert server.wait_until_closed()
            assert server.begun_requests == 1
        was_processed = status in (302, 303)  # perhaps: RFC 9110, 15.4
        expected = (UNKNOWN, "server_error") if was_processed else (NOT_SENT, "misconfigured")
        assert (outcome.outcome, outcome.reason, outcome.status) == (*expected, status)
        assert elsewhere.connections == []


def test_proxies_and_netrc_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    with FaultServer(after_request(answer(503))) as proxy, FaultServer(after_request(answer(202))) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HOME", str(tmp_path))
        with transport() as client:
            assert judge(post(client, server.url)).outcome is SENT
        assert proxy.connections == []
        assert b"authorization: basic our-own\r\n" in bytes(server.connections[0].received).lower()


def test_certificates_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = tmp_path / "stranger.pem"
    bundle.write_bytes(stranger_pem())
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(bundle))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with FaultServer(after_request(answer(202)), tls=server_tls(trusted=False)) as server, transport() as client:
        outcome = judge(post(client, server.url))
        assert (outcome.outcome, outcome.reason) == (NOT_SENT, "certificate_issuer_unknown")
        assert server.wait_until_closed()


@pytest.mark.parametrize(
    ("code", "reason"), [(66, "certificate_weak"), (68, "certificate_weak"), (23, "certificate_refused")]
)
def test_a_certificate_that_is_refused_for_another_reason(code: int, reason: str) -> None:
    error = ssl.SSLCertVerificationError("refused")
    error.verify_code = code
    assert failure_code(ConnectionError(error)) == reason


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_client_certificate_has_read_no_request(newest: ssl.TLSVersion) -> None:
    """In TLS 1.3 the request is written before the alert comes, in TLS 1.2 after the handshake."""
    tls = server_tls(wants_certificate=True)
    tls.maximum_version = newest
    with FaultServer(after_request(answer(202)), tls=tls) as server, transport() as client:
        exchange = post(client, server.url)
        outcome = judge(exchange)
        assert (outcome.outcome, server.begun_requests) == (NOT_SENT, 0)
        if newest is ssl.TLSVersion.TLSv1_3:
            assert (exchange.handed_over, outcome.reason) == (True, "client_certificate_required")
            assert outcome.stop is Stop.UNREACHABLE
        assert server.wait_until_closed()


def test_a_server_that_sends_megabytes_of_headers_fills_no_memory() -> None:
    cookies = b"\r\n".join(b"Set-Cookie: c%d=%s; Path=/" % (number, b"x" * 60_000) for number in range(95))
    with FaultServer(after_request(answer(202, GOOD, cookies))) as server, transport() as client:
        for _ in range(3):
            exchange = post(client, server.url)
            assert (exchange.status, exchange.body, exchange.failure) == (202, None, "response_too_large")
            assert judge(exchange).outcome is SENT


def test_no_cookie_is_kept_or_sent() -> None:
    with (
        FaultServer(after_request(answer(202, GOOD, b"Set-Cookie: own=1; Path=/\r\nConnection: close"))) as server,
        transport() as client,
    ):
        assert [judge(post(client, server.url)).gateway_id for _ in range(2)] == ["g-1", "g-1"]
        assert not any(b"cookie:" in bytes(each.received).lower() for each in server.connections)


def test_what_support_needs_to_find_a_request_is_kept_and_the_text_is_not() -> None:
    own = (
        b"Date: Thu, 26 Nov 2026 03:04:05 GMT\r\napigw-requestid: AbC=\r\nX-Amzn-Trace-Id: Root=1-5f\r\nSet-Cookie: s=1"
    )
    page = b"<h1>Blocked</h1> content=%48ello, handset=%2B61400000001"
    with FaultServer(after_request(answer(403, page, own))) as server, transport() as client:
        exchange = post(client, server.url)
        result = classify(exchange, now=0, content="Hello to you")
    assert exchange.headers.keys() == {"date", "apigw-requestid", "x-amzn-trace-id"}
    assert result.evidence == (
        "apigw-requestid: AbC=; date: Thu, 26 Nov 2026 03:04:05 GMT; x-amzn-trace-id: Root=1-5f; "
        "body: <h1>Blocked</h1> content=…, handset=…"
    )


def post(client: Transport, url: str, seconds: float = AMPLE) -> Exchange:
    return client.exchange(
        "POST",
        url,
        headers={"Authorization": "Basic our-own"},
        body=b'{"destination":"+61400000001","content":"hello"}',
        seconds=seconds,
    )


def judge(answered: Exchange) -> PostResult:
    return classify(answered, now=time.time())


@contextmanager
def transport() -> Iterator[Transport]:
    client = Transport(tls=client_tls())
    try:
        yield client
    finally:
        client.close()


@contextmanager
def full_listener() -> Iterator[int]:
    """A port whose queue of waiting connections is full, so that the next SYN gets no answer."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.socket() for _ in range(4)]
    try:
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
    finally:
        for sock in [*waiting, listener]:
            sock.close()
