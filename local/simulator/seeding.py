"""Randomness that a seed repeats."""

from random import Random


def seeded(*parts: object) -> Random:
    """A generator of its own for these parts: the seed, then what it is for."""
    return Random("/".join(str(part) for part in parts))  # noqa: S311 - to be repeatable is the point
