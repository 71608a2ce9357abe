"""docs/callbacks.md: its commands work, and its table of responses is true."""

from __future__ import annotations

import re
from pathlib import Path

from optus_sms.flows.receive_callback import MAX_BODY_BYTES
from optus_sms.gateway.credentials import CallbackSecret
from tests.support.aws import default_template

PAGE = (Path(__file__).parents[3] / "docs" / "callbacks.md").read_text(encoding="utf-8")


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
