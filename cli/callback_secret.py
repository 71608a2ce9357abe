"""The credentials of the callbacks: the URLs for the gateway's portal, and rotation of the password."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from urllib.parse import quote

from cli.errors import CliError
from cli.target import Target

_PASSWORD_LENGTH: Final = 40
_LATELY: Final = timedelta(days=1)


def rotated_lately(target: Target) -> bool:
    """Return whether the secret changed in the last day, so that the portal can still have the previous version."""
    described: Any = target.secrets.describe_secret(SecretId=target.outputs["CallbackSecretArn"])
    stages = {stage for names in described.get("VersionIdsToStages", {}).values() for stage in names}
    changed = described.get("LastChangedDate")
    return "AWSPREVIOUS" in stages and changed is not None and datetime.now(UTC) - changed < _LATELY


def rotate(target: Target) -> None:
    """Write a new password into the callback secret; the previous version stays valid."""
    password = target.secrets.get_random_password(PasswordLength=_PASSWORD_LENGTH, ExcludePunctuation=True)
    fields = callback_secret(target) | {"password": password["RandomPassword"]}
    target.secrets.put_secret_value(SecretId=target.outputs["CallbackSecretArn"], SecretString=json.dumps(fields))


def callback_urls(target: Target) -> dict[str, str]:
    """Return the two URLs for the portal, with user name and password."""
    fields = callback_secret(target)
    credentials = f"{quote(fields['username'], safe='')}:{quote(fields['password'], safe='')}@"
    return {
        name: target.outputs[output].replace("://", f"://{credentials}", 1)
        for name, output in (("status", "StatusCallbackUrl"), ("reply", "ReplyCallbackUrl"))
    }


def callback_secret(target: Target) -> dict[str, str]:
    """Return the user name and password of the gateway's callbacks."""
    response = target.secrets.get_secret_value(SecretId=target.outputs["CallbackSecretArn"])
    try:
        fields = json.loads(response.get("SecretString", ""))
    except ValueError:
        fields = None
    texts = fields if isinstance(fields, dict) else {}
    found = {name: texts.get(name) for name in ("username", "password")}
    if not all(isinstance(text, str) and text for text in found.values()):
        raise CliError(
            "CallbackSecret has no username or no password.",
            'Put {"username": "…", "password": "…"} into it, by stdin\n'
            "(aws secretsmanager put-secret-value --secret-string file:///dev/stdin …), then the URLs of\n"
            "`callback-urls` into the portal.",
        )
    return cast("dict[str, str]", found)
