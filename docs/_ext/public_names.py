"""Fails the build where a public name has no place in the documentation."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


def undocumented(public: Mapping[str, Collection[str]], documented: Collection[str]) -> list[str]:
    """Names that are public and stand on no page.

    Args:
        public: For each module, its public names; modules among them count as documented by the
            page of their own names.
        documented: Full names that the documentation describes.

    Returns:
        The full names that are missing, sorted.
    """
    wanted = {
        f"{module}.{name}"
        for module, names in public.items()
        for name in names
        if f"{module}.{name}" not in public and name != "__version__"
    }
    return sorted(wanted - set(documented))


def _check(app: Sphinx, env: BuildEnvironment) -> None:
    from sphinx.util import logging

    modules = {name: importlib.import_module(name).__all__ for name in app.config.public_modules}
    documented = set(env.domains["py"].data["objects"])
    for name in undocumented(modules, documented):
        logging.getLogger(__name__).warning("%s is public, and on no page of docs/reference", name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_config_value("public_modules", [], "env")
    app.connect("env-check-consistency", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
