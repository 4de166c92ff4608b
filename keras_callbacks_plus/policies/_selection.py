"""What comes in and what stays: a retention policy, and `save_best_only` in front of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keras_callbacks_plus.policies._monitor import Monitor
from keras_callbacks_plus.policies._retention import Decision, Record, RetentionPolicy, ask
from keras_callbacks_plus.policies._retention_compose import monitors_of

__all__ = ["Selection", "best_value"]


@dataclass(frozen=True)
class Selection:
    """Which checkpoints are saved, and which of those that were are kept.

    Without `monitor`, the policy alone decides. With it, a new checkpoint has to be worth it
    first: its value is ranked, and better than `threshold`. Then

    - if the policy ranks by a metric, it says which are among the best; where `min_delta` is not 0,
      the new one must be better by more than that than each one that would go because of it;
    - if it does not, the new one must be better (by more than `min_delta`) than all that are there.

    So the best checkpoint that is kept is the best there is, whatever `min_delta` is.

    Args:
        policy: The retention policy, bound to its comparison.
        monitor: `Monitor`, the comparison; `None` lets every checkpoint in. Defaults to `None`.
        threshold: Float, what must be beaten, or `None`. Defaults to `None`.
    """

    policy: RetentionPolicy
    monitor: Monitor | None = None
    threshold: float | None = None

    def judge(self, others: Sequence[Record], new: Record) -> list[Decision]:
        """One decision for each checkpoint, in order; the last one is that on the new one.

        Args:
            others: Those that are there.
            new: The one that wants to come in.
        """
        decisions = ask(self.policy, [*others, new])
        refusal = self._refusal(others, new, decisions)
        if refusal is not None:
            decisions[-1] = Decision(new.path, False, refusal)
        return decisions

    def _refusal(
        self, others: Sequence[Record], new: Record, decisions: Sequence[Decision]
    ) -> str | None:
        monitor = self.monitor
        if monitor is None:
            return None
        name, value = monitor.name, new.metrics.get(monitor.name)
        if value is None or not monitor.is_ranked(value):
            return f"{name} is {'missing' if value is None else value}, which is never the best"
        if not monitor.is_better(value, self.threshold):
            return f"{name} did not improve from {self.threshold:.5f}"
        if not monitors_of(self.policy):
            best = best_value(monitor, others)
            better = monitor.is_better(value, best)
            return None if better else f"{name} did not improve from {best:.5f}"
        if monitor.min_delta == 0:
            return None
        stayed = {d.path for d in ask(self.policy, others) if d.keep}
        for record, decision in zip(others, decisions, strict=False):
            old = record.metrics.get(name)
            if record.path in stayed and not decision.keep and not monitor.is_better(value, old):
                return (
                    f"{name} ({value:.5f}) is not better by {monitor.min_delta:g} than the "
                    f"{old:.5f} of {record.path}"
                )
        return None


def best_value(monitor: Monitor, records: Iterable[Record]) -> float | None:
    """The best value of a metric among checkpoints, or `None` where none is ranked.

    Args:
        monitor: The comparison.
        records: The checkpoints.
    """
    values = [r.metrics.get(monitor.name) for r in records]
    return min((v for v in values if monitor.is_ranked(v)), key=monitor.sort_key, default=None)
