"""What is kept, against brute force; and evicting as one goes, against deciding at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from keras_callbacks_plus.policies import (
    BestN,
    EveryN,
    KeepAll,
    LatestN,
    MaxBytes,
    Monitor,
    Within,
)

# derandomize: the same cases in every run; no deadline: a shared machine may pause
FIXED = settings(derandomize=True, deadline=None, max_examples=150)


@dataclass(frozen=True)
class Saved:
    sequence: int
    path: str
    epoch: int | None
    batch: int | None
    step: int | None
    metrics: dict[str, float]
    size: int
    time: float


metric = st.one_of(
    st.sampled_from([0.0, -0.0, 0.25, 0.5, 0.5, 1.0, math.nan, math.inf, -math.inf]),
    st.floats(),
    st.none(),
)
row = st.tuples(metric, st.integers(0, 9), st.floats(0, 50), st.integers(1, 3))


@st.composite
def histories(draw):
    """Checkpoints in the order of saving: any metrics, sizes and distances; some epochs skipped."""
    saved, time, epoch = [], 0.0, 0
    for sequence, (value, size, pause, skip) in enumerate(draw(st.lists(row, max_size=14))):
        time, epoch = time + pause, epoch + skip
        metrics = {} if value is None else {"m": value}
        saved.append(
            Saved(sequence, f"{sequence}.keras", epoch, None, epoch * 10, metrics, size, time)
        )
    return saved


counts = st.integers(1, 6)
modes = st.sampled_from(["min", "max"])
ties = st.sampled_from(["first", "last"])


def kept(policy, records):
    decisions = policy.decide(records)
    assert [d.path for d in decisions] == [r.path for r in records]
    assert all(d.reason and d.keep != d.reason.startswith("evicted: ") for d in decisions)
    return {d.path for d in decisions if d.keep}


def incremental(policy, records):
    """What is on the disk after each commit was followed by the evictions it calls for."""
    disk = []
    for record in records:
        disk.append(record)
        keep = kept(policy, disk)
        disk = [r for r in disk if r.path in keep]
    return {r.path for r in disk}


def beats(mode, tie, a, b):
    """Whether record a ranks above record b; both have a finite or right-side infinite metric."""
    x, y = a.metrics["m"], b.metrics["m"]
    if x != y:
        return x < y if mode == "min" else x > y
    return a.sequence < b.sequence if tie == "first" else a.sequence > b.sequence


def best_by_brute_force(n, mode, tie, records):
    worst = math.inf if mode == "min" else -math.inf
    ranked = [
        r
        for r in records
        if "m" in r.metrics and r.metrics["m"] == r.metrics["m"] and r.metrics["m"] != worst
    ]
    return {r.path for r in ranked if sum(beats(mode, tie, o, r) for o in ranked) < n}, ranked


@FIXED
@given(counts, modes, ties, histories())
def test_best_n_is_what_brute_force_says(n, mode, tie, records):
    expected, ranked = best_by_brute_force(n, mode, tie, records)
    policy = BestN(n, Monitor("m", mode, min_delta=0.25), tie)
    assert kept(policy, records) == incremental(policy, records) == expected
    values = [r.metrics["m"] for r in ranked]
    if values:
        best_ever = min(values) if mode == "min" else max(values)
        assert best_ever in [r.metrics["m"] for r in records if r.path in expected]


@FIXED
@given(counts, histories())
def test_latest_n_is_the_end_of_the_list(n, records):
    expected = {r.path for r in records[-n:]}
    assert kept(LatestN(n), records) == incremental(LatestN(n), records) == expected


@FIXED
@given(counts, st.sampled_from(["epochs", "batches", "seconds"]), histories())
def test_every_n_is_kept_for_ever_and_leaves_no_gap(n, unit, records):
    policy = EveryN(n, unit)
    once = kept(policy, records)
    assert incremental(policy, records) == once
    for length in range(len(records)):  # what was kept once is kept whatever comes later
        assert kept(policy, records[:length]) == once & {r.path for r in records[:length]}
    if unit == "seconds":
        times = [r.time for r in records if r.path in once]
        assert all(b - a >= n for a, b in pairwise(times))
        assert all(any(0 <= r.time - t < n for t in times) for r in records)
    else:
        done = {r.path: r.epoch + 1 if unit == "epochs" else r.step for r in records}
        multiples = [done[path] // n for path in once]
        assert len(multiples) == len(set(multiples))
        assert set(multiples) == {d // n for d in done.values() if d >= n}


@FIXED
@given(counts, st.sampled_from(["epochs", "batches"]), histories(), counts)
def test_every_n_of_a_second_run_is_kept_beside_that_of_the_first(n, unit, records, times):
    runs = [
        replace(r, path=f"{run}-{r.path}", sequence=run * len(records) + r.sequence)
        for run in range(times)
        for r in records
    ]
    policy = EveryN(n, unit)
    expected = {f"{run}-{path}" for run in range(times) for path in kept(policy, records)}
    assert kept(policy, runs) == incremental(policy, runs) == expected


@FIXED
@given(counts, counts, counts, modes, ties, histories(), st.randoms(use_true_random=False))
def test_a_union_keeps_what_any_member_keeps(best, latest, every, mode, tie, records, random):
    members = [BestN(best, Monitor("m", mode), tie), LatestN(latest), EveryN(every)]
    expected = set().union(*(kept(member, records) for member in members))
    random.shuffle(members)
    union = members[0] | members[1] | members[2]
    assert kept(union, records) == incremental(union, records) == expected


@FIXED
@given(st.integers(1, 40), modes, st.sampled_from(["worst", "oldest"]), histories())
def test_a_budget_holds_and_wastes_nothing(limit, mode, evict_first, records):
    monitor = Monitor("m", mode)
    once = kept(MaxBytes(limit, evict_first, monitor), records)
    total = sum(r.size for r in records if r.path in once)
    assert total <= limit or len(once) == 1
    assert bool(once) == bool(records)

    def rank(r):
        by_value = monitor.sort_key(r.metrics.get("m")) if evict_first == "worst" else ()
        return (by_value, -r.sequence)

    last_kept = max((rank(r) for r in records if r.path in once), default=None)
    gone = sorted((r for r in records if r.path not in once), key=rank)
    assert all(rank(r) > last_kept for r in gone)
    if gone:
        assert total + gone[0].size > limit


@FIXED
@given(counts, st.integers(1, 40), modes, histories())
def test_a_cap_is_on_what_the_other_policy_keeps(n, limit, mode, records):
    monitor = Monitor("m", mode)
    best = kept(BestN(n, monitor), records)
    capped = kept((BestN(n) & MaxBytes(limit)).bind(monitor), records)
    rest = [r for r in records if r.path in best]
    assert capped == kept(MaxBytes(limit, monitor=monitor), rest)
    assert kept(KeepAll() & MaxBytes(limit), records) == kept(MaxBytes(limit), records)


@FIXED
@given(st.floats(0.5, 100), histories())
def test_a_window_ends_at_the_newest(seconds, records):
    expected = {r.path for r in records if records[-1].time - r.time <= seconds}
    assert kept(Within(seconds), records) == incremental(Within(seconds), records) == expected
