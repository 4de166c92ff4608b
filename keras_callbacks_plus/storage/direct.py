"""What a disk takes straight from memory, past the page cache: whole pages.

Copying to that cache is most of what writing costs a processor, which training may want. Only Linux
is asked. https://man7.org/linux/man-pages/man2/open.2.html (`O_DIRECT`)
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

__all__ = ["PAGE", "WHOLE_PAGES", "bypass_cache", "page_aligned", "whole_pages"]

PAGE = 4096
"""Bytes of which a disk takes whole ones; the sectors of all disks are divisors."""
WHOLE_PAGES = 1 << 20
"""Bytes from which on whole pages go past the page cache; less is written faster to it."""

Array = np.ndarray[Any, Any]


def page_aligned(size: int) -> Array:
    """Memory that begins with a page; what it holds is not known.

    It is private, and the manual of `O_DIRECT` warns of forks with such memory: either process may
    be left with a page that the disk does not know of. That is of no matter here, where the disk
    only reads it, and nobody changes what is being written.
    """
    memory = np.empty(size + PAGE, np.uint8)
    return memory[-_address(memory) % PAGE :][:size]


def whole_pages(data: Array, position: int) -> int:
    """How many of some bytes a disk can take from where they are; may be 0.

    Args:
        data: Bytes.
        position: Where in the file they are to be.
    """
    count = len(data) // PAGE * PAGE
    starts_with_a_page = (position | _address(data)) % PAGE == 0
    return count if starts_with_a_page and count >= WHOLE_PAGES else 0


def bypass_cache(descriptor: int, wanted: bool) -> bool:
    """Has an open file written to past the page cache, or not; returns whether that is a change.

    Args:
        descriptor: The open file.
        wanted: Whether to.
    """
    if sys.platform != "linux":
        return False
    import fcntl

    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    changed = flags | os.O_DIRECT if wanted else flags & ~os.O_DIRECT
    if changed == flags:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, changed)
    except OSError:  # of a file system that knows no other way
        return False
    return True


def _address(data: Array) -> int:
    return int(data.__array_interface__["data"][0])
