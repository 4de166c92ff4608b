"""A policy from a command line: Python's own spelling, and nothing that could run."""

from __future__ import annotations

import pytest

from keras_callbacks_plus import policies
from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies import (
    AllOf,
    AnyOf,
    BestN,
    EveryN,
    KeepAll,
    LatestN,
    MaxBytes,
    Monitor,
    Within,
    parse_policy,
)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("LatestN(2)", LatestN(2)),
        (" KeepAll() ", KeepAll()),
        ("policies.LatestN(n=2)", LatestN(2)),
        ("kcp.policies.LatestN(2)", LatestN(2)),
        ("BestN(3) | LatestN(1)", BestN(3) | LatestN(1)),
        ("BestN(3) | LatestN(1) | EveryN(2)", BestN(3) | LatestN(1) | EveryN(2)),
        ("BestN(5) & MaxBytes(10 * 10**9)", BestN(5) & MaxBytes(10**10)),
        ("BestN(5) & MaxBytes(1e9) | LatestN(1)", BestN(5) & MaxBytes(1e9) | LatestN(1)),
        ("(BestN(5) | LatestN(1)) & Within(60)", (BestN(5) | LatestN(1)) & Within(60)),
        ('BestN(1, Monitor("auc", "max"), tie="last")', BestN(1, Monitor("auc", "max"), "last")),
        ('EveryN(2.5, "seconds")', EveryN(2.5, "seconds")),
        ('Within(parse_duration("1 h"))', Within(3600.0)),
        ("BestN(3, None)", BestN(3)),
    ],
)
def test_reads_what_python_would(text, policy):
    assert parse_policy(text) == policy


@pytest.mark.parametrize(
    "policy",
    [
        AnyOf((BestN(3, Monitor("a", "min", 0.5)), LatestN(1))),
        AllOf((LatestN(2), MaxBytes(5))),
        EveryN(4, "batches"),
    ],
    ids=repr,
)
def test_what_a_ledger_or_a_config_shows_can_be_read_back_part_by_part(policy):
    members = getattr(policy, "members", (policy,))
    assert tuple(parse_policy(repr(member)) for member in members) == members


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("BestN(3", "cannot be read"),
        ("BestN 3", "cannot be read"),
        ("a\0b", "cannot be read"),
        ("3", "'3' is refused. Use BestN, LatestN"),
        ("BestM(3)", "'BestM(3)' is refused"),
        ("BestN", "'BestN' is refused"),
        ("BestN(3) + LatestN(1)", "is refused"),
        ("BestN(3) or LatestN(1)", "is refused"),
        ("[BestN(3)]", "is refused"),
        ("BestN(3).bind", "is refused"),
        ("__import__('os').system('true')", "is refused"),
        ("os.BestN(3)", "is refused"),
        ("BestN(open('x'))", "open('x')"),
        ("BestN(n)", "'n' is refused. Arguments are numbers"),
        ("BestN(-1)", "'-1' is refused"),
        ("BestN(*(3,))", "is refused"),
        ("BestN(**{'n': 3})", "Write the arguments out."),
        ("BestN(3, 4, 5, 6)", "is refused"),
        ("BestN(m=3)", "unexpected keyword argument 'm'"),
        ("BestN(9**9**9**9)", "a number that is not as large"),
        ("BestN('a' * 10)", "Only numbers can be multiplied"),
        ("BestN(10**200 * 10**200)", "a number that is not as large"),
        ("LatestN(1) | " * 200 + "LatestN(1)", "at most 1000 characters"),
        ("(" * 400 + "LatestN(1)" + ")" * 400, "cannot be read"),
    ],
)
def test_anything_else_is_refused_by_name(text, message):
    with pytest.raises(InvalidArgumentError) as error:
        parse_policy(text, argument="--keep")
    assert error.value.argument == "--keep"
    assert message in str(error.value)
    assert "BestN(3) | LatestN(1)" in str(error.value)


def test_the_policys_own_checks_hold():
    with pytest.raises(InvalidArgumentError, match="an integer of at least 1"):
        parse_policy("BestN(0)")


def test_it_is_public():
    assert "parse_policy" in policies.__all__
