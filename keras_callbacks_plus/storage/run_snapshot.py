"""What every snapshot of a run has at its top, whoever wrote it."""

from __future__ import annotations

from typing import Any

from keras_callbacks_plus.errors import CheckpointCorruptedError, ResumeError

__all__ = ["FORMAT", "SERIES", "check_snapshot"]

FORMAT = 3
SERIES = "training_state"

_MAYBE_LIST = list, type(None)
_PARTS: dict[str, tuple[type, ...]] = {
    "time": (int, float),
    **dict.fromkeys(("epoch", "epochs", "first_epoch"), (int,)),
    **dict.fromkeys(("executions", "batches_of_epoch", "batches"), (int,)),
    "stopped": (bool,),
    **dict.fromkeys(("model", "random", "input", "fingerprint"), (dict,)),
    "callbacks": (list,),
    "start": (dict, type(None)),
    **dict.fromkeys(("metrics", "rates"), _MAYBE_LIST),
}


def check_snapshot(tree: Any, path: str) -> dict[str, Any]:
    """The tree, if it is that of a snapshot.

    Args:
        tree: What a container held.
        path: The container, for the errors.

    Raises:
        ResumeError: If it is of another format.
        CheckpointCorruptedError: If it is no snapshot of a run, or a part is missing.
    """
    if not isinstance(tree, dict) or "format" not in tree:
        raise CheckpointCorruptedError(f"{path} holds no snapshot of a run.", path)
    if tree["format"] != FORMAT:
        raise ResumeError(
            f"The snapshot {path} has format {tree['format']}, and this version reads format "
            f"{FORMAT}. Resume the run with the version of keras-callbacks-plus that saved it, or "
            "name another `backup_dir` to start afresh."
        )
    wrong = [name for name, kinds in _PARTS.items() if not isinstance(tree.get(name, ()), kinds)]
    if not wrong:
        names = tree["fingerprint"].get("callbacks")
        if not isinstance(names, list) or len(names) != len(tree["callbacks"]):
            wrong.append("callbacks")
        groups = [tree["model"].get(name) for name in ("variables", "optimizer")]
        if not all(isinstance(group, list) for group in groups):
            wrong.append("model")
        if tree["executions"] > 0 and None in (tree["start"], tree["metrics"]):
            wrong.append("start")
    if wrong:
        raise CheckpointCorruptedError(
            f"{path} has a right checksum and is no whole snapshot of a run: {wrong[0]!r} is "
            "missing or is something else.",
            path,
        )
    return tree
