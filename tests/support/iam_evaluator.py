"""An IAM evaluator that supports resources and conditions (`@cloud-copilot/iam-simulate`), unlike moto.

A development tool, run by Node and locked in `iam/package-lock.json`; `make test-node` installs it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.support.builders import ACCOUNT
from tests.support.node import needs_packages

_FOLDER: Final = Path(__file__).parent / "iam"
needs_iam_evaluator: Final = needs_packages(_FOLDER)
# The evaluator ignores a condition key with a name after a colon; with a slash it compares the key.
_NAMED_KEYS: Final = ("kms:EncryptionContext:", "aws:RequestTag/")
_ANONYMOUS: Final = {"anonymous": {"type": "Anonymous"}}
ALLOWED: Final = "Allowed"
DENIED: Final = frozenset({"ImplicitlyDenied", "ExplicitlyDenied"})


@dataclass(frozen=True)
class Call:
    """A call that a role makes; ``action`` such as `dynamodb:GetItem`, ``context``: condition keys beside TLS."""

    role: str
    action: str
    resource: str
    context: tuple[tuple[str, tuple[str, ...]], ...] = ()
    tls: bool = field(default=True, kw_only=True)
    principal: str = field(default="", kw_only=True)
    """Instead of the role: an ARN of another account, a service, or `anonymous`, who has no policies."""


def _owner(resource: str) -> str:
    """The account of a resource; some ARNs, and `*`, name none."""
    return (resource.split(":") + [""] * 5)[4] or ACCOUNT


def evaluate(
    calls: Sequence[Call],
    policies: Mapping[str, Any],
    resource_policies: Mapping[str, Any],
    boundary: Mapping[str, Any] | None = None,
) -> dict[Call, str]:
    """Return IAM's result for each call, by the policies of the roles and of the resources (by ARN).

    A boundary limits every role.
    """
    limits = {} if boundary is None else {"permissionBoundaryPolicies": [{"name": "boundary", "policy": boundary}]}
    simulations = [
        {
            "request": {
                "principal": _ANONYMOUS.get(call.principal)
                or call.principal
                or f"arn:aws:sts::{ACCOUNT}:assumed-role/{call.role}/function",
                "action": call.action,
                "resource": {"resource": call.resource, "accountId": _owner(call.resource)},
                "contextVariables": {"aws:SecureTransport": str(call.tls).lower(), **dict(call.context)},
            },
            "identityPolicies": []
            if call.principal in _ANONYMOUS
            else [{"name": call.role, "policy": policies[call.role]}],
            "resourcePolicy": resource_policies.get(call.resource),
            "serviceControlPolicies": [],
            "resourceControlPolicies": [],
            **limits,
        }
        for call in calls
    ]
    asked = json.dumps(simulations).replace(*_NAMED_KEYS)
    ran = subprocess.run(["node", _FOLDER / "simulate.mjs"], input=asked, check=True, capture_output=True, text=True)
    return dict(zip(calls, json.loads(ran.stdout), strict=True))
