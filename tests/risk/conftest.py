"""The small world of the bots' tests."""

from tests.bots.conftest import world

__all__ = ["world"]
