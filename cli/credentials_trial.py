"""Try the gateway's credentials from this machine, and report which version of the secret was tried, where and when."""

import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from cli.errors import from_aws
from cli.target import Target
from optus_sms.flows.check_health import judge_credentials
from optus_sms.flows.pausing import Admission
from optus_sms.gateway.api import Gateway
from optus_sms.gateway.credentials import GatewaySecret
from optus_sms.gateway.transport import Transport
from optus_sms.model.errors import CredentialsError
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import HealthRecord

_SHOWN = 8  # characters of a version ID, which is a UUID


@dataclass(frozen=True, slots=True)
class CredentialsTrial:
    """One trial. ``admission``: `Admission`. ``version``: the beginning of the secret's version ID; empty: unusable.

    ``at``: RFC 3339; empty if no trial was made. ``problem``: the reason for that, or why the trial proves nothing.
    """

    by: str
    admission: str
    version: str
    at: str
    problem: str = ""

    @property
    def proves(self) -> bool:
        """Return whether the trial proves that the gateway accepts or refuses the credentials."""
        return self.admission in (Admission.ACCEPTED, Admission.REFUSED)

    def __str__(self) -> str:
        """Return the result with place and time, for people."""
        if not self.at:
            return f"not tried {self.by}: {self.problem}"
        version = f"version {self.version}" if self.version else "no usable version"
        result = self.admission.replace("_", " ") + (f" ({self.problem})" if self.problem else "")
        return f"{result}, {version}, tried {self.by} at {self.at}"


def try_from_here(target: Target, *, seconds: float) -> CredentialsTrial:
    """Request a message that does not exist, with the current version. After an error of AWS, no trial was made."""
    by = "from here"
    try:
        credentials = gateway_secret(target).current()
        with gateway_of(target, seconds=seconds) as gateway:
            response = gateway.get_message(str(uuid.uuid4()), credentials)
    except CredentialsError as error:
        return CredentialsTrial(by, Admission.REFUSED, "", format_rfc3339(time.time()), str(error))
    except (BotoCoreError, ClientError) as error:
        return CredentialsTrial(by, Admission.UNKNOWN, "", "", from_aws(error, local=target.local).problem)
    admission = judge_credentials(response)
    problem = "" if admission is Admission.ACCEPTED else f"HTTP {response.status}" if response.status else "no response"
    return CredentialsTrial(by, admission, credentials.version[:_SHOWN], format_rfc3339(time.time()), problem)


def trial_of_stack(record: HealthRecord) -> CredentialsTrial:
    """Return the trial of the stack's last health check."""
    problem = "" if record.checked_at else "it has never checked"
    return CredentialsTrial(
        "by the stack", record.credentials, record.tried_version[:_SHOWN], record.checked_at, problem
    )


def verdict(here: CredentialsTrial, stack: CredentialsTrial) -> str:
    """Return the result for the current version. A trial of another version does not count, nor does an older one.

    `untried`: only another version was tried.
    """
    if here.proves or not here.at:
        return here.admission if here.at else stack.admission
    return stack.admission if stack.version == here.version else "untried"


def gateway_secret(target: Target) -> GatewaySecret:
    """Return the secret with the gateway's credentials."""
    return GatewaySecret(target.secrets, target.outputs["GatewaySecretArn"])


@contextmanager
def gateway_of(target: Target, *, seconds: float) -> Iterator[Gateway]:
    """Yield a stack's gateway, which trusts the certificate authority in the secret."""
    url = target.settings.get("GatewayBaseUrl", "")
    with closing(Transport(authority=gateway_secret(target))) as transport:
        yield Gateway(transport, url.rstrip("/"), timeout_seconds=seconds, now=time.time)
