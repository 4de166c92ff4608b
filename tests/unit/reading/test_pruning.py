"""`plan` says what would go, `prune` removes exactly that, and neither leaves a folder without."""

from __future__ import annotations

import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.errors import (
    CheckpointCorruptedError,
    InvalidArgumentError,
    MissingMetricError,
)
from keras_callbacks_plus.policies import BestN, Decision, LatestN, MaxBytes, Monitor
from tests.helpers.checkpoint_folder import commit, damage


@pytest.fixture
def folder(tmp_path):
    for i, loss in enumerate([0.9, 0.25, 0.7, 0.5], start=1):
        commit(tmp_path, f"{i}.keras", {"val_loss": loss}, monitor="val_loss", mode="min")
    (tmp_path / "mine.keras").write_bytes(b"not the store's")
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.glob("*.keras"))


def test_a_plan_says_why_and_changes_nothing(folder):
    decisions = kcp.checkpoints(folder).plan(keep=BestN(1) | LatestN(1))
    assert decisions == (
        Decision(str(folder / "1.keras"), False, "evicted: 4th best by val_loss (0.9); 4th latest"),
        Decision(str(folder / "2.keras"), True, "best of 1 by val_loss (0.25)"),
        Decision(str(folder / "3.keras"), False, "evicted: 3rd best by val_loss (0.7); 2nd latest"),
        Decision(str(folder / "4.keras"), True, "latest of 1"),
    )
    assert len(names(folder)) == 5


def test_pruning_removes_what_the_plan_said_and_nothing_else(folder):
    saved = kcp.checkpoints(folder)
    plan = saved.plan(BestN(1) | LatestN(1))
    assert saved.prune(BestN(1) | LatestN(1)) == plan
    assert names(folder) == ["2.keras", "4.keras", "mine.keras"]
    assert [c.name for c in saved] == ["2.keras", "4.keras"]
    assert [c.name for c in kcp.checkpoints(folder)] == ["2.keras", "4.keras"]


def test_what_was_saved_or_replaced_since_stays(folder):
    saved = kcp.checkpoints(folder)
    commit(folder, "1.keras", {"val_loss": 0.8}, data=b"new")
    commit(folder, "5.keras", {"val_loss": 0.8})
    saved.prune(LatestN(1))
    assert names(folder) == ["1.keras", "4.keras", "5.keras", "mine.keras"]


def test_the_metric_is_that_of_the_callback(tmp_path):
    for i in range(3):
        commit(tmp_path, f"{i}.keras", {"score": float(i)}, monitor="score", mode="max")
    kept = [d.keep for d in kcp.checkpoints(tmp_path).plan(BestN(1))]
    assert kept == [False, False, True]
    budget = kcp.checkpoints(tmp_path).plan(MaxBytes(170))
    assert [d.keep for d in budget] == [False, False, True]


def test_a_budget_needs_no_metric(tmp_path):
    for i in range(3):
        commit(tmp_path, f"{i}.keras", {})
    assert [d.keep for d in kcp.checkpoints(tmp_path).plan(MaxBytes(170))] == [False, False, True]


@pytest.mark.parametrize("policy", [BestN(1, Monitor("val_los", "min")), LatestN(1) | BestN(1)])
def test_a_metric_that_is_not_there_evicts_nothing(tmp_path, policy):
    """A typing mistake would make every checkpoint unranked."""
    commit(tmp_path, "a.keras", {"loss": 1.0})
    for act in ("plan", "prune"):
        with pytest.raises(MissingMetricError, match="Available metrics: loss"):
            getattr(kcp.checkpoints(tmp_path), act)(policy)
    assert names(tmp_path) == ["a.keras"]


def test_nothing_left_is_refused(tmp_path):
    commit(tmp_path, "a.keras", {"val_loss": float("nan")})
    saved = kcp.checkpoints(tmp_path)
    assert [d.keep for d in saved.plan(BestN(1))] == [False]
    with pytest.raises(InvalidArgumentError, match=r"Add `\| LatestN\(1\)`"):
        saved.prune(BestN(1))
    assert names(tmp_path) == ["a.keras"]


def test_the_last_good_file_stays(folder):
    damage(folder / "4.keras")
    saved = kcp.checkpoints(folder)
    with pytest.raises(CheckpointCorruptedError, match=r"nothing was removed: .*4\.keras"):
        saved.prune(LatestN(1))
    assert len(names(folder)) == 5
    saved.prune(LatestN(2))
    assert names(folder) == ["3.keras", "4.keras", "mine.keras"]


def test_series_are_decided_on_their_own_and_snapshots_stay(folder):
    for i in range(3):
        commit(folder, f"s{i}", kind="training_state", series="training_state")
        commit(folder, f"w{i}.keras", {"val_loss": float(i)}, kind="weights", series="w")
    saved = kcp.checkpoints(folder)
    kept = {d.path.rpartition("/")[2] for d in saved.plan(LatestN(1)) if d.keep}
    assert kept == {"4.keras", "w2.keras", "s0", "s1", "s2"}
    only = {d.path.rpartition("/")[2] for d in saved.plan(LatestN(1), series="w") if not d.keep}
    assert only == {"w0.keras", "w1.keras"}
    snapshots = saved.plan(LatestN(1), series="training_state")
    assert sum(not d.keep for d in snapshots) == 2
    with pytest.raises(InvalidArgumentError, match="There are: "):
        saved.plan(LatestN(1), series="other")


@pytest.mark.parametrize("keep", [3, "LatestN(1)", LatestN, None])
def test_what_is_no_policy_is_refused(folder, keep):
    with pytest.raises(InvalidArgumentError, match=r"policies\.BestN\(3\) \| policies\.LatestN"):
        kcp.checkpoints(folder).plan(keep)


def test_a_policy_of_ones_own(folder):
    class Odd:
        def decide(self, records):
            return [Decision(r.path, r.sequence % 2 == 1, "odd") for r in records]

    class Short:
        def decide(self, records):
            return []

    assert [d.keep for d in kcp.checkpoints(folder).plan(Odd())] == [False, True, False, True]
    with pytest.raises(InvalidArgumentError, match=r"Return \[Decision\(r\.path"):
        kcp.checkpoints(folder).plan(Short())


# ------------------------------------------------------------------ by name


def test_removing_takes_names_and_members_and_touches_nothing_else(folder):
    saved = kcp.checkpoints(folder)
    first, third = saved[0], saved[2]
    assert saved.remove("3.keras", first) == (first, third)
    assert names(folder) == ["2.keras", "4.keras", "mine.keras"]
    assert [c.name for c in saved] == ["2.keras", "4.keras"]
    assert [c.name for c in kcp.checkpoints(folder)] == ["2.keras", "4.keras"]
    assert saved.ledger[-1].reason == "removed by hand"
    saved.remove(*saved)  # also the last one, as it was asked for
    assert names(folder) == ["mine.keras"]


def test_removing_leaves_what_was_saved_under_the_name_since_and_says_so(folder):
    saved = kcp.checkpoints(folder)
    commit(folder, "1.keras", {"val_loss": 0.8}, data=b"new")
    assert [c.name for c in saved.remove("1.keras", "2.keras")] == ["2.keras"]
    assert names(folder) == ["1.keras", "3.keras", "4.keras", "mine.keras"]
    assert [c.name for c in saved] == ["3.keras", "4.keras", "1.keras"]


def test_removing_takes_a_checkpoint_of_another_listing_of_the_folder(folder, monkeypatch):
    """Whatever was decided on it since, and however its folder is spelt."""
    monkeypatch.chdir(folder.parent)
    (older,) = (c for c in kcp.checkpoints(folder.name) if c.name == "2.keras")
    kcp.checkpoints(folder).prune(BestN(1) | LatestN(1))  # which says why it is kept
    saved = kcp.checkpoints(folder)
    assert older not in saved
    assert [c.name for c in saved.remove(older)] == ["2.keras"]
    assert names(folder) == ["4.keras", "mine.keras"]


def test_removing_refuses_what_is_not_listed_and_removes_nothing(folder, tmp_path_factory):
    saved = kcp.checkpoints(folder)
    old = saved[0]
    commit(folder, "1.keras", {"val_loss": 0.8}, data=b"new")
    again = kcp.checkpoints(folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for i in range(3):
        commit(elsewhere, f"{i + 1}.keras", {"val_loss": 0.5})
    other = kcp.checkpoints(elsewhere)[1]
    assert (other.name, other.sequence) == (again[0].name, again[0].sequence)  # as one of ours
    for given in ("mine.keras", "../1.keras", old, other, None, list(again), again):
        with pytest.raises(InvalidArgumentError, match=r"There are: 2\.keras.*Nothing was removed"):
            again.remove("2.keras", given)
    assert len(names(folder)) == 5
    assert again.remove() == ()


def test_an_error_does_not_list_thousands(tmp_path):
    for i in range(13):
        commit(tmp_path, f"{i:02d}.keras")
    with pytest.raises(InvalidArgumentError, match=r"09\.keras and 3 more\. Nothing"):
        kcp.checkpoints(tmp_path).remove("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgumentError, match="There are: none"):
        kcp.checkpoints(tmp_path / "empty").remove("x")


def test_removing_takes_members_of_an_object_store():
    pytest.importorskip("fsspec")
    url = "memory://removing/run"
    for i in range(3):
        commit(url, f"{i}.keras")
    saved = kcp.checkpoints(url + "/")
    assert saved.remove(kcp.checkpoints(url)[1])[0].name == "1.keras"
    assert [c.name for c in kcp.checkpoints(url)] == ["0.keras", "2.keras"]
