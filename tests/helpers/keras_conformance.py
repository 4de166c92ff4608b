"""Keras's own tests of a callback, run with our class in its place.

The wheel of Keras ships its tests. `keras_test_cases` loads one file of them as a module of its
own, in which every name of Keras's class leads to ours, and returns the test cases for pytest to
collect:

    globals().update(
        keras_test_cases(
            "early_stopping",
            {"EarlyStopping": kcp.EarlyStopping},
            different={"EarlyStoppingTest.test_x": "why ours differs on purpose"},
        )
    )

A long test of many cases need not be skipped for one of them: `dropped` takes out those cases whose
`# Case N` marks it names, and `reworded` replaces a text that Keras expects, such as a message.

Keras itself is not patched: only the loaded module sees our class.
"""

from __future__ import annotations

import importlib.util
import pathlib
import re
import sys
import types
import unittest
from collections.abc import Collection, Mapping
from typing import Any

import pytest

_KNOWN_MARKS = {"skip", "skipif", "xfail", "parametrize", "usefixtures", "filterwarnings"}


class _Replaced(types.ModuleType):
    """A module in which some names lead elsewhere; everything else is the module's own."""

    def __init__(self, module: types.ModuleType, names: Mapping[str, Any]) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Marks:
    """`pytest.mark` without Keras's own marks, which are not registered here."""

    def __getattr__(self, name: str) -> Any:
        if name in _KNOWN_MARKS:
            return getattr(pytest.mark, name)
        return lambda test: test


def keras_test_cases(
    name: str,
    ours: Mapping[str, type],
    *,
    different: Mapping[str, str] | None = None,
    dropped: Mapping[str, str] | None = None,
    reworded: Mapping[str, str] | None = None,
) -> dict[str, type[unittest.TestCase]]:
    """Loads `keras/src/callbacks/<name>_test.py` of the installed Keras.

    Args:
        name: The file, without `_test.py`.
        ours: Name of a class in `keras.callbacks` -> our class.
        different: `"Case.test"` -> why ours differs on purpose. Such a test is skipped with that
            reason; a name that Keras does not have is an error.
        dropped: `"5"` -> why ours differs on purpose in `# Case 5`. A mark that Keras does not
            have is an error.
        reworded: A text of Keras's -> what stands for it here. One that Keras does not have is an
            error.

    Returns:
        Name -> test case, for the `globals()` of a test module.
    """
    import keras
    import keras.src.testing  # before `pytest` is replaced

    path = pathlib.Path(keras.__file__).parent / "src" / "callbacks" / f"{name}_test.py"
    if not path.is_file():
        pytest.skip(f"this Keras ships no {path.name}", allow_module_level=True)
    spec = importlib.util.spec_from_file_location(f"keras_own_{name}_test", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    text = path.read_text(encoding="utf-8")
    source = without_cases(text, dropped or ())
    for theirs, replacement in (reworded or {}).items():
        if theirs not in source:
            raise LookupError(f"{path.name} has no {theirs}")
        source = source.replace(theirs, replacement)
    original = sys.modules["pytest"]
    sys.modules["pytest"] = _Replaced(original, {"mark": _Marks()})
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    finally:
        sys.modules["pytest"] = original
    absent = [class_name for class_name in ours if class_name not in text]
    if absent or not _replace_classes(module, ours):
        raise LookupError(f"{path.name} does not test {', '.join(absent or ours)}")
    cases = {
        case_name: _isolated(case)
        for case_name, case in vars(module).items()
        if isinstance(case, type)
        and issubclass(case, unittest.TestCase)
        and case.__module__ == module.__name__
    }
    for test, reason in (different or {}).items():
        case_name, test_name = test.split(".")
        method = getattr(cases[case_name], test_name)
        setattr(cases[case_name], test_name, unittest.skip(f"differs on purpose: {reason}")(method))
    return cases


def without_cases(source: str, cases: Collection[str]) -> str:
    """A test without some of its cases; every other line keeps its number.

    Args:
        source: The text of a test file.
        cases: As in `# Case 8a: ...`, which stands before a case; it ends before the next one, or
            with its function.
    """
    lines, kept = source.splitlines(), []
    inside: str | None = None  # the indentation of what is dropped
    found = set()
    for line in lines:
        mark = re.match(r"(\s+)# Case (\w+)\b", line)
        indentation = line[: len(line) - len(line.lstrip())]
        if mark is not None:
            inside = mark[1] if mark[2] in cases else None
            found |= {mark[2]} & set(cases)
        elif inside is not None and line.strip() and len(indentation) < len(inside):
            inside = None
        kept.append(line if inside is None else "")
    if found != set(cases):
        raise LookupError(f"there is no case {', '.join(sorted(set(cases) - found))}")
    return "\n".join(kept) + "\n"


def _replace_classes(module: types.ModuleType, ours: Mapping[str, type]) -> int:
    import keras

    theirs = {name: getattr(keras.callbacks, name) for name in ours}
    replaced = 0
    for variable, value in list(vars(module).items()):
        for name, cls in theirs.items():
            if value is cls:
                setattr(module, variable, ours[name])
                replaced += 1
        if isinstance(value, types.ModuleType):
            names = {n: ours[n] for n, cls in theirs.items() if getattr(value, n, None) is cls}
            if value is keras:
                names = {"callbacks": _Replaced(keras.callbacks, ours)}
            if names:
                setattr(module, variable, _Replaced(value, names))
                replaced += 1
    return replaced


def _isolated(case: type[unittest.TestCase]) -> Any:
    """Keras's tests warn, and leave global settings behind; neither concerns the other tests."""
    import keras

    def set_up(self: Any) -> None:
        self.addCleanup(keras.config.enable_interactive_logging)
        super(isolated, self).setUp()

    isolated = type(case.__name__, (case,), {"setUp": set_up})
    return pytest.mark.filterwarnings("default")(isolated)
