"""Which requests every listener of the local stack refuses, whatever it serves."""

from __future__ import annotations

import pytest

from local.guard import refusal_of_page, refusal_of_request

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"


def why(host: str | None = "127.0.0.1:4600", address: str = LOOPBACK, **headers: str) -> str | None:
    given = {"Host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    return refusal_of_request(given.get, address)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1:4600", LOOPBACK), ("127.0.0.1", LOOPBACK), ("localhost:9000", LOOPBACK), ("LocalHost", LOOPBACK),
        ("[::1]:4600", LOOPBACK), ("host.docker.internal:4600", LOOPBACK), ("172.17.0.1:4600", "172.17.0.1"),
        ("localhost:4600", "172.17.0.1"), ("192.0.2.7:4600", EVERYWHERE), ("[2001:db8::1]:4600", EVERYWHERE),
    ],
)  # fmt: skip
def test_a_program_reaches_it_by_a_name_of_this_machine(host: str, address: str) -> None:
    assert why(host, address) is None


@pytest.mark.parametrize("address", [LOOPBACK, "172.17.0.1", EVERYWHERE])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:4600", "127.0.0.1.evil.example:4600", "localhost.evil.example", "evil.localhost",
        "localhost:4600@evil.example", "", None, "0.0.0.0:4600", "127.0.0.1:4600 ", "127.0.0.1:4600,evil.example",
        "[::]:4600", "2130706433", "docker.internal",
    ],
)  # fmt: skip
def test_a_name_that_somebody_points_here_is_refused_with_the_fix(host: str | None, address: str) -> None:
    refused = why(host, address) or ""
    assert refused.startswith("Host: ")
    assert "localhost" in refused


def test_another_address_than_the_one_it_listens_on_is_refused() -> None:
    assert "172.17.0.1" in (why("192.0.2.7:4600", "172.17.0.1") or "")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:4600", "http://localhost:3000", ""]
)
def test_no_page_may_use_what_has_none_of_its_own(origin: str) -> None:
    assert "Origin" in (why(Origin=origin) or "")


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "nonsense", ""])
def test_what_a_browser_says_a_page_has_sent_is_refused(site: str) -> None:
    assert "Origin" in (why(Sec_Fetch_Site=site) or "")
    assert why(Sec_Fetch_Site="none") is None  # typed into the address bar


def test_a_listener_with_a_page_takes_that_pages_requests_only() -> None:
    own = {"Host": "localhost:4604", "Origin": "http://localhost:4604", "Sec-Fetch-Site": "same-origin"}
    assert refusal_of_page(own.get, own=True) is None
    for other in ({"Origin": "http://127.0.0.1:4604"}, {"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-site"}):
        assert refusal_of_page({**own, **other}.get, own=True)
