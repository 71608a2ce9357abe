"""docs/callbacks.md: what a person copies from it works, and what it says of answers is what happens."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from optus_sms.flows.receive_callback import MAX_BODY_BYTES
from optus_sms.gateway.credentials import CallbackSecret
from tests.support.aws import default_template

PAGE = (Path(__file__).parents[3] / "docs" / "callbacks.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.strip().splitlines()]


def test_a_new_secret_is_stored_in_the_form_that_is_read() -> None:
    [command] = [line for line in COMMANDS if "get-random-password" in line]
    text = shlex.split(re.sub(r"\$\(.*?\)", "Abc123", command))[-1]
    assert json.loads(text) == {"username": "gateway", "password": "Abc123"}


def test_the_page_tells_the_numbers_that_the_code_has() -> None:
    [setting] = next(iter(default_template().of_type("AWS::ApiGateway::Stage"))).properties["MethodSettings"]
    assert f"{MAX_BODY_BYTES // 1024} KB" in PAGE
    assert f"{setting['ThrottlingRateLimit']} a second" in PAGE
    assert (CallbackSecret.REFRESH_SECONDS, CallbackSecret.KEEP_SECONDS) == (60, 300)
    assert re.search("a minute|1 minute|60 seconds", PAGE)
    assert re.search("five minutes|5 minutes|300 seconds", PAGE)
    assert default_template().resources["DeadLetterQueue"].properties["MessageRetentionPeriod"] == 14 * 86_400
    assert "14 days" in PAGE


def test_every_answer_is_explained() -> None:
    explained = set(re.findall(r"\d{3}", " ".join(re.findall(r"^\| ([\d, ]+)", PAGE, re.MULTILINE))))
    assert explained >= {"200", "401", "404", "413", "429", "503"}
