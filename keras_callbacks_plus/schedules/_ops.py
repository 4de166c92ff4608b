"""The few operations that formulas are written in, for Python numbers.

A formula takes its operations as an argument, so that one text serves a Python number here and a
tensor of any backend (`keras.ops` has the same names and meanings).
"""

from __future__ import annotations

import math
from typing import Any, Protocol

__all__ = ["PYTHON", "Operations"]


class Operations(Protocol):
    """What a formula may use besides `+ - * /` and comparisons; `keras.ops` provides it."""

    def where(self, condition: Any, x1: Any, x2: Any) -> Any:
        """`x1` where the condition holds, else `x2`; both are evaluated."""

    def minimum(self, x1: Any, x2: Any) -> Any:
        """The smaller of two."""

    def maximum(self, x1: Any, x2: Any) -> Any:
        """The larger of two."""

    def power(self, x1: Any, x2: Any) -> Any:
        """`x1` raised to `x2`."""

    def cos(self, x: Any) -> Any:
        """The cosine of an angle in radians."""

    def floor(self, x: Any) -> Any:
        """The largest whole number that is not above `x`."""

    def ceil(self, x: Any) -> Any:
        """The smallest whole number that is not below `x`."""


class _PythonOperations:
    def where(self, condition: Any, x1: Any, x2: Any) -> Any:
        return x1 if condition else x2

    def minimum(self, x1: Any, x2: Any) -> Any:
        return min(x1, x2)

    def maximum(self, x1: Any, x2: Any) -> Any:
        return max(x1, x2)

    def power(self, x1: Any, x2: Any) -> Any:
        try:
            return float(x1) ** float(x2)
        except OverflowError:  # a tensor says inf, and so do we
            return math.inf

    def cos(self, x: Any) -> Any:
        return math.cos(x)

    def floor(self, x: Any) -> Any:
        return float(math.floor(x))

    def ceil(self, x: Any) -> Any:
        return float(math.ceil(x))


PYTHON: Operations = _PythonOperations()
