"""The requests that the page's server allows."""

from __future__ import annotations

from email.message import Message

import pytest

from local.http_server import HttpRequest
from local.page.guard import MAX_BODY_BYTES, refusal

PORT, TOKEN = 4604, "the-token"
HOST = f"127.0.0.1:{PORT}"
JSON = ("Content-Type", "application/json")


def request(
    *headers: tuple[str, str], method: str = "POST", path: str = "/api/send", body: bytes = b"{}", host: str = HOST
) -> HttpRequest:
    message = Message()
    for name, value in (("Host", host), *headers):
        message.add_header(name, value)
    return HttpRequest(method, path, {}, message, body)


def status_of(asked: HttpRequest) -> int | None:
    refused = refusal(asked, token=TOKEN)
    return refused[0] if refused else None


@pytest.mark.parametrize("host", [HOST, f"localhost:{PORT}", f"LOCALHOST:{PORT}", "localhost:9000", f"[::1]:{PORT}"])
def test_the_page_itself_may_read_and_change(host: str) -> None:
    origin = ("Origin", f"http://{host.lower()}")
    own = (origin, ("Sec-Fetch-Site", "same-origin"))
    assert status_of(request(*own, ("X-Page-Token", TOKEN), JSON, host=host)) is None
    assert status_of(request(*own, method="GET", path="/api/stream", host=host)) is None


def test_a_program_on_this_machine_that_knows_the_token_may_change() -> None:
    assert status_of(request(("X-Page-Token", TOKEN), JSON)) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", f"evil.example:{PORT}", f"127.0.0.1.evil.example:{PORT}", f"192.0.2.7:{PORT}",
        f"localhost:{PORT}@evil.example", "", f"0.0.0.0:{PORT}", f"127.0.0.1:{PORT} ",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_somebody_points_here_is_refused(host: str, method: str) -> None:
    assert status_of(request(("X-Page-Token", TOKEN), JSON, method=method, path="/", host=host)) == 403


def test_no_host_or_two_are_refused() -> None:
    without = HttpRequest("GET", "/", {}, Message(), b"")
    assert status_of(without) == 403
    assert status_of(request(("Host", HOST), method="GET", path="/")) == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", f"https://{HOST}", "http://127.0.0.1:4600", f"http://{HOST}.evil.example", ""],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/api/stream"), ("GET", "/"), ("POST", "/api/send")])
def test_another_origin_is_refused(origin: str, method: str, path: str) -> None:
    assert status_of(request(("Origin", origin), ("X-Page-Token", TOKEN), JSON, method=method, path=path)) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_another_site_may_only_link_to_the_page(site: str) -> None:
    header = ("Sec-Fetch-Site", site)
    assert status_of(request(header, method="GET", path="/")) is None
    for path in ("/api/stream", "/api/messages?id=k", "/static/app.js"):
        assert status_of(request(header, method="GET", path=path)) == 403
    for path in ("/", "/api/send"):
        assert status_of(request(header, ("X-Page-Token", TOKEN), JSON, path=path)) == 403


@pytest.mark.parametrize("token", ["", "the-toke", "the-token2", "thé-token"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "OPTIONS"])
def test_without_the_token_of_this_start_nothing_changes(token: str, method: str) -> None:
    refused = refusal(request(("X-Page-Token", token), JSON, method=method), token=TOKEN)
    assert refused is not None
    assert refused[0] == 403
    assert "load the page again" in refused[1]
    assert TOKEN not in refused[1]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_as_a_form_sends_it_is_refused(kind: str) -> None:
    assert status_of(request(("X-Page-Token", TOKEN), ("Content-Type", kind))) == 415


def test_a_body_has_a_limit_and_may_be_absent() -> None:
    token = ("X-Page-Token", TOKEN)
    assert status_of(request(token, JSON, body=b"x" * MAX_BODY_BYTES)) is None
    assert status_of(request(token, JSON, body=b"x" * (MAX_BODY_BYTES + 1))) == 413
    assert status_of(request(token, method="DELETE", body=b"")) is None
    assert status_of(request(token, ("Content-Type", "application/json; charset=utf-8"))) is None
