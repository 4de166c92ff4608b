"""Is it better, and by how much: the one place that compares two values of a metric."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies._checks import check_choice, check_number

__all__ = ["Monitor", "check_monitor"]

# Names whose direction is known without the model's metric objects, which TensorFlow builds only
# in the first step. Keras itself knows `loss` alone.
_SMALLER_IS_BETTER = re.compile(
    r"(^|_)(loss|error|mse|mae|mape|msle|rmse|crossentropy|kl_divergence|perplexity|poisson|hinge"
    r"|squared_hinge|log_cosh|logcosh|cosine_distance|false_positives|false_negatives)$"
)
_LARGER_IS_BETTER = re.compile(
    r"(^|_)(acc|accuracy|auc|precision|recall|f1|f1_score|fbeta_score|iou|dice|r2|r2_score"
    r"|true_positives|true_negatives|concordance_correlation|pearson_correlation)(_\d+)?$"
)


@dataclass(frozen=True)
class Monitor:
    """Which metric is watched, and when one value of it is better than another.

    A value that is `None`, NaN, or infinite on the wrong side (`inf` where smaller is better) is
    *not ranked*: it is never better than anything, and anything ranked is better than it, or than
    no best at all. Infinity on the right side is a legal best that nothing beats. Otherwise, with
    the best `b` so far, `v` is better if `v + d < b` (`mode="min"`) or `v - d > b`
    (`mode="max"`), where `d` is `min_delta`, or `min_delta * abs(b)` if it is relative.

    Values are compared as Python floats; Keras rounds them to float32 first.

    Args:
        name: String, name of the metric.
        mode: `"min"` or `"max"`.
        min_delta: Float, the smallest difference that counts, at least 0. Defaults to `0.0`.
        min_delta_mode: `"absolute"` or `"relative"`. Defaults to `"absolute"`.

    Raises:
        InvalidArgumentError: If an argument is not acceptable.

    Example:

    >>> from keras_callbacks_plus import policies
    >>> loss = policies.Monitor("val_loss", "min", min_delta=0.1)
    >>> loss.is_better(0.85, 1.0), loss.is_better(0.95, 1.0), loss.is_better(float("nan"), None)
    (True, False, False)
    >>> sorted([0.3, None, 0.1, float("nan"), 0.2], key=loss.sort_key)
    [0.1, 0.2, 0.3, None, nan]
    """

    name: str
    mode: Literal["min", "max"]
    min_delta: float = 0.0
    min_delta_mode: Literal["absolute", "relative"] = "absolute"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidArgumentError(
                "monitor", self.name, "the name of a logged metric", 'Write "val_loss", for one.'
            )
        check_choice(
            "mode",
            self.mode,
            ("min", "max"),
            fix='Write "min" for a loss or an error, "max" for an accuracy.',
        )
        check_number(
            "min_delta",
            self.min_delta,
            minimum=0.0,
            fix="Write 0.001, for one; `mode` says in which direction it counts.",
        )
        check_choice(
            "min_delta_mode",
            self.min_delta_mode,
            ("absolute", "relative"),
            fix='Write "relative" for a fraction of the best value.',
        )

    @staticmethod
    def known_mode(name: str) -> Literal["min", "max"] | None:
        """Which direction is better for a metric that goes by a well-known name.

        Args:
            name: Name of the metric, with or without `val_`.

        Returns:
            `"min"`, `"max"`, or `None` where the name does not tell.

        Example:

        >>> from keras_callbacks_plus import policies
        >>> [policies.Monitor.known_mode(n) for n in ("val_loss", "accuracy", "my_score")]
        ['min', 'max', None]
        """
        if _SMALLER_IS_BETTER.search(name):
            return "min"
        if _LARGER_IS_BETTER.search(name):
            return "max"
        return None

    def is_ranked(self, value: float | None) -> bool:
        """Whether a value can be the best at all.

        Args:
            value: The metric, or `None` where it was not logged.
        """
        if value is None or math.isnan(value):
            return False
        return value != (math.inf if self.mode == "min" else -math.inf)

    def is_better(self, value: float | None, best: float | None) -> bool:
        """Whether `value` is better than `best` by more than `min_delta`.

        Args:
            value: The new value, or `None` where it was not logged.
            best: The best so far, or `None`.
        """
        if value is None or not self.is_ranked(value):
            return False
        if best is None or not self.is_ranked(best):
            return True
        # a NumPy float32 would swallow a small min_delta; as a double it is exact
        value, best = float(value), float(best)
        if math.isinf(value) or math.isinf(best):
            return not math.isinf(best)
        delta = self.min_delta * abs(best) if self.min_delta_mode == "relative" else self.min_delta
        # Keras's own order of operations (monitor_callback.py), so that rounding is the same
        return value + delta < best if self.mode == "min" else value - delta > best

    def reaches(self, value: float | None, target: float) -> bool:
        """Whether `value` is at least as good as `target`, whatever `min_delta` is.

        Args:
            value: The metric, or `None`.
            target: A number to reach.
        """
        if value is None or not self.is_ranked(value):
            return False
        return value <= target if self.mode == "min" else value >= target

    def sort_key(self, value: float | None) -> tuple[bool, float]:
        """A key that sorts the best value first, and what is not ranked last.

        `min_delta` plays no part: "better by more than" is not an order.

        Args:
            value: The metric, or `None`.
        """
        if value is None or not self.is_ranked(value):
            return (True, 0.0)
        return (False, value if self.mode == "min" else -value)


def check_monitor(value: object) -> None:
    """Raises unless `value` is a `Monitor` or `None`.

    Args:
        value: What the user gave.

    Raises:
        InvalidArgumentError: If it is not.
    """
    if value is not None and not isinstance(value, Monitor):
        raise InvalidArgumentError(
            "monitor", value, "a Monitor or None", 'Write Monitor("val_loss", "min").'
        )
