"""When to act: what users type, and the moments at which it fires."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies import Progress, Trigger


@pytest.mark.parametrize(
    ("spec", "trigger"),
    [
        ("epoch", Trigger(1, "epochs")),
        (" Epoch ", Trigger(1, "epochs")),
        ("batch", Trigger(1, "batches")),
        (500, Trigger(500, "batches")),
        (np.int64(500), Trigger(500, "batches")),
        ("2 epochs", Trigger(2, "epochs")),
        ("1 epoch", Trigger(1, "epochs")),
        ("500 batches", Trigger(500, "batches")),
        ("500batches", Trigger(500, "batches")),
        ("500 steps", Trigger(500, "batches")),
        ("10 min", Trigger(600, "seconds")),
        ("1 h", Trigger(3600, "seconds")),
        ("3h50min", Trigger(13800, "seconds")),
        ("30 s", Trigger(30, "seconds")),
        (Trigger(7, "epochs"), Trigger(7, "epochs")),
    ],
)
def test_parse(spec, trigger):
    assert Trigger.parse(spec) == trigger


@pytest.mark.parametrize(
    ("spec", "fix"),
    [
        ("5", 'Write save_freq=5 or save_freq="5 batches", or save_freq="5 epochs".'),
        (5.0, 'write save_freq=5 (batches), or save_freq="5 epochs".'),
        (2.5, 'write save_freq=2 (batches), or save_freq="2 epochs".'),
        ("5m", 'Write save_freq="10 min" for minutes, save_freq="30 s" for seconds.'),
        ("1.5 epochs", 'Batches and epochs are whole numbers: write save_freq="2 epochs".'),
        ("every 5 epochs", 'Write save_freq="5 epochs".'),
        ("each 100 steps", 'Write save_freq="100 batches".'),
        (True, 'Write save_freq="epoch" to act at the end of every epoch.'),
        (False, 'Write save_freq="epoch"'),  # `isinstance(False, int)`: Keras saves every batch
        (0, 'Write save_freq="epoch"'),
        ("0", 'Write save_freq="epoch"'),
        (-1, 'Write save_freq="epoch"'),
        (0.5, 'Write save_freq="epoch"'),
        (math.nan, 'Write save_freq="epoch"'),
        (math.inf, 'Write save_freq="epoch"'),
        ("", 'Write save_freq="epoch"'),
        ("0 epochs", 'Write save_freq="epoch"'),
        ("-2 epochs", 'Write save_freq="epoch"'),
        ("2.5 epochs", 'write save_freq="3 epochs"'),
        ("2 epochs 5 batches", 'Write save_freq="epoch"'),
        ("every epoch", 'Write save_freq="epoch"'),
        ("²", 'Write save_freq="epoch"'),  # `"²".isdigit()` is true, and `int("²")` raises
        ("9" * 5000, 'Write save_freq="epoch"'),
        ("9" * 400 + " epochs", 'Write save_freq="epoch"'),
        (None, 'Write save_freq="epoch"'),
        ([5], 'Write save_freq="epoch"'),
    ],
)
def test_parse_refuses(spec, fix):
    with pytest.raises(InvalidArgumentError) as caught:
        Trigger.parse(spec)
    assert caught.value.argument == "save_freq"
    assert fix in caught.value.fix


def test_the_line_to_paste_is_accepted_and_names_the_argument():
    with pytest.raises(InvalidArgumentError) as caught:
        Trigger.parse("5", argument="update_freq")
    assert 'Write update_freq=5 or update_freq="5 batches"' in str(caught.value)
    assert Trigger.parse(5) == Trigger.parse("5 batches") == Trigger(5, "batches")
    assert Trigger.parse("5 epochs") == Trigger(5, "epochs")


@pytest.mark.parametrize(
    ("every", "unit", "argument", "fix"),
    [
        (0, "epochs", "every", "Write 5 for five epochs."),
        (2.0, "batches", "every", "Write 5 for five batches."),
        (True, "epochs", "every", "Write 5 for five epochs."),
        (0.0, "seconds", "every", "Write 600 for ten minutes."),
        (math.nan, "seconds", "every", "Write 600 for ten minutes."),
        (5, "steps", "unit", 'Write "epochs", for one.'),
    ],
)
def test_constructor_refuses(every, unit, argument, fix):
    with pytest.raises(InvalidArgumentError) as caught:
        Trigger(every, unit)
    assert caught.value.argument == argument
    assert caught.value.fix == fix


@pytest.mark.parametrize(
    ("every", "before", "now", "due"),
    [
        (500, 0, 499, False),
        (500, 0, 500, True),
        (500, 499, 500, True),
        (500, 500, 500, False),
        (500, 500, 999, False),
        (500, 496, 504, True),  # steps_per_execution=8 never stops at 500
        (500, 504, 1000, True),
        (500, 504, 1504, True),  # two multiples crossed at once are one occasion
        (1, 7, 8, True),
        (500, 1000, 400, False),  # put back by a resume
    ],
)
def test_due_when_a_multiple_is_crossed(every, before, now, due):
    batches, epochs = Trigger(every, "batches"), Trigger(every, "epochs")
    assert batches.due(before=Progress(batches=before), now=Progress(batches=now)) is due
    assert epochs.due(before=Progress(epochs=before), now=Progress(epochs=now)) is due
    assert epochs.due(before=Progress(batches=before), now=Progress(batches=now)) is False
    assert batches.due(before=Progress(epochs=before), now=Progress(epochs=now)) is False


def test_seconds_count_from_the_last_time_it_acted():
    trigger = Trigger.parse("10 s")
    last, fired = Progress(seconds=1000.0), []
    for seconds in [1004.0, 1009.9, 1010.0, 1019.0, 1023.5, 1033.0, 1033.5]:
        now = Progress(seconds=seconds)
        if trigger.due(before=last, now=now):
            fired.append(seconds)
            last = now
    assert fired == [1010.0, 1023.5, 1033.5]
