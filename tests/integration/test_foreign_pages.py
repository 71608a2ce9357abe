"""No listener of the local stack serves a web page of another site, or a name that somebody points at this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import requests

from local.aws.stack import ExternalGateway, LocalStack, StackConfig
from local.simulator.scenarios import SCENARIOS

AUTHORIZATION = {"Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/ap-southeast-2/secretsmanager/aws4_request"}
FOREIGN: tuple[Mapping[str, str], ...] = (
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
)
REBOUND = {"Host": "rebound.example"}


def read_gateway_secret(stack: LocalStack, headers: Mapping[str, str]) -> requests.Response:
    body = json.dumps({"SecretId": stack.outputs["GatewaySecretArn"]})
    call = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "secretsmanager.GetSecretValue"}
    return requests.post(stack.endpoint_url, data=body, headers={**call, **AUTHORIZATION, **headers}, timeout=30)


def test_the_gateways_password_is_for_programs_only(local_stack: LocalStack) -> None:
    own = read_gateway_secret(local_stack, {})
    assert "simulator-password" in own.text
    assert not [name for name in own.headers if name.lower().startswith("access-control")]

    for headers in (*FOREIGN, REBOUND, {"Authorization": ""}):
        refused = read_gateway_secret(local_stack, headers)
        assert (refused.status_code, "simulator-password" in refused.text) == (403, False), headers
        assert refused.json()["message"]
        assert not [name for name in refused.headers if name.lower().startswith("access-control")]


def test_no_page_queues_a_message(local_stack: LocalStack) -> None:
    body = json.dumps({"destination": SCENARIOS["received"].number, "content": "by a page", "reference": "by-a-page"})
    form = {"Action": "SendMessage", "QueueUrl": local_stack.outputs["OutboundQueueUrl"], "MessageBody": body}
    as_image = requests.get(local_stack.endpoint_url, params=form, timeout=30)
    as_form = requests.post(local_stack.endpoint_url, data=form, headers=dict(FOREIGN[0]), timeout=30)
    preflight = requests.options(local_stack.endpoint_url, headers=dict(FOREIGN[0]), timeout=30)

    assert (as_image.status_code, as_form.status_code, preflight.status_code) == (403, 403, 403)


@pytest.mark.parametrize("part", ["gateway", "control", "callback API"])
def test_neither_do_the_other_listeners_serve_a_page(local_stack: LocalStack, part: str) -> None:
    simulator = local_stack.simulator
    assert simulator is not None
    url = {
        "gateway": f"{simulator.url}/healthz",
        "control": simulator.control_url,
        "callback API": local_stack.outputs["StatusCallbackUrl"],
    }[part]
    own = requests.get(url, timeout=30)
    assert own.status_code == {"gateway": 200, "control": 200, "callback API": 404}[part]
    for headers in FOREIGN:
        assert requests.get(url, headers=dict(headers), timeout=30).status_code == 403, headers
    assert requests.get(url, headers=dict(REBOUND), timeout=30).status_code == 403


def test_a_tunnel_from_a_real_gateway_brings_a_name_of_its_own() -> None:
    gateway = ExternalGateway("https://gateway.invalid/rest/sms/v2", "app", "secret")
    with LocalStack(StackConfig(gateway=gateway)) as stack:
        url = stack.outputs["StatusCallbackUrl"]
        assert requests.post(url, headers=dict(REBOUND), timeout=30).status_code == 401
        assert requests.post(url, headers={**REBOUND, **FOREIGN[0]}, timeout=30).status_code == 403
