"""Which tests run where: a backend for some, none for the rest, and a reason for every skip."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, and no limit per example: another program may have the processor.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

TESTS = Path(__file__).parent
BACKENDS = ("tensorflow", "jax", "torch")
# Everything in these folders needs Keras and a backend, and gets the mark without asking for it.
BACKEND_FOLDERS = ("integration", "conformance", "crash", "unit/keras_room")


class NoKeras(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes `import keras` fail as if it were not installed, in the run without a backend."""

    names = frozenset({"keras", *BACKENDS})

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(name, self)
        return None

    def create_module(self, spec):
        raise ModuleNotFoundError(
            f"No module named {spec.name!r}: this is the run without a backend (--no-backend). "
            "Keep Keras out of layers 1 and 2, or mark the test with `backend`.",
            name=spec.name,
        )

    def exec_module(self, module):
        raise NotImplementedError


def pytest_addoption(parser):
    parser.addoption(
        "--no-backend",
        action="store_true",
        help="fail on an import of Keras or a backend; leave out the tests that need them",
    )


def pytest_configure(config):
    if config.getoption("--no-backend"):
        sys.meta_path.insert(0, NoKeras())


def needs_backend(path):
    try:
        place = path.relative_to(TESTS).as_posix()
    except ValueError:
        return False
    return any(place == folder or place.startswith(f"{folder}/") for folder in BACKEND_FOLDERS)


def pytest_ignore_collect(collection_path, config):
    """Their modules import Keras, so without a backend they cannot even be collected."""
    return True if config.getoption("--no-backend") and needs_backend(collection_path) else None


def pytest_collection_modifyitems(config, items):
    for item in items:
        if needs_backend(item.path):
            item.add_marker("backend")
    wanted = [(item, {m for m in BACKENDS if item.get_closest_marker(m)}) for item in items]
    if any(names for _, names in wanted) and not config.getoption("--no-backend"):
        import keras

        running = keras.backend.backend()
        for item, names in wanted:
            if names and running not in names:
                reason = f"only on {' and '.join(sorted(names))}; this run is on {running}"
                item.add_marker(pytest.mark.skip(reason=reason))
    if not _is_installed():
        for item in items:
            if item.get_closest_marker("wheel"):
                item.add_marker(
                    pytest.mark.skip(reason="needs the installed wheel: tox -e package")
                )


def _is_installed():
    try:
        importlib.metadata.distribution("keras-callbacks-plus")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
