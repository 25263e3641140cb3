"""The small world of the bots' tests, and browsers signed in to it."""

from tests.bots.conftest import anna, ben, operator, world

__all__ = ["anna", "ben", "operator", "world"]
