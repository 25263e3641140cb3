#!/usr/bin/env python
"""Django's command line for the platform; `./arb` calls it with the right environment."""

import os
import sys


def main() -> None:
    # Tests never read or write the state of the installation they are run in.
    settings = "tests.settings" if sys.argv[1:2] == ["test"] else "arbplatform.settings"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", settings)
    if sys.argv[1:2] == ["demo"]:
        from arbplatform.state import demo_environment  # noqa: PLC0415

        os.environ.update(demo_environment())
    from django.core.exceptions import ImproperlyConfigured  # noqa: PLC0415
    from django.core.management import execute_from_command_line  # noqa: PLC0415

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as problem:
        sys.exit(f"arb: {problem}")


if __name__ == "__main__":
    main()
