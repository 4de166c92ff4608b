"""What users type for an amount of training."""

from __future__ import annotations

import math

import pytest

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies import Duration, Progress, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30 s", 30),
        ("30s", 30),
        ("1 sec", 1),
        ("90 seconds", 90),
        ("10 min", 600),
        (" 10  MIN ", 600),
        ("1 h", 3600),
        ("1.5 h", 5400),
        ("3h50min", 13800),
        ("3 h 50 min 10 s", 13810),
        ("2 days", 172800),
        ("1d12h", 129600),
    ],
)
def test_parse_duration(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("90", 'Add the unit: "90 s", "90 min" or "90 h".'),
        (90, 'Add the unit: "90 s", "90 min" or "90 h".'),
        (1.5, 'Add the unit: "1.5 s", "1.5 min" or "1.5 h".'),
        ("5m", 'Write "30 s", "10 min", "1.5 h" or "3h50min".'),  # minutes or months?
        ("2 epochs", 'Write "30 s"'),
        ("0 s", 'Write "30 s"'),
        ("0", 'Write "30 s"'),
        ("-5 min", 'Write "30 s"'),
        ("50min3h", 'Write "30 s"'),
        ("1h1h", 'Write "30 s"'),
        ("1h,5min", 'Write "30 s"'),
        ("1e3 s", 'Write "30 s"'),
        ("nan s", 'Write "30 s"'),
        ("inf h", 'Write "30 s"'),
        ("9" * 400 + " s", 'Write "30 s"'),
        ("٣ min", 'Write "30 s"'),  # `\d` and `float` would take Arabic digits
        ("", 'Write "30 s"'),
        ("min", 'Write "30 s"'),
        (None, 'Write "30 s"'),
        (True, 'Write "30 s"'),
        (math.nan, 'Write "30 s"'),
    ],
)
def test_parse_duration_refuses(text, fix):
    with pytest.raises(InvalidArgumentError) as caught:
        parse_duration(text, argument="max_time")
    assert caught.value.argument == "max_time"
    assert caught.value.fix.startswith(fix)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("3 epochs", Duration(3, "epochs")),
        ("1 epoch", Duration(1, "epochs")),
        ("2000 batches", Duration(2000, "batches")),
        ("500 steps", Duration(500, "batches")),
        ("30 min", Duration(1800.0, "seconds")),
    ],
)
def test_duration_parse(text, duration):
    assert Duration.parse(text) == duration


@pytest.mark.parametrize("text", ["5", 5, "2.5 epochs", "0 batches", "1h 2 epochs", None, True])
def test_duration_parse_refuses(text):
    with pytest.raises(InvalidArgumentError) as caught:
        Duration.parse(text, argument="patience")
    assert caught.value.argument == "patience"
    assert 'Write "5 epochs", "2000 batches", "30 min" or "3h50min".' in str(caught.value)


@pytest.mark.parametrize(
    ("amount", "unit", "argument"),
    [
        (0, "epochs", "amount"),
        (-1, "batches", "amount"),
        (1.5, "epochs", "amount"),
        (True, "batches", "amount"),
        (math.nan, "seconds", "amount"),
        (math.inf, "seconds", "amount"),
        (0.0, "seconds", "amount"),
        (1, "minutes", "unit"),
    ],
)
def test_duration_refuses(amount, unit, argument):
    with pytest.raises(InvalidArgumentError) as caught:
        Duration(amount, unit)
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    ("unit", "now", "over"),
    [
        ("epochs", Progress(epochs=4, batches=900, seconds=900.0), False),
        ("epochs", Progress(epochs=5), True),
        ("batches", Progress(epochs=900, batches=13), False),
        ("batches", Progress(batches=14), True),
        ("seconds", Progress(seconds=103.9), False),
        ("seconds", Progress(seconds=104.0), True),
    ],
)
def test_is_over_looks_at_its_own_unit(unit, now, over):
    since = Progress(epochs=1, batches=10, seconds=100.0)
    assert Duration(4, unit).is_over(since, now) is over
