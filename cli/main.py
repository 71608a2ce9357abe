"""The command `optus-sms`."""

import click

from cli.commands import looking, operating, repairing, sending


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="optus-sms")
def main() -> None:
    """Send SMS, follow them, find out what became of them, and settle what needs a person.

    Works on the stack that --stack names, else on the local stack of this folder (`make run`). KEY is a message's
    message_id, the gateway's id, or a reference. Exit codes: docs/cli.md.
    """


for module in (sending, looking, repairing, operating):
    for command in module.COMMANDS:
        main.add_command(command)
