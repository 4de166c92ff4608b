"""A retention policy from the text that a user would write in Python; nothing is evaluated."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies._duration import parse_duration
from keras_callbacks_plus.policies._monitor import Monitor
from keras_callbacks_plus.policies._retention import RetentionPolicy
from keras_callbacks_plus.policies._retention_compose import AllOf, AnyOf
from keras_callbacks_plus.policies._retention_limits import MaxBytes, Within
from keras_callbacks_plus.policies._retention_rules import BestN, EveryN, KeepAll, LatestN

__all__ = ["parse_policy"]

_POLICIES: Mapping[str, Callable[..., Any]] = {
    "BestN": BestN,
    "LatestN": LatestN,
    "EveryN": EveryN,
    "Within": Within,
    "MaxBytes": MaxBytes,
    "KeepAll": KeepAll,
}
_VALUES: Mapping[str, Callable[..., Any]] = {"Monitor": Monitor, "parse_duration": parse_duration}
_LIMIT = 1000  # characters; more is not typed by hand
_LARGEST = 1e300


def parse_policy(text: str, *, argument: str = "keep") -> RetentionPolicy:
    """Reads a retention policy as it is written in Python: `"BestN(3) | LatestN(1)"`.

    The policies of this module, `Monitor`, `parse_duration`, strings, numbers with `*` and `**`,
    `|`, `&` and parentheses; anything else is refused, and nothing is evaluated.

    Args:
        text: String, the policy.
        argument: Name of the argument, for the error.

    Raises:
        InvalidArgumentError: If it is not a policy; the message names the part.

    Example:

    >>> from keras_callbacks_plus import policies
    >>> policies.parse_policy("BestN(3) | LatestN(1)")
    AnyOf(members=(BestN(n=3, monitor=None, tie='first'), LatestN(n=1)))
    >>> policies.parse_policy('EveryN(2, "epochs") & MaxBytes(10 * 10**9)').members[1]
    MaxBytes(bytes=10000000000, evict_first='worst', monitor=None)
    """
    return _Reader(argument, text).policy()


class _Reader:
    def __init__(self, argument: str, text: str) -> None:
        self._argument = argument
        self._text = text

    def policy(self) -> RetentionPolicy:
        if not isinstance(self._text, str) or len(self._text) > _LIMIT:
            raise self._error(f"Write at most {_LIMIT} characters.")
        try:
            tree = ast.parse(self._text.strip(), mode="eval")
            return self._policy(tree.body)
        except SyntaxError as error:
            raise self._error(f"It cannot be read: {error.msg}.") from error
        except (ValueError, RecursionError, MemoryError) as error:
            if isinstance(error, InvalidArgumentError):
                raise
            raise self._error(f"It cannot be read: {error}.") from error

    def _policy(self, node: ast.expr) -> RetentionPolicy:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd):
            members = [self._policy(side) for side in (node.left, node.right)]
            kind = AnyOf if isinstance(node.op, ast.BitOr) else AllOf
            flat = [m.members if isinstance(m, kind) else (m,) for m in members]
            return kind((*flat[0], *flat[1]))
        if isinstance(node, ast.Call) and _name(node.func) in _POLICIES:
            policy: RetentionPolicy = self._call(node, _POLICIES)
            return policy
        raise self._refused(node, f"Use {', '.join(_POLICIES)}, joined by | or &.")

    def _call(self, node: ast.Call, known: Mapping[str, Callable[..., Any]]) -> Any:
        keywords = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise self._refused(node, "Write the arguments out.")
            keywords[keyword.arg] = self._value(keyword.value)
        try:
            return known[_name(node.func)](*map(self._value, node.args), **keywords)
        except TypeError as error:
            raise self._refused(node, f"{error}.") from error

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
            return node.value
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Pow):
            return self._product(node)
        if isinstance(node, ast.Call) and _name(node.func) in _VALUES:
            return self._call(node, _VALUES)
        raise self._refused(node, 'Arguments are numbers, strings and Monitor("val_loss", "min").')

    def _product(self, node: ast.BinOp) -> int | float:
        left, right = self._value(node.left), self._value(node.right)
        if not all(isinstance(side, int | float) for side in (left, right)):
            raise self._refused(node, "Only numbers can be multiplied.")
        try:  # as floats first: an exponent of 10**9 would take all memory
            is_power = isinstance(node.op, ast.Pow)
            size = float(left) ** float(right) if is_power else float(left) * float(right)
        except (ArithmeticError, TypeError):
            size = _LARGEST
        if isinstance(size, complex) or not abs(size) < _LARGEST:
            raise self._refused(node, "Write a number that is not as large.")
        result: int | float = left**right if is_power else left * right
        return result

    def _refused(self, node: ast.expr, fix: str) -> InvalidArgumentError:
        part = ast.get_source_segment(self._text.strip(), node)
        return self._error(f"{part!r} is refused. {fix}")

    def _error(self, fix: str) -> InvalidArgumentError:
        expected = 'a retention policy such as "BestN(3) | LatestN(1)"'
        return InvalidArgumentError(self._argument, self._text, expected, fix)


def _name(node: ast.expr) -> str:
    """`BestN`, also where it was pasted as `policies.BestN` or `kcp.policies.BestN`."""
    name = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""
    return name.removeprefix("kcp.").removeprefix("policies.")
