"""The heap of a process that serves pages."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

LOADED = "import gc, arbplatform.asgi; print(gc.get_freeze_count(), len(gc.get_objects()))"


def test_what_a_page_server_loaded_is_not_gone_through_at_each_collection() -> None:
    # In a process of its own: what these tests have loaded says nothing.
    told = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    aside, followed = map(int, told.stdout.split())
    assert followed < aside / 10


def test_garbage_is_freed_before_it_would_be_kept_for_good() -> None:
    from bots.heap import set_heap_aside

    class Knot:
        itself: Knot

    knot = Knot()
    knot.itself = knot
    followed = weakref.ref(knot)
    gc.disable()
    try:
        del knot
        assert followed() is not None
        set_heap_aside()
        assert followed() is None
    finally:
        gc.enable()
        gc.unfreeze()
