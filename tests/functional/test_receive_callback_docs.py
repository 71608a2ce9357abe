"""docs/callbacks.md: what a person copies from it works, and what it says of answers is what happens."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import boto3
import pytest
from moto import mock_aws

from local.gateway.callbacks import parse_callback_url
from optus_sms.credentials import CallbackSecret
from optus_sms.receiving import MAX_BODY_BYTES
from tests.support.aws import default_template

PAGE = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.strip().splitlines()]
HOST = "abcdefghij.execute-api.ap-southeast-2.amazonaws.com"


@pytest.mark.parametrize(("username", "password"), [("gateway", "Abc123"), ("us:er", "p@ss/w:ör d%?#&+")])
def test_the_command_prints_both_finished_urls(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], username: str, password: str
) -> None:
    [command] = [line for line in COMMANDS if "StatusCallbackUrl" in line]
    python, option, program, stack_name = shlex.split(command)
    assert (python, option) == (".venv/bin/python", "-c")
    with mock_aws():
        secret = {"username": username, "password": password}
        arn = boto3.client("secretsmanager").create_secret(Name="callbacks", SecretString=json.dumps(secret))["ARN"]
        outputs = {
            "StatusCallbackUrl": f"https://{HOST}/v1/callbacks/status",
            "ReplyCallbackUrl": f"https://{HOST}/v1/callbacks/reply",
            "CallbackSecretArn": arn,
        }
        assert set(outputs) <= set(default_template().outputs)
        document = {
            "Resources": {"Any": {"Type": "AWS::SQS::Queue"}},
            "Outputs": {name: {"Value": value} for name, value in outputs.items()},
        }
        boto3.client("cloudformation").create_stack(StackName=stack_name, TemplateBody=json.dumps(document))
        monkeypatch.setattr(sys, "argv", ["-c", stack_name])
        exec(program, {})

    urls = capsys.readouterr().out.split()
    assert [urlsplit(url).path for url in urls] == ["/v1/callbacks/status", "/v1/callbacks/reply"]
    for url in urls:
        parts = urlsplit(url)
        assert (parts.scheme, parts.hostname) == ("https", HOST)
        assert (unquote(parts.username or ""), unquote(parts.password or "")) == (username, password)
        assert parse_callback_url(url).public == url.replace(url.partition("://")[2].partition("@")[0] + "@", "")


def test_a_new_secret_is_stored_in_the_form_that_is_read() -> None:
    [command] = [line for line in COMMANDS if "get-random-password" in line]
    text = shlex.split(re.sub(r"\$\(.*?\)", "Abc123", command))[-1]
    assert json.loads(text) == {"username": "gateway", "password": "Abc123"}


def test_the_page_tells_the_numbers_that_the_code_has() -> None:
    [setting] = next(iter(default_template().of_type("AWS::ApiGateway::Stage"))).properties["MethodSettings"]
    assert f"more than {MAX_BODY_BYTES // 1024} KB" in PAGE
    assert f"more than {setting['ThrottlingRateLimit']} a second" in PAGE
    assert (CallbackSecret.REFRESH_SECONDS, CallbackSecret.KEEP_SECONDS) == (60, 300)
    assert "Wait a minute" in PAGE
    assert "up to five minutes" in PAGE
    assert default_template().resources["DeadLetterQueue"].properties["MessageRetentionPeriod"] == 14 * 86_400
    assert "for 14 days" in PAGE


def test_every_answer_is_explained() -> None:
    explained = set(re.findall(r"\d{3}", " ".join(re.findall(r"^\| ([\d, ]+)", PAGE, re.MULTILINE))))
    assert explained >= {"200", "401", "404", "413", "429", "503"}
