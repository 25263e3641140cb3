"""``python -m exchangesim``: see ``exchangesim.options`` or ``--help``."""

from __future__ import annotations

import logging
import sys

from exchangesim.options import parse_options
from exchangesim.server import serve


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="exchangesim: %(levelname)s %(name)s: %(message)s")
    options = parse_options()
    try:
        import uvloop  # noqa: PLC0415  (saves about a fifth of the processor time; nothing depends on it)
    except ImportError:
        import asyncio  # noqa: PLC0415

        return asyncio.run(serve(options))
    return uvloop.run(serve(options))


if __name__ == "__main__":
    sys.exit(main())
