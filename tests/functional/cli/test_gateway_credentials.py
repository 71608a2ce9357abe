"""`set-gateway-credentials`: accepted and refused input, the fields that it keeps, and that it shows no password."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import click
import pytest
import trustme

from optus_sms.gateway.credentials import GatewaySecret
from tests.support.aws import REGION
from tests.support.cli import Ran, optus_sms
from tests.support.deployed import STACK, DeployedStack

PASSWORD = "s3cret: {pass} ♥"


def set_credentials(stdin: str | bytes, *options: str) -> Ran:
    return optus_sms("set-gateway-credentials", "--stack", STACK, "--region", REGION, *options, stdin=stdin)


def secret_of(stack: DeployedStack) -> dict[str, Any]:
    client = stack.session.client("secretsmanager")
    fields: dict[str, Any] = json.loads(
        client.get_secret_value(SecretId=stack.outputs["GatewaySecretArn"])["SecretString"]
    )
    return fields


def put(stack: DeployedStack, text: str) -> None:
    stack.session.client("secretsmanager").put_secret_value(
        SecretId=stack.outputs["GatewaySecretArn"], SecretString=text
    )


@pytest.mark.parametrize(
    "stdin",
    [
        f"app\n{PASSWORD}",
        f"app\n{PASSWORD}\n",
        f"app\r\n{PASSWORD}\r\n",
        f"\ufeffapp\r\n{PASSWORD}\r\n",
        json.dumps({"application": "app", "password": PASSWORD}),
        "\ufeff" + json.dumps({"application": "app", "password": PASSWORD}),
        "\n " + json.dumps({"password": PASSWORD, "application": "app"}, indent=1) + "\n",
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_credentials_on_stdin_are_those_that_the_function_reads(
    stack: DeployedStack, stdin: str, options: tuple[str, ...]
) -> None:
    ran = set_credentials(stdin, *options)
    assert (ran.exit_code, PASSWORD in ran.stdout + ran.stderr) == (0, False)
    read = GatewaySecret(stack.session.client("secretsmanager"), stack.outputs["GatewaySecretArn"]).current()
    assert (read.application, read.password) == ("app", PASSWORD)


@pytest.mark.parametrize(
    ("stdin", "says"),
    [
        ("", "two lines"),
        ("s3cret", "two lines"),
        ("app\ns3cret\nmore", "two lines"),
        ("app\n\n", "no application or no password"),
        ("\ns3cret", "no application or no password"),
        ("app\n", "two lines"),
        ("a:pp\ns3cret", "colon"),
        ("REPLACE_ME\ns3cret", "placeholder"),
        ("app\nREPLACE_ME", "placeholder"),
        ('{"application": "app", "password": "s3cret"', "not JSON"),
        ('{"application": "app", "pasword": "s3cret"}', "no others"),
        ('{"application": "app", "password": "s3cret", "x": 1}', "no others"),
        ('{"application": "app", "password": 5}', "both texts"),
        ('{"application": "app", "password": "s3cret", "password": "s3cret"}', "twice"),
        ('{"application": "app", "password": "s3cret", "p\\u0061ssword": "other"}', "twice"),
        ("app\ns3cret\t", "password: has a control character"),
        ("app\x00\ns3cret", "application: has a control character"),
        ('{"application": "app", "password": "s3cret\\n"}', "password: has a control character"),
        ('{"application": "a\\u0085", "password": "s3cret"}', "application: has a control character"),
        ('{"application": "app", "password": ""}', "no application or no password"),
        ('{"application": "app", "password": "s3cret\\ud800"}', "Unicode"),
        (b"app\ns3cret\xff", "UTF-8"),
        (b"s3cret" * 20_000, "65536 bytes"),
    ],
)
def test_what_the_function_would_refuse_is_not_stored_and_not_quoted(
    stack: DeployedStack, stdin: str | bytes, says: str
) -> None:
    before = secret_of(stack)
    ran = set_credentials(stdin)
    assert (ran.exit_code, says in ran.stderr, "Nothing was stored" in ran.stderr) == (5, True, True)
    assert "s3cret" not in ran.stderr + ran.stdout
    assert secret_of(stack) == before


def test_other_fields_of_the_secret_stay(stack: DeployedStack) -> None:
    put(stack, json.dumps({"application": "old", "password": "old", "note": {"of": "ours"}, "region": "AU"}))
    assert set_credentials("app\nnew").exit_code == 0
    assert secret_of(stack) == {"application": "app", "password": "new", "note": {"of": "ours"}, "region": "AU"}


def test_a_certificate_authority_is_stored_if_it_is_one_and_stays(stack: DeployedStack, tmp_path: Path) -> None:
    pem, other = tmp_path / "ca.pem", tmp_path / "notes.txt"
    trustme.CA().cert_pem.write_to_path(str(pem))
    other.write_text("Buy milk.")
    before = secret_of(stack)
    for path, code in ((other, 5), (tmp_path / "nowhere", 2)):
        assert set_credentials("app\nnew", "--ca-certificate", str(path)).exit_code == code
    assert secret_of(stack) == before
    assert set_credentials("app\nnew", "--ca-certificate", str(pem)).exit_code == 0
    assert set_credentials("app\nnewer").exit_code == 0
    assert secret_of(stack) == {"application": "app", "password": "newer", "ca_certificate": pem.read_text()}


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "5"])
def test_a_secret_that_somebody_broke_is_replaced(stack: DeployedStack, text: str) -> None:
    put(stack, text)
    assert set_credentials("app\nnew").exit_code == 0
    assert secret_of(stack) == {"application": "app", "password": "new"}


def test_ctrl_c_at_a_question_stores_nothing(stack: DeployedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    before = secret_of(stack)
    monkeypatch.setattr("cli.commands.set_gateway_credentials.sys", Mock())
    monkeypatch.setattr("cli.commands.set_gateway_credentials.click.prompt", Mock(side_effect=click.Abort))
    ran = set_credentials("")
    assert (ran.exit_code, "Nothing was stored" in ran.stderr, secret_of(stack)) == (130, True, before)


def test_a_terminal_shows_the_name_and_not_the_password() -> None:
    command = "from cli.commands.set_gateway_credentials import _asked; print('got', len(_asked('test')['password']))"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", command], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        shown = read_until(ours, b"name: ")
        os.write(ours, b"app-name\n")
        shown += read_until(ours, b"(not shown): ")  # the space comes once the terminal echoes no more
        os.write(ours, b"s3cret\n")
        shown += read_until(ours, b"got 6\r\n")
        os.close(ours)
    assert process.returncode == 0
    assert (b"app-name" in shown, b"s3cret" in shown) == (True, False)


def read_until(descriptor: int, end: bytes) -> bytes:
    shown = b""
    while end not in shown:
        shown += os.read(descriptor, 1000)
    return shown
