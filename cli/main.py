"""The command `optus-sms`."""

import click


@click.group()
def main() -> None:
    """Send SMS, follow them, find out what became of them, and settle what needs a person."""
