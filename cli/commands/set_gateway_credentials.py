"""`set-gateway-credentials`: application name and password for the gateway."""

import sys
from pathlib import Path

import click

from cli.context import CommandContext, with_context
from cli.errors import CliError, Exit
from cli.gateway_secret import NAMES, read_certificate, read_credentials, store
from cli.parameters import FILE


@click.command("set-gateway-credentials")
@click.option("--ca-certificate", type=FILE, help="PEM file of another certificate authority to trust for the gateway.")
@with_context
def set_gateway_credentials(context: CommandContext, *, ca_certificate: Path | None) -> None:
    """Store the gateway's credentials. Asks for application name and password, or reads them from stdin.

    On stdin: the name and the password as two lines, or JSON {"application": "…", "password": "…"}. Other fields of
    the secret stay unchanged.
    """
    name = context.target.name  # if the stack can't be used, the command fails before it asks a question
    authority = {"ca_certificate": read_certificate(ca_certificate)} if ca_certificate else {}
    credentials = _asked(name) if sys.stdin.isatty() else read_credentials(sys.stdin.buffer)
    store(context.target, {**credentials, **authority})
    context.out.document({"stored": True})
    context.out.line(f"GatewaySecret of {name} has the credentials.", "good")
    context.out.line("`doctor` shows whether the gateway accepts them. Messages that it refused are retried.")


def _asked(name: str) -> dict[str, str]:
    click.echo(f"The gateway's credentials for {name}, from the portal (API configuration, REST v2).", err=True)
    try:
        application = click.prompt("Application name", err=True)
        password = click.prompt("Password (not shown)", hide_input=True, err=True)
    except click.Abort:
        raise CliError("Nothing was stored.", code=Exit.INTERRUPTED) from None
    return dict(zip(NAMES, (application, password), strict=True))
