"""The names that a file gets where the one it would have liked is taken: `05-v1.keras`."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator

__all__ = ["is_version_of", "versions"]


def versions(name: str) -> Iterator[str]:
    """A name, and then the same with `-v1`, `-v2`, ... before its ending, without an end.

    Args:
        name: The name that the file would have liked.

    Example:

    >>> import itertools
    >>> list(itertools.islice(versions("05.weights.h5"), 3))
    ['05.weights.h5', '05-v1.weights.h5', '05-v2.weights.h5']
    """
    yield name
    stem, ending = _split(name)
    for number in itertools.count(1):
        yield f"{stem}-v{number}{ending}"


def is_version_of(name: str, wished: str) -> bool:
    """Whether a name is one of `versions(wished)`.

    Args:
        name: The name that a file has.
        wished: The name that it would have liked.

    Example:

    >>> is_version_of("05-v1.keras", "05.keras"), is_version_of("copy of 05.keras", "05.keras")
    (True, False)
    """
    stem, ending = map(re.escape, _split(wished))
    return re.fullmatch(rf"{stem}(-v[1-9]\d*)?{ending}", name) is not None


def _split(name: str) -> tuple[str, str]:
    ending = ".weights.h5" if name.endswith(".weights.h5") else os.path.splitext(name)[1]
    return name.removesuffix(ending), ending
