"""The independent emulator of AWS, as a process of Lambda's Python that `make emulator` has installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
import trustme
from botocore.config import Config

from local.template import ACCOUNT_ID, REGION, TEMPLATE_PATH
from tests.support.waiting import eventually

ROOT: Final = TEMPLATE_PATH.parent
PYTHON: Final = ROOT / ".emulator/environment/bin/python"
PACKAGES, IMAGE = ROOT / ".emulator/packages", ROOT / ".emulator/image"
"""The packages for AWS's image, and its name, where this machine has Docker and not Lambda's Python."""
HOST: Final = "127.0.0.1"


@dataclass(frozen=True)
class Emulator:
    """A running emulator. ``url`` with TLS, ``plain_url`` without; ``authority``: of its certificate (PEM).

    ``key``, ``secret``: of an administrator, because the emulator applies no policy to the root user.
    """

    url: str
    plain_url: str
    authority: Path
    key: str = "root"
    secret: str = "root"

    @property
    def port(self) -> int:
        """The port of its endpoint with TLS."""
        return int(self.url.rpartition(":")[2])

    def environment(self) -> dict[str, str]:
        """The variables by which every AWS client reaches it, as the administrator."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CA_BUNDLE": str(self.authority),
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, service: str, *, tls: bool = True) -> Any:
        """Return a client with these credentials."""
        return _client(service, self.url if tls else self.plain_url, str(self.authority), self.key, self.secret)

    def as_user(self, name: str, policy: Mapping[str, object]) -> Emulator:
        """Return the same emulator for a new user with one policy statement."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **policy}]})
        iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return replace(self, key=key["AccessKeyId"], secret=key["SecretAccessKey"])


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@cache
def _client(service: str, url: str, authority: str, key: str, secret: str) -> Any:
    session = boto3.Session(aws_access_key_id=key, aws_secret_access_key=secret, region_name=REGION)
    return session.client(service, endpoint_url=url, verify=authority, config=Config(proxies={}))  # type: ignore[call-overload]


def skip_without_emulator() -> None:
    """Skip the test if there is no emulator."""
    if not PYTHON.exists() and not IMAGE.exists():
        pytest.skip("no emulator of AWS: `make emulator` needs Python 3.13, which is Lambda's, or Docker")


def _command(settings: Mapping[str, str]) -> list[str]:
    """Return the emulator's command for a process with these variables."""
    module = ("-m", "tests.deploy.emulator")
    if PYTHON.exists():
        return [str(PYTHON), *module]
    return [
        *("docker", "run", "--rm", "--interactive", "--network=host", f"--user={os.getuid()}:{os.getgid()}"),
        *(f"--volume={folder}:{folder}" for folder in (ROOT, tempfile.gettempdir())),
        *(f"--env={name}" for name in settings if name not in ("PATH", "HOME")),
        *(f"--env=PYTHONPATH={PACKAGES}", f"--workdir={ROOT}", "--entrypoint=python3.13"),
        *(IMAGE.read_text().strip(), *module),
    ]


@contextmanager
def emulator(folder: Path, *, fill_gaps: bool = True, schedule_speed: float = 1) -> Iterator[Emulator]:
    """Run a new, empty emulator during the block; its log is in the folder."""
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST, f"*.execute-api.{REGION}.amazonaws.com")
    ca, chain, key = folder / "authority.pem", folder / "certificate.pem", folder / "key.pem"
    authority.cert_pem.write_to_path(ca)
    chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(key)
    with (
        (folder / "emulator.log").open("w") as log,
        tempfile.TemporaryDirectory(
            prefix="emulator-", ignore_cleanup_errors=True
        ) as scratch,  # for the unpacked functions
    ):
        settings = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "TMPDIR": scratch,
            "AUTH": "true",
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(chain),
            "MINISTACK_SSL_KEY": str(key),
            "MINISTACK_HOST": HOST,
            "MINISTACK_REGION": REGION,
            "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "AWS_ACCESS_KEY_ID": "root",
            "AWS_SECRET_ACCESS_KEY": "root",
            "AWS_CA_BUNDLE": str(ca),
            "FILL_GAPS": "yes" if fill_gaps else "no",
            "SCHEDULE_SPEED": str(schedule_speed),
        }
        process = subprocess.Popen(
            _command(settings),
            cwd=ROOT,
            env=settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        with process:
            assert process.stdout is not None
            try:
                ports = process.stdout.readline().decode().split()
                assert ports, (folder / "emulator.log").read_text()
                root = Emulator(f"https://{HOST}:{ports[0]}", f"http://{HOST}:{ports[1]}", ca)
                yield root.as_user("administrator", {"Action": "*", "Resource": "*"})
            finally:
                os.killpg(process.pid, signal.SIGKILL)  # the functions' processes too, which write to the folder
                process.wait()
                eventually(lambda: not _is_there(process.pid), "the end of the functions")
