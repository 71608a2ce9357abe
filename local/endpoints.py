"""`.local/endpoints.env`: the variables by which other programs reach the running stack. A shell can source it."""

import re
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from local.aws.stack import LocalStack

PATH = Path(".local/endpoints.env")
"""The file's path, in the folder in which `make run` was called."""


def variables(stack: LocalStack) -> dict[str, str]:
    """Return the template's outputs by upper-snake name, the functions' variables and the callbacks' credentials.

    A variable that differs between functions (such as the function's name) is left out, because it would be wrong for
    most. So is AWS_CA_BUNDLE: its file exists only in Lambda, and with it a shell could reach nothing over TLS.
    """
    found = {
        **_common([function.config.environment for function in stack.functions.values()]),
        **stack.aws_environment(),
    }
    found.pop("AWS_CA_BUNDLE", None)
    found |= {upper_snake(name): value for name, value in stack.outputs.items()}
    callback = stack.secret("CallbackSecret")
    found |= {"CALLBACK_USERNAME": callback["username"], "CALLBACK_PASSWORD": callback["password"]}
    if stack.simulator is not None:
        found |= {"SIMULATOR_URL": stack.gateway_url, "SIMULATOR_CONTROL_URL": stack.simulator.control_url}
    return dict(sorted(found.items()))


def _common(environments: list[Mapping[str, str]]) -> dict[str, str]:
    pairs = {pair for environment in environments for pair in environment.items()}
    values = Counter(name for name, _ in pairs)
    return {name: value for name, value in pairs if values[name] == 1}


def upper_snake(name: str) -> str:
    """Return `OUTBOUND_QUEUE_URL` for `OutboundQueueUrl`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def as_text(values: Mapping[str, str]) -> str:
    """Return the file's text. A shell that sources it uses this stack, whatever AWS settings it had before."""
    variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
    return f"{variables}unset OPTUS_SMS_STACK AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN\n"
