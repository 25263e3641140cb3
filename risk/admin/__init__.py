"""The risk app's admin pages, a file an idea; importing them registers them."""

from risk.admin import limits

__all__ = ["limits"]
