"""Whether a checkpoint is saved, and under which name, so that it replaces nothing that is to stay.

Asked twice: before a model is copied, whether that is worth it; and under the folder's lock, when
the file is written and every other checkpoint is known, what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from keras_callbacks_plus.policies import KeepAll, Selection
from keras_callbacks_plus.storage import versions

__all__ = ["Placement", "place"]


@dataclass(frozen=True)
class Placement:
    """What becomes of a new checkpoint.

    Args:
        path: Its name, or `None` where it is not saved.
        reason: Why.
    """

    path: str | None
    reason: str


def place(
    selection: Selection,
    members: Sequence[Any],
    new: Any,
    is_taken: Callable[[str], bool],
    *,
    forced: bool = False,
) -> Placement:
    """Decides on a new checkpoint.

    A file of its own name is replaced if it is of the same moment of the same run (a resumed run
    comes by again), or if the policy has no more use for it, or keeps everything as Keras does.
    Otherwise the new one gets a version: `05-v1.keras`.

    Args:
        selection: Decides who comes in and who stays.
        members: The checkpoints of the series.
        new: The new one, under the name that it would like to have.
        is_taken: Whether a file of a name belongs to somebody else.
        forced: Whether it is to be saved whatever the selection says.
    """
    again = next((m for m in members if _same_moment(m, new)), None)
    others = [m for m in members if m is not again]
    decisions = selection.judge(others, new)
    verdict = decisions.pop()
    if not verdict.keep and not forced:
        return Placement(None, verdict.reason)
    reason = verdict.reason if verdict.keep else "saved as it was asked for, whatever its score"
    if again is not None:
        return Placement(again.path, reason)
    staying = {decision.path for decision in decisions if decision.keep}
    if isinstance(selection.policy, KeepAll):
        staying = set()
    free = (n for n in versions(new.path) if n not in staying and not is_taken(n))
    return Placement(next(free), reason)


def _same_moment(member: Any, new: Any) -> bool:
    then = (member.epoch, member.batch, member.step)
    if then != (new.epoch, new.batch, new.step):
        return False
    pairs = ((member.metrics.get(k), new.metrics.get(k)) for k in member.metrics)
    return member.metrics.keys() == new.metrics.keys() and all(
        a == b or (a != a and b != b) for a, b in pairs
    )
