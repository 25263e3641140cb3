"""What a process keeps for good is taken out of the garbage collector's sight."""

from __future__ import annotations

import gc


def set_heap_aside() -> None:
    """Free what nobody refers to, then leave everything there is now out of all later collections.

    Models, admin, templates and libraries are 300,000 objects that stay until the process ends. Each full collection
    went through all of them: more than 0.1 s during which no page is served and no engine decides.
    """
    gc.collect()
    gc.freeze()
