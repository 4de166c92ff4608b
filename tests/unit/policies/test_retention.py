"""Which checkpoints live: tables of records in, files kept out, and the reasons for the ledger."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies import (
    AllOf,
    AnyOf,
    BestN,
    Decision,
    EveryN,
    KeepAll,
    LatestN,
    MaxBytes,
    Monitor,
    RetentionPolicy,
    Within,
)

NAN, INF = math.nan, math.inf
LOSS = Monitor("loss", "min")


@dataclass(frozen=True)
class Saved:
    sequence: int
    path: str
    epoch: int | None = None
    batch: int | None = None
    step: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    size: int = 1
    time: float = 0.0


def saved(values, **columns):
    """Records a, b, c, ... with these losses (None: not logged), and more columns by name."""
    rows = []
    for i, loss in enumerate(values):
        metrics = {} if loss is None else {"loss": loss}
        extra = {name: column[i] for name, column in columns.items()}
        rows.append(Saved(i, "abcdefghij"[i], metrics=metrics, **extra))
    return rows


def kept(policy, records):
    decisions = policy.decide(records)
    assert [d.path for d in decisions] == [r.path for r in records]
    return "".join(d.path for d in decisions if d.keep)


def reasons(policy, records):
    return [d.reason for d in policy.decide(records)]


class SmallOnes:
    """A user's own policy: any object with the one method."""

    def decide(self, records):
        return [Decision(r.path, r.size < 5, f"{r.size} bytes") for r in records]


class TestBestN:
    @pytest.mark.parametrize(
        ("n", "tie", "losses", "files"),
        [
            (1, "first", [], ""),
            (1, "first", [0.3, 0.1, 0.2], "b"),
            (2, "first", [0.3, 0.1, 0.2], "bc"),
            (5, "first", [0.3, 0.1, 0.2], "abc"),
            (2, "first", [0.1, 0.1, 0.1], "ab"),
            (2, "last", [0.1, 0.1, 0.1], "bc"),
            (1, "last", [0.1, 0.2, 0.1], "c"),
            (2, "first", [0.0, -1.0, 1.0], "ab"),  # 0.0 is a value
            (9, "first", [NAN, None, INF], ""),
            (1, "first", [NAN, 0.9, NAN], "b"),
            (1, "first", [0.1, -INF], "b"),
        ],
    )
    def test_keeps(self, n, tie, losses, files):
        assert kept(BestN(n, LOSS, tie), saved(losses)) == files

    def test_by_the_largest(self):
        records = saved([0.3, -INF, 0.5, INF])
        assert kept(BestN(2, Monitor("loss", "max")), records) == "cd"

    def test_min_delta_is_no_order(self):
        assert kept(BestN(1, Monitor("loss", "min", min_delta=0.5)), saved([0.3, 0.1])) == "b"

    def test_the_tie_is_by_order_of_commits_not_of_the_list(self):
        records = saved([0.1, 0.1, 0.1])[::-1]
        assert kept(BestN(1, LOSS), records) == "a"
        assert kept(BestN(1, LOSS, "last"), records) == "c"

    def test_reasons(self):
        losses = [0.4, 0.1234, 0.2, 0.3, None, NAN, INF]
        assert reasons(BestN(3, LOSS), saved(losses)) == [
            "evicted: 4th best by loss (0.4)",
            "best of 3 by loss (0.1234)",
            "2nd best of 3 by loss (0.2)",
            "3rd best of 3 by loss (0.3)",
            "evicted: not ranked, loss is missing",
            "evicted: not ranked, loss is nan",
            "evicted: not ranked, loss is inf",
        ]

    def test_bind_fills_in_only_what_is_not_given(self):
        other = Monitor("accuracy", "max")
        assert BestN(3, tie="last").bind(LOSS) == BestN(3, LOSS, "last")
        assert BestN(3, other).bind(LOSS) == BestN(3, other)

    def test_without_a_monitor_the_error_has_the_line_to_write(self):
        with pytest.raises(InvalidArgumentError, match=r'Write BestN\(3, Monitor\("val_loss"'):
            BestN(3).decide([])


class TestLatestN:
    @pytest.mark.parametrize(("n", "files"), [(1, "d"), (3, "bcd"), (9, "abcd")])
    def test_keeps(self, n, files):
        records = saved([None] * 4)
        assert kept(LatestN(n), records) == files
        assert sorted(kept(LatestN(n), records[::-1])) == sorted(files)

    def test_reasons(self):
        assert reasons(LatestN(2), saved([None] * 3)) == [
            "evicted: 3rd latest",
            "2nd latest of 2",
            "latest of 2",
        ]

    def test_ordinals(self):
        told = reasons(LatestN(200), [Saved(-n, str(n)) for n in range(1, 114)])
        places = (2, 3, 4, 11, 12, 13, 20, 21, 22, 23, 101, 111, 112, 113)
        assert " ".join(told[n - 1].split()[0] for n in places) == (
            "2nd 3rd 4th 11th 12th 13th 20th 21st 22nd 23rd 101st 111th 112th 113th"
        )


class TestEveryN:
    @pytest.mark.parametrize(
        ("n", "epochs", "files"),
        [
            (2, [0, 1, 2, 3, 4], "bd"),  # the 2nd and the 4th epoch, counted from 1
            (1, [0, 1, 2], "abc"),
            (10, [2, 5, 8, 11, 14, 17, 20], "dg"),  # saved every 3rd: 12 and 21 follow 10 and 20
            (2, [1, 1, 2], "ab"),  # epoch 1 again: another run, which is kept beside the first
            (2, [0, 1, 3, 0, 1, 2, 3], "bceg"),  # the same script a second time
            (1, [0, 0], "ab"),
            (2, [None, None], ""),
        ],
    )
    def test_epochs(self, n, epochs, files):
        assert kept(EveryN(n), saved([None] * len(epochs), epoch=epochs)) == files

    def test_in_the_middle_of_an_epoch_that_epoch_is_not_done(self):
        records = saved([None] * 4, epoch=[0, 1, 1, 2], batch=[None, 4, None, 4])
        assert kept(EveryN(2), records) == "c"

    def test_by_batches_a_run_begins_again_where_the_step_does(self):
        assert kept(EveryN(2, "batches"), saved([None] * 6, step=[2, 3, 4, 2, 3, 5])) == "acdf"
        within = saved([None] * 4, epoch=[2, 2, 2, 2], batch=[4, 9, 4, 9])
        assert kept(EveryN(2), within) == "ac"

    def test_batches_need_not_be_hit(self):
        steps = [496, 504, 512, 1000, 1008, None, 1600]
        assert kept(EveryN(500, "batches"), saved([None] * 7, step=steps)) == "bdg"

    def test_seconds(self):
        times = [100.0, 105.0, 109.9, 110.0, 119.0, 125.0, 60.0, 65.0, 71.0]
        # the clock was set back before "g": that is kept, and the count goes on from there
        assert kept(EveryN(10, "seconds"), saved([None] * 9, time=times)) == "adfgi"

    def test_reasons(self):
        assert reasons(EveryN(2), saved([None] * 2, epoch=[0, 1])) == [
            "evicted: not one of every 2 epochs",
            "one of every 2 epochs",
        ]


class TestWithin:
    def test_the_window_ends_at_the_newest(self):
        records = saved([None] * 4, time=[0.0, 39.0, 40.0, 100.0])
        assert kept(Within(60), records) == "cd"
        assert kept(Within(1e-9), records) == "d"
        assert kept(Within(60), []) == ""

    def test_the_newest_is_the_last_saved_though_the_clock_was_set_back(self):
        assert kept(Within(60), saved([None] * 3, time=[10.0, 500.0, 100.0])) == "bc"

    def test_reasons(self):
        assert reasons(Within(60), saved([None] * 2, time=[0.0, 90.0])) == [
            "evicted: 90 s before the newest, of 60 s",
            "0 s before the newest, of 60 s",
        ]


class TestMaxBytes:
    SIZES = (4, 4, 4, 4)

    @pytest.mark.parametrize(
        ("limit", "files"), [(16, "abcd"), (15, "bcd"), (8, "bc"), (7, "b"), (1, "b")]
    )
    def test_evicts_the_worst_first(self, limit, files):
        records = saved([0.4, 0.1, 0.2, 0.3], size=self.SIZES)
        assert kept(MaxBytes(limit, monitor=LOSS), records) == files

    @pytest.mark.parametrize("policy", [MaxBytes(8), MaxBytes(8, "oldest", LOSS)])
    def test_evicts_the_oldest_first(self, policy):
        assert kept(policy, saved([0.1, 0.2, 0.3, 0.4], size=self.SIZES)) == "cd"

    def test_of_equal_ones_the_oldest_and_the_unranked_before_all(self):
        records = saved([0.1, None, 0.2, 0.1, NAN], size=[4] * 5)
        assert kept(MaxBytes(16, monitor=LOSS), records) == "acde"
        assert kept(MaxBytes(12, monitor=LOSS), records) == "acd"
        assert kept(MaxBytes(4, monitor=LOSS), records) == "d"

    def test_what_is_worse_than_an_evicted_one_goes_too_though_it_would_fit(self):
        assert kept(MaxBytes(5, monitor=LOSS), saved([0.1, 0.2, 0.3], size=[4, 4, 1])) == "a"

    def test_reasons(self):
        records = saved([0.1, 0.2], size=[2000, 1])
        assert reasons(MaxBytes(1500, monitor=LOSS), records) == [
            "over the budget of 1,500 bytes, but the only one left",
            "evicted: over the budget of 1,500 bytes, the worst by loss go first",
        ]
        assert reasons(MaxBytes(1500), records) == [
            "evicted: over the budget of 1,500 bytes, the oldest go first",
            "within the budget of 1,500 bytes",
        ]

    def test_bind(self):
        assert MaxBytes(5).bind(LOSS) == MaxBytes(5, monitor=LOSS)


class TestComposition:
    RECORDS = saved([0.1, 0.3, 0.2, NAN, 0.4], epoch=range(5), size=[4] * 5)

    @pytest.mark.parametrize(
        ("policy", "files"),
        [
            (BestN(1, LOSS) | LatestN(1), "ae"),
            (BestN(2, LOSS) | EveryN(4) | LatestN(1), "acde"),
            (LatestN(3) & BestN(1, LOSS), "c"),  # the best of the three latest
            (BestN(3, LOSS) & LatestN(1), "c"),  # the latest of the three best
            (BestN(3, LOSS) & MaxBytes(8, monitor=LOSS), "ac"),
            (BestN(3, LOSS) & MaxBytes(4, monitor=LOSS) | LatestN(1), "ae"),
            ((BestN(3, LOSS) | LatestN(1)) & MaxBytes(4, monitor=LOSS), "a"),
            (KeepAll(), "abcde"),
            (KeepAll() & MaxBytes(8), "de"),
            (LatestN(1) | SmallOnes(), "abcde"),
            (SmallOnes() | LatestN(1), "abcde"),
            (LatestN(2) & SmallOnes(), "de"),
            (SmallOnes() & LatestN(2), "de"),
        ],
    )
    def test_keeps(self, policy, files):
        assert kept(policy, self.RECORDS) == files

    def test_the_budget_is_spent_only_on_what_the_other_keeps(self):
        records = saved([0.3, 0.1, 0.2], size=[4, 4, 100])
        assert kept(LatestN(3) & MaxBytes(8), records) == "c"  # "c" is alone over the budget
        assert kept(BestN(1, LOSS) & MaxBytes(8), records) == "b"

    def test_reasons_of_a_union(self):
        assert reasons(BestN(2, LOSS) | LatestN(1), saved([0.1, 0.3, 0.2])) == [
            "best of 2 by loss (0.1)",
            "evicted: 3rd best by loss (0.3); 2nd latest",
            "2nd best of 2 by loss (0.2); latest of 1",
        ]

    def test_reasons_of_an_intersection(self):
        records = saved([0.1, 0.3, 0.2], size=[4, 4, 4])
        assert reasons(BestN(2, LOSS) & MaxBytes(4, monitor=LOSS), records) == [
            "best of 2 by loss (0.1); within the budget of 4 bytes",
            "evicted: 3rd best by loss (0.3)",
            "evicted: over the budget of 4 bytes, the worst by loss go first",
        ]

    def test_a_users_reason_reads_the_same_in_the_ledger(self):
        records = saved([None], size=[7])
        assert reasons(SmallOnes() & KeepAll(), records) == ["evicted: 7 bytes"]
        assert reasons(AnyOf((SmallOnes(),)), records) == ["evicted: 7 bytes"]

    def test_nested_ones_are_flat(self):
        a, b, c = LatestN(1), LatestN(2), LatestN(3)
        assert a | b | c == a | (b | c) == AnyOf((a, b, c))
        assert a & b & c == a & (b & c) == AllOf((a, b, c))
        assert a | b & c == AnyOf((a, AllOf((b, c))))

    def test_bind_reaches_every_member_and_leaves_a_users_own(self):
        mine = SmallOnes()
        policy = (BestN(3) | LatestN(1) | mine) & MaxBytes(9)
        bound = (BestN(3, LOSS) | LatestN(1) | mine) & MaxBytes(9, monitor=LOSS)
        assert policy.bind(LOSS) == bound
        assert policy == (BestN(3) | LatestN(1) | mine) & MaxBytes(9)

    def test_policies_are_values(self):
        assert {BestN(3) | LatestN(1): 1}[BestN(3) | LatestN(1)] == 1
        policies = [BestN(1), LatestN(1), EveryN(1), Within(1), MaxBytes(1), KeepAll(), SmallOnes()]
        assert all(isinstance(policy, RetentionPolicy) for policy in policies)

    @pytest.mark.parametrize(
        "answer",
        [
            lambda records: [],
            lambda records: [Decision(r.path, True, "") for r in records[::-1]],
            lambda records: [Decision("elsewhere/" + r.path, True, "") for r in records],
        ],
    )
    def test_an_answer_that_does_not_fit_the_records_is_refused(self, answer):
        class Careless:
            decide = staticmethod(answer)

        for policy in (LatestN(1) | Careless(), KeepAll() & Careless()):
            with pytest.raises(InvalidArgumentError) as caught:
                policy.decide(saved([None, None]))
            assert caught.value.argument == "Careless.decide"
            assert "Return [Decision(r.path, keep, reason) for r in records]." in str(caught.value)

    @pytest.mark.parametrize("other", [3, None, "latest", LatestN, object()])
    def test_what_is_no_policy_is_refused(self, other):
        for combine in (
            lambda: LatestN(1) | other,
            lambda: LatestN(1) & other,
            lambda: other | LatestN(1),
            lambda: other & LatestN(1),
        ):
            with pytest.raises(InvalidArgumentError) as caught:
                combine()
            assert "Write BestN(3) | LatestN(1), for one." in str(caught.value)

    @pytest.mark.parametrize("members", [(), [LatestN(1)]])
    def test_members_are_a_tuple(self, members):
        with pytest.raises(InvalidArgumentError, match="a tuple of retention policies"):
            AnyOf(members)


@pytest.mark.parametrize(
    ("make", "argument", "fix"),
    [
        (lambda: BestN(0), "n", "Write BestN(3), for one."),
        (lambda: BestN(True), "n", "Write BestN(3), for one."),
        (lambda: BestN(2.0), "n", "Write BestN(3), for one."),
        (lambda: BestN(3, "val_loss"), "monitor", 'Write Monitor("val_loss", "min").'),
        (lambda: BestN(3, tie="newest"), "tie", 'Write "first", as Keras has it.'),
        (lambda: LatestN(0), "n", "Write LatestN(3), for one."),
        (lambda: LatestN("3"), "n", "Write LatestN(3), for one."),
        (lambda: EveryN(0), "n", "Write 5 for five epochs."),
        (lambda: EveryN(1.5), "n", "Write 5 for five epochs."),
        (lambda: EveryN(NAN, "seconds"), "n", "Write 600 for ten minutes."),
        (lambda: EveryN(5, "steps"), "unit", 'Write "epochs", for one.'),
        (lambda: Within(0), "seconds", 'Write 3600, or policies.parse_duration("1 h").'),
        (lambda: Within("1 h"), "seconds", 'Write 3600, or policies.parse_duration("1 h").'),
        (lambda: MaxBytes(0), "bytes", "Write 10 * 10**9 for 10 GB."),
        (lambda: MaxBytes("10 GB"), "bytes", "Write 10 * 10**9 for 10 GB."),
        (lambda: MaxBytes(INF), "bytes", "Write 10 * 10**9 for 10 GB."),
        (lambda: MaxBytes(1, "best"), "evict_first", 'Write "worst", for one.'),
        (lambda: MaxBytes(1, monitor="loss"), "monitor", 'Write Monitor("val_loss", "min").'),
    ],
)
def test_bad_arguments(make, argument, fix):
    with pytest.raises(InvalidArgumentError) as caught:
        make()
    assert caught.value.argument == argument
    assert caught.value.fix == fix
