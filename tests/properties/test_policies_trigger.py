"""`Trigger` against counting one batch at a time, whatever the size of an execution."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_callbacks_plus.policies import Duration, Progress, Trigger, parse_duration

# derandomize: the same cases in every run; no deadline: a shared machine may pause
FIXED = settings(derandomize=True, deadline=None, max_examples=150)

chunks = st.lists(st.integers(1, 40), max_size=40)


def naive_firings(every, start, sizes):
    """Counts batch by batch; fires after an execution in which a counter reached `every`."""
    counter, done, fired = start % every, start, []
    for size in sizes:
        reached = False
        for _ in range(size):
            done += 1
            counter += 1
            if counter == every:
                counter, reached = 0, True
        if reached:
            fired.append(done)
    return fired


@FIXED
@given(st.integers(1, 60), st.integers(0, 200), chunks, st.sampled_from(["batches", "epochs"]))
def test_crossing_equals_counting(every, start, sizes, unit):
    """Also after a resume (`start`), and whichever of the two documented `before` is kept."""
    trigger = Trigger(every, unit)
    last_fired = last_asked = Progress(**{unit: start})
    fired, asked = [], []
    for done in list(accumulate(sizes, initial=start))[1:]:
        now = Progress(**{unit: done})
        if trigger.due(before=last_asked, now=now):
            asked.append(done)
        last_asked = now
        if trigger.due(before=last_fired, now=now):
            fired.append(done)
            last_fired = now
    assert fired == asked == naive_firings(every, start, sizes)


@FIXED
@given(st.integers(1, 60), chunks)
def test_as_many_multiples_as_there_are_when_an_execution_is_one_batch(every, sizes):
    total = sum(sizes)
    trigger = Trigger(every, "batches")
    fired = [
        n
        for n in range(1, total + 1)
        if trigger.due(before=Progress(batches=n - 1), now=Progress(batches=n))
    ]
    assert fired == list(range(every, total + 1, every))


@FIXED
@given(
    st.integers(1, 100),
    st.integers(0, 10**6),
    st.lists(st.integers(0, 50), max_size=40),
)
def test_seconds_are_never_closer_than_asked_and_never_forgotten(every, start, steps):
    # whole numbers of seconds, so that differences are exact
    trigger = Trigger(every, "seconds")
    last, fired = Progress(seconds=float(start)), [start]
    times = list(accumulate(steps, initial=start))[1:]
    for time in times:
        now = Progress(seconds=float(time))
        if trigger.due(before=last, now=now):
            fired.append(time)
            last = now
    assert all(b - a >= every for a, b in pairwise(fired))
    for time in times:
        assert time in fired or time - max(f for f in fired if f <= time) < every


@FIXED
@given(st.integers(1, 10**6))
def test_every_spelling_of_an_amount_is_the_same(n):
    assert Trigger.parse(n) == Trigger.parse(f"{n} batches") == Trigger(n, "batches")
    assert Trigger.parse(f" {n}EPOCHS") == Trigger(n, "epochs")
    assert Duration.parse(f"{n} steps") == Duration(n, "batches")


@FIXED
@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_a_duration_is_the_sum_of_its_parts(hours, minutes, seconds):
    text = f"{hours}h{minutes}min {seconds} s"
    total = 3600 * hours + 60 * minutes + seconds
    if total == 0:
        with pytest.raises(ValueError, match="positive length of time"):
            parse_duration(text)
    else:
        assert parse_duration(text) == total


@FIXED
@given(st.one_of(st.text(max_size=12), st.text("0123456789 .-+eEinfmshdbatcopk²٣", max_size=12)))
def test_nonsense_is_refused_and_nothing_else_is_raised(text):
    try:
        trigger = Trigger.parse(text)
    except ValueError as error:
        trigger = None
        message = str(error)
    if trigger is None:
        assert "save_freq=" in message
    else:
        assert trigger.every > 0
