"""The rules of the house as functions of a source text; `test_layers.py` applies them.

Each rule takes a `Source` and yields `Violation`s. Nothing here imports the package: the rules read
the code, so that they also see imports inside functions and under `TYPE_CHECKING`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

PACKAGE = "keras_callbacks_plus"
MAX_LINES = 400


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Room -> rooms that it may import from. The arrows point down: nothing below names anything above.
ARROWS: dict[str, frozenset[str]] = {
    "_version": frozenset(),
    "errors": frozenset(),
    "_terminal": frozenset(),
    "policies": frozenset({"errors"}),
    "schedules": frozenset({"errors"}),
    "storage": frozenset({"errors"}),
    "events": frozenset({"errors"}),
    "_keras": frozenset({"errors", "policies", "schedules", "storage"}),
    "callbacks": frozenset({"errors", "policies", "schedules", "storage", "events", "_keras"}),
    # What Keras is needed for there is imported when it is asked for.
    "reading": frozenset({"errors", "policies", "storage", "_keras", "_terminal"}),
    "": frozenset({"_version", "errors", "policies", "schedules", "storage", "callbacks"})
    | {"reading"},
    # What a user's program would import, and what prints.
    "demo": frozenset({"", "errors", "policies", "schedules", "storage", "_terminal"}),
    "_checkpoint_commands": frozenset(
        {"", "errors", "policies", "storage", "reading", "_terminal"}
    ),
    "_snapshot_commands": frozenset({"errors", "storage", "_terminal"}),
    "cli": frozenset({"", "_version", "errors", "policies", "schedules", "storage", "demo"})
    | {"_terminal", "_checkpoint_commands", "_snapshot_commands"},
}

# Room -> other packages that it may import. Keras and its backends stand in rules of their own.
THIRD_PARTY: dict[str, frozenset[str]] = {
    "schedules": frozenset({"numpy", "matplotlib"}),
    "storage": frozenset({"numpy", "ml_dtypes", "fsspec", "zlib_ng"}),
    "events": frozenset({"numpy", "tensorboard", "google_crc32c", "crc32c"}),
    "_keras": frozenset({"numpy", "h5py", "ml_dtypes", "zlib_ng"}),
    "callbacks": frozenset({"numpy"}),
    "demo": frozenset({"numpy", "matplotlib", "sklearn", "tensorboard"}),
    "_terminal": frozenset({"rich"}),
    "_snapshot_commands": frozenset({"numpy"}),
    "cli": frozenset({"rich"}),
}

KERAS = frozenset({"keras", "tf_keras"})
KERAS_ROOMS = frozenset({"_keras", "callbacks", "demo"})
BACKENDS = frozenset({"tensorflow", "jax", "jaxlib", "torch"})
PRIVATE_KERAS_ROOM = "_keras/compat/"

PURE_ROOMS = frozenset({"policies", "schedules"})
IMPURE_MODULES = _words(
    "asyncio datetime io logging multiprocessing os pathlib random secrets shutil socket"
    " subprocess tempfile threading time"
)
PICKLES = _words("cloudpickle dill joblib marshal pickle shelve")
PRINTING_ROOMS = _words("cli _checkpoint_commands _snapshot_commands _terminal demo")

# the disk, object stores, and the lock that goes with its file
FILE_ROOMS = frozenset({"storage/filesystem.py", "storage/remote.py", "storage/locks.py"})
OS_CALLS = _words(
    "fdatasync fsync link remove removedirs rename renames replace rmdir symlink"
    " truncate ftruncate unlink write writev pwrite"
)
SHUTIL_CALLS = _words("copy copy2 copyfile copyfileobj copytree move rmtree")
PATH_CALLS = _words("write_text write_bytes unlink rmdir touch symlink_to hardlink_to")


@dataclass(frozen=True)
class Source:
    """One file of the package.

    Args:
        path: Path below the package's folder, with forward slashes.
        text: What the file holds.
    """

    path: str
    text: str

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(ast.parse(self.text)))

    @property
    def module(self) -> str:
        parts = [PACKAGE, *self.path.removesuffix(".py").split("/")]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        return room_of(self.module)

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """Line and dotted name of everything imported; `from a import b` gives `a.b`."""
        return [found for node in self.nodes for found in _imported(node, self)]


@dataclass(frozen=True)
class Violation:
    """A rule that is broken.

    Args:
        rule: Name of the rule.
        path: The file.
        line: Where in it.
        what: What stands there.
    """

    rule: str
    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{PACKAGE}/{self.path}:{self.line}: {self.rule}: {self.what}"


def room_of(module: str) -> str:
    """The first name below the package; an empty string for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ARROWS else ""


def _imported(node: ast.AST, source: Source) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        yield from ((node.lineno, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = source.module.split(".")
            if not source.path.endswith("__init__.py"):
                package = package[:-1]
            package = package[: len(package) - node.level + 1]
            base = ".".join([*package, *([base] if base else [])])
        yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
    elif isinstance(node, ast.Call):
        by_name = _dotted(node.func).split(".")[-1] in {"import_module", "__import__"}
        if by_name and node.args and isinstance(node.args[0], ast.Constant):
            yield node.lineno, str(node.args[0].value)


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


def arrows_point_down(source: Source) -> Iterator[Violation]:
    """A room imports only from the rooms below it."""
    if source.room == "" and source.path != "__init__.py":
        yield Violation(
            "arrows_point_down", source.path, 1, "a room that ARROWS of tests/architecture lacks"
        )
        return
    allowed = ARROWS[source.room] | {source.room}
    for line, name in source.imports:
        if name.split(".")[0] == PACKAGE and room_of(name) not in allowed:
            yield Violation("arrows_point_down", source.path, line, f"imports {name}")


def private_modules_stay_in_their_room(source: Source) -> Iterator[Violation]:
    """A module with an underscore is imported by its own room only."""
    for line, name in source.imports:
        parts = name.split(".")
        private = any(_is_private(part) for part in parts[2:])
        if private and parts[0] == PACKAGE and room_of(name) != source.room:
            yield Violation(
                "private_modules_stay_in_their_room", source.path, line, f"imports {name}"
            )


def third_party_is_listed(source: Source) -> Iterator[Violation]:
    """A room imports the standard library, and of the rest only what stands in `THIRD_PARTY`."""
    known = THIRD_PARTY.get(source.room, frozenset()) | KERAS | BACKENDS | {PACKAGE}
    for line, name in source.imports:
        top = name.split(".")[0]
        if top not in known and top not in sys.stdlib_module_names:
            yield Violation("third_party_is_listed", source.path, line, f"imports {name}")


def keras_only_above(source: Source) -> Iterator[Violation]:
    """Keras is imported in `_keras/`, `callbacks/` and the demo; a backend in `_keras/` alone."""
    for line, name in source.imports:
        top = name.split(".")[0]
        if (top in KERAS and source.room not in KERAS_ROOMS) or (
            top in BACKENDS and source.room != "_keras"
        ):
            yield Violation("keras_only_above", source.path, line, f"imports {name}")


def backends_are_imported_late(source: Source) -> Iterator[Violation]:
    """A backend is imported inside a function, because another one may be in use."""
    late = {
        inner
        for node in source.nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    for node in source.nodes:
        if node not in late:
            for line, name in _imported(node, source):
                if name.split(".")[0] in BACKENDS:
                    yield Violation("backends_are_imported_late", source.path, line, name)


def private_keras_only_in_compat(source: Source) -> Iterator[Violation]:
    """`keras.src` and `keras._anything` are named in `_keras/compat/` alone."""
    if source.path.startswith(PRIVATE_KERAS_ROOM):
        return
    named = [(n.lineno, _dotted(n)) for n in source.nodes if isinstance(n, ast.Attribute)]
    found = {}
    for line, name in [*source.imports, *named]:
        top, *rest = name.split(".")
        if top in KERAS and any(part == "src" or _is_private(part) for part in rest):
            found.setdefault(line, name)
    for line, name in found.items():
        yield Violation("private_keras_only_in_compat", source.path, line, name)


def private_attributes_stay_at_home(source: Source) -> Iterator[Violation]:
    """`other._name` only where this file defines `_name`; Keras's private ones in compat only."""
    if source.path.startswith(PRIVATE_KERAS_ROOM):
        return
    own = {
        node.name
        for node in source.nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and _on_self(node) and isinstance(node.ctx, ast.Store):
            own.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own.add(node.target.id)
        elif isinstance(node, ast.Assign):
            own |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    imported = {name.split(".")[-1] for _, name in source.imports}
    for node in source.nodes:
        name = _private_access(node)
        if name is not None and name not in own and name not in imported:
            line = getattr(node, "lineno", 1)
            yield Violation("private_attributes_stay_at_home", source.path, line, name)


def _private_access(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute) and _is_private(node.attr) and not _on_self(node):
        dotted = _dotted(node)
        return None if dotted.startswith(("os._", "sys._")) else node.attr
    if isinstance(node, ast.Call) and _dotted(node.func) in {"getattr", "setattr", "hasattr"}:
        wanted = node.args[1] if len(node.args) > 1 else None
        if isinstance(wanted, ast.Constant) and _is_private(str(wanted.value)):
            return str(wanted.value)
    return None


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _on_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}


def files_change_in_one_place(source: Source) -> Iterator[Violation]:
    """Only the file systems of `storage/` open for writing, rename, fsync and delete."""
    if source.path in FILE_ROOMS:
        return
    for node in source.nodes:
        what = _changes_files(node)
        if what is not None:
            line = getattr(node, "lineno", 1)
            yield Violation("files_change_in_one_place", source.path, line, what)
    for line, name in source.imports:
        top, _, rest = name.partition(".")
        if (top == "os" and rest in OS_CALLS) or (top == "shutil" and rest in SHUTIL_CALLS):
            yield Violation("files_change_in_one_place", source.path, line, f"imports {name}")
        if top == "tempfile":
            yield Violation("files_change_in_one_place", source.path, line, f"imports {name}")


def _changes_files(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    called = _dotted(node.func)
    last = called.split(".")[-1] if called else getattr(node.func, "attr", "")
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if called == "os.open":
        flags = node.args[1] if len(node.args) > 1 else keywords.get("flags")
        return None if flags is not None and _dotted(flags) == "os.O_RDONLY" else "os.open to write"
    if called.startswith("os.") and last in OS_CALLS:
        return called
    if called.startswith("shutil.") and last in SHUTIL_CALLS:
        return called
    if isinstance(node.func, ast.Attribute) and last in PATH_CALLS:
        return f".{last}()"
    if isinstance(node.func, ast.Attribute) and last in {"replace", "rename"}:
        # str.replace takes two arguments, dataclasses.replace a keyword; Path.replace takes one
        return f".{last}()" if len(node.args) == 1 and not keywords else None
    if last == "open" and isinstance(node.func, ast.Name | ast.Attribute):
        place = 0 if isinstance(node.func, ast.Attribute) and called != "io.open" else 1
        mode = node.args[place] if len(node.args) > place else keywords.get("mode")
        if mode is None:
            return None
        if not isinstance(mode, ast.Constant):
            return "open with a mode that is not written out"
        return f"open(..., {mode.value!r})" if set(str(mode.value)) & set("wax+") else None
    return None


def layer_one_is_pure(source: Source) -> Iterator[Violation]:
    """`policies/` and `schedules/` have no clock, no randomness, no files and no threads."""
    if source.room in PURE_ROOMS:
        for line, name in source.imports:
            if name.split(".")[0] in IMPURE_MODULES:
                yield Violation("layer_one_is_pure", source.path, line, f"imports {name}")


def no_pickle(source: Source) -> Iterator[Violation]:
    """State is JSON types and arrays: what is read back must not be able to run code."""
    for line, name in source.imports:
        if name.split(".")[0] in PICKLES:
            yield Violation("no_pickle", source.path, line, f"imports {name}")


def no_long_files(source: Source) -> Iterator[Violation]:
    """A file of more than 400 lines holds more than one idea."""
    lines = len(source.text.splitlines())
    if lines > MAX_LINES:
        yield Violation("no_long_files", source.path, MAX_LINES, f"{lines} lines")


def no_sleep(source: Source) -> Iterator[Violation]:
    """Nothing waits for time to pass: an event or a lock says when to go on."""
    for node in source.nodes:
        if isinstance(node, ast.Call) and _dotted(node.func).split(".")[-1] == "sleep":
            yield Violation("no_sleep", source.path, node.lineno, _dotted(node.func))


def no_bare_except(source: Source) -> Iterator[Violation]:
    """An `except` names what it catches."""
    for node in source.nodes:
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield Violation("no_bare_except", source.path, node.lineno, "bare except")


def no_print(source: Source) -> Iterator[Violation]:
    """Below the command line and the demo, messages go through Keras's output or the logger."""
    if source.room not in PRINTING_ROOMS:
        for node in source.nodes:
            if isinstance(node, ast.Call) and _dotted(node.func) == "print":
                yield Violation("no_print", source.path, node.lineno, "print()")


RULES: tuple[Callable[[Source], Iterator[Violation]], ...] = (
    arrows_point_down,
    private_modules_stay_in_their_room,
    third_party_is_listed,
    keras_only_above,
    backends_are_imported_late,
    private_keras_only_in_compat,
    private_attributes_stay_at_home,
    files_change_in_one_place,
    layer_one_is_pure,
    no_pickle,
    no_long_files,
    no_sleep,
    no_bare_except,
    no_print,
)
