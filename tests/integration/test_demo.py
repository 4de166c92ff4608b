"""The demo's checks: each claim fails on evidence that contradicts it, and `main` says which."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the demo's digits: tox -e demo")

from keras_callbacks_plus import demo
from keras_callbacks_plus._terminal import Terminal
from keras_callbacks_plus.demo import checks, processes, settings
from keras_callbacks_plus.demo.checks import LOSS_CHARTS, RATE_CHART
from keras_callbacks_plus.demo.evidence import Evidence, Interruption, KeptFile, RunEvidence
from keras_callbacks_plus.demo.files import read_json
from keras_callbacks_plus.demo.folder import DemoFolder, FolderError
from keras_callbacks_plus.demo.processes import Attempt, Position
from keras_callbacks_plus.storage import CheckpointStore

LOSSES = [0.9, 0.5, 0.2, 0.3, 0.4, 0.6]  # the best three are epochs 3, 4 and 5, counted from 1
STEPS = settings.STEPS_PER_EPOCH


def rate(step):
    """Written with NumPy's own interpolation and cosine, apart from the code under test."""
    warmup = np.interp(step, [0, settings.WARMUP_STEPS], [0, settings.PEAK_RATE])
    done = np.clip((step - settings.WARMUP_STEPS) / settings.DECAY_STEPS, 0, 1)
    return float(warmup * np.cos(np.pi * done / 2) ** 2)


def kept_file(epoch):
    name = f"epoch-{epoch + 1:02d}.keras"
    scores = {"accuracy": 0.9, "loss": LOSSES[epoch]}
    return KeptFile(
        name=name,
        epoch=epoch,
        logged={"val_loss": LOSSES[epoch], "val_accuracy": 0.9},
        scores={"validation": scores, "test": {"accuracy": 0.95, "loss": 0.1}},
        weights=[f"kernel of {epoch}", f"bias of {epoch}"],
        optimizer=[f"momentum of {epoch}"],
    )


def good_run():
    epochs = len(LOSSES)
    return RunEvidence(
        result={
            "history": {"loss": [1.0] * epochs, "val_loss": LOSSES},
            "epochs": list(range(epochs)),
            "best_epoch": 2,
            "best": 0.2,
            "stopped_epoch": 5,
            "test": {"accuracy": 0.95, "loss": 0.1},
        },
        digests={
            "weights/000/dense/kernel": "kernel of 2",
            "weights/001/dense/bias": "bias of 2",
            "seeds/000/dropout/seed": "seed",
            "optimizer/000/adam/momentum": "momentum",
        },
        kept=[kept_file(epoch) for epoch in (2, 3, 4)],
        charts={
            RATE_CHART: [(step, rate(step)) for step in range(epochs * STEPS)],
            LOSS_CHARTS["loss"]: [(epoch, 1.0) for epoch in range(epochs)],
            LOSS_CHARTS["val_loss"]: list(enumerate(LOSSES)),
        },
    )


def good_evidence():
    return Evidence(
        uninterrupted=good_run(),
        interrupted=good_run(),
        interruption=Interruption(processes.KILLED, Position(5, 20), Position(5, 1)),
        package_was_imported=False,
        pictures=b"\x89PNG\r\n\x1a\n" + bytes(20_000),
    )


def with_run(**changes):
    """Evidence whose interrupted run differs; a value is a function of the good one."""

    def spoil(evidence):
        run = evidence.interrupted
        changed = {name: change(getattr(run, name)) for name, change in changes.items()}
        return dataclasses.replace(evidence, interrupted=dataclasses.replace(run, **changed))

    return spoil


def with_kill(**changes):
    def spoil(evidence):
        kill = dataclasses.replace(evidence.interruption, **changes)
        return dataclasses.replace(evidence, interruption=kill)

    return spoil


def with_history(name, values):
    return with_run(result=lambda r: {**r, "history": {**r["history"], name: values}})


def with_best_file(**changes):
    return with_run(kept=lambda kept: [dataclasses.replace(kept[0], **changes), *kept[1:]])


def nextafter(values):
    return [*values[:-1], math.nextafter(values[-1], 0.0)]


SPOILED = {
    "nobody killed it": (
        lambda e: dataclasses.replace(e, interruption=None),
        {"killed in the middle of an epoch", "went on at the beginning of an epoch"},
    ),
    "ended by itself": (with_kill(returncode=0), {"killed in the middle of an epoch"}),
    "killed between epochs": (
        with_kill(killed_at=Position(5, STEPS)),
        {"killed in the middle of an epoch"},
    ),
    "began anew": (
        with_kill(resumed_at=Position(0, 1)),
        {"went on at the beginning of an epoch"},
    ),
    "went two epochs back": (
        with_kill(resumed_at=Position(3, 1)),
        {"went on at the beginning of an epoch"},
    ),
    "skipped a batch": (
        with_kill(resumed_at=Position(5, 2)),
        {"went on at the beginning of an epoch"},
    ),
    "another seed state": (
        with_run(digests=lambda d: {**d, "seeds/000/dropout/seed": "other"}),
        {"weights and seeds: bit for bit as if never killed"},
    ),
    "another weight": (
        with_run(digests=lambda d: {**d, "weights/000/dense/kernel": "other"}),
        {
            "weights and seeds: bit for bit as if never killed",
            "early stopping: restored the best epoch",
        },
    ),
    "another momentum": (
        with_run(digests=lambda d: {**d, "optimizer/000/adam/momentum": "other"}),
        {"optimizer: bit for bit"},
    ),
    "one bit of one loss": (
        with_history("loss", nextafter([1.0] * len(LOSSES))),
        {"history: bit for bit"},
    ),
    "a metric is lost": (with_history("accuracy", [0.5] * 6), {"history: bit for bit"}),
    "an epoch twice": (
        with_run(result=lambda r: {**r, "epochs": [0, 1, 2, 2, 3, 4]}),
        {"history: bit for bit"},
    ),
    "stopped elsewhere": (
        with_run(result=lambda r: {**r, "stopped_epoch": 4}),
        {"early stopping: the same decisions"},
    ),
    "restored another epoch": (
        with_run(result=lambda r: {**r, "best_epoch": 3}),
        {"early stopping: the same decisions", "early stopping: restored the best epoch"},
    ),
    "test accuracy not confirmed": (
        with_best_file(
            scores={**kept_file(2).scores, "test": {"accuracy": 0.94, "loss": 0.1}},
        ),
        {"early stopping: restored the best epoch"},
    ),
    "kept a worse one": (
        with_run(kept=lambda kept: [*kept[:2], kept_file(1)]),
        {"checkpoints: the 3 best were kept", "checkpoints: the same in both runs"},
    ),
    "kept too few": (
        with_run(kept=lambda kept: kept[:2]),
        {"checkpoints: the 3 best were kept", "checkpoints: the same in both runs"},
    ),
    "kept none": (
        with_run(kept=lambda kept: []),
        {
            "checkpoints: the 3 best were kept",
            "checkpoints: the same in both runs",
            "early stopping: restored the best epoch",
            "best file: opens in plain Keras",
        },
    ),
    "a file with another optimizer": (
        with_best_file(optimizer=["another momentum"]),
        {"checkpoints: the same in both runs"},
    ),
    "plain Keras measures less": (
        with_best_file(
            scores={**kept_file(2).scores, "validation": {"accuracy": 0.89, "loss": 0.2}},
        ),
        {"best file: opens in plain Keras"},
    ),
    "the package was there": (
        lambda e: dataclasses.replace(e, package_was_imported=True),
        {"best file: opens in plain Keras"},
    ),
    "one rate is off": (
        with_run(charts=lambda c: {**c, RATE_CHART: [*c[RATE_CHART][:-1], (299, 1e-3)]}),
        {
            "learning rate: warmup and cosine, step by step",
            "TensorBoard: one clean curve each",
        },
    ),
    "a step twice": (
        with_run(charts=lambda c: {**c, RATE_CHART: [*c[RATE_CHART], c[RATE_CHART][-1]]}),
        {
            "learning rate: warmup and cosine, step by step",
            "TensorBoard: one clean curve each",
        },
    ),
    "no charts": (
        with_run(charts=lambda c: {}),
        {
            "learning rate: warmup and cosine, step by step",
            "TensorBoard: one clean curve each",
        },
    ),
    "no picture": (
        lambda e: dataclasses.replace(e, pictures=b""),
        {"picture of the curves"},
    ),
}


def test_good_evidence_supports_every_claim():
    assert [claim.name for claim in checks.check(good_evidence()) if not claim.holds] == []


@pytest.mark.parametrize("case", SPOILED)
def test_each_contradiction_fails_its_claims_and_no_other(case):
    spoil, expected = SPOILED[case]
    claims = checks.check(spoil(good_evidence()))
    assert {claim.name for claim in claims if not claim.holds} == expected


def test_a_snapshot_that_was_not_on_the_disk_yet_may_cost_one_epoch_more():
    evidence = with_kill(resumed_at=Position(4, 1))(good_evidence())
    assert all(claim.holds for claim in checks.check(evidence))


def test_every_claim_is_contradicted_by_some_case():
    assert set().union(*(names for _, names in SPOILED.values())) == set(checks.CLAIMS)


# ---------------------------------------------------------------- the orchestrator


class FakeCrew:
    """In place of the child processes: each attempt does what the script says."""

    def __init__(self, *attempts):
        self.attempts = list(attempts)
        self.folders = []

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None

    def prepare_training(self, directory):
        assert directory.name == "interrupted"

    def prepare_reader(self):
        return None

    def train(self, directory, *, on_message, kill_when):
        self.folders.append(directory.name)
        first, last, returncode = self.attempts.pop(0)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "training.log").write_text("the child's last words")
        on_message({"backend": "tensorflow"})
        for position in (first, last):
            on_message({"epoch": position.epoch, "batches": position.batches})
        killed = kill_when(last)
        returncode = processes.KILLED if killed else returncode
        return Attempt(7, returncode, first, last, killed, "tensorflow")


KILLED_RUN = (Position(0, 1), Position(5, 20), None)
WHOLE_RUN = (Position(0, 1), Position(4, STEPS), 0)
RESUMED_RUN = (Position(5, 1), Position(5, STEPS), 0)


@pytest.fixture
def go(tmp_path, monkeypatch):
    def go(*attempts, evidence=None, fresh=False, directory=tmp_path / "digits"):
        crew = FakeCrew(*attempts)
        seen = []

        def collect(path, interruption, crew):
            seen.append(interruption)
            return dataclasses.replace(evidence or good_evidence(), interruption=interruption)

        monkeypatch.setattr(demo, "Crew", lambda: crew)
        monkeypatch.setattr(demo, "collect", collect)
        monkeypatch.setattr(demo.report, "draw_curves", lambda evidence: good_evidence().pictures)
        status = demo.run(directory, fresh=fresh, terminal=Terminal(rich=False, interactive=False))
        assert crew.attempts == []
        return status, crew.folders, seen[-1] if seen else None

    return go


def test_a_demo_whose_claims_hold_succeeds(go, capsys):
    status, folders, kill = go(WHOLE_RUN, KILLED_RUN, RESUMED_RUN)
    assert (status, folders) == (0, ["uninterrupted", "interrupted", "interrupted"])
    assert kill == Interruption(processes.KILLED, Position(5, 20), Position(5, 1))
    assert f"All {len(checks.CLAIMS)} claims hold." in capsys.readouterr().out


# what the orchestrator itself makes is made well here: the kill and the picture
WITHOUT_CHILDREN = [case for case in SPOILED if "kill" not in case and case != "no picture"]


@pytest.mark.parametrize("case", WITHOUT_CHILDREN)
def test_a_demo_with_a_claim_that_fails_exits_with_1_and_names_it(go, capsys, case):
    spoil, expected = SPOILED[case]
    spoiled = spoil(good_evidence())
    attempts = [WHOLE_RUN, KILLED_RUN, RESUMED_RUN]
    if case == "began anew":
        attempts[2] = (Position(0, 1), Position(5, STEPS), 0)
    elif case == "went two epochs back":
        attempts[2] = (Position(3, 1), Position(5, STEPS), 0)
    elif case == "skipped a batch":
        attempts[2] = (Position(5, 2), Position(5, STEPS), 0)
    elif case == "ended by itself":
        attempts[1] = (Position(0, 1), Position(4, STEPS), 0)
        expected = SPOILED["nobody killed it"][1]
    status, _, _ = go(*attempts, evidence=spoiled)
    assert status == 1
    out = capsys.readouterr().out
    assert {line[4:] for line in out.splitlines() if line.startswith("  - ")} == expected


def test_a_kill_that_came_after_the_last_batch_of_an_epoch_is_repeated(go):
    too_late = (Position(0, 1), Position(5, STEPS), None)
    again = (Position(6, 1), Position(6, 20), None)
    status, folders, kill = go(WHOLE_RUN, too_late, again, (Position(6, 1), Position(7, 1), 0))
    assert (status, len(folders)) == (0, 4)
    assert kill == Interruption(processes.KILLED, Position(6, 20), Position(6, 1))


def test_a_training_that_fails_ends_the_demo_with_what_it_said(go, capsys):
    status, _, _ = go((Position(0, 1), Position(2, 3), 1))
    assert status == 2
    assert "the child's last words" in capsys.readouterr().out


def test_a_demo_goes_on_where_it_was_cut_short(go, tmp_path):
    assert go(WHOLE_RUN, (Position(0, 1), Position(2, 3), -9))[0] == 2  # killed by somebody else
    status, folders, _ = go((Position(2, 1), Position(5, 20), None), (*RESUMED_RUN[:2], -9))
    assert (status, folders) == (2, ["interrupted", "interrupted"])
    last = (Position(7, 1), Position(8, 1), 0)
    status, folders, kill = go(last)
    assert (status, folders) == (0, ["interrupted"])
    assert kill.resumed_at == Position(5, 1)  # where the first one went on
    assert read_json(tmp_path / "digits" / "demo.json")["finished"] is True


def test_an_unfinished_uninterrupted_run_starts_anew(go):
    assert go((Position(0, 1), Position(2, 3), -9))[0] == 2
    status, folders, _ = go(WHOLE_RUN, KILLED_RUN, RESUMED_RUN)
    assert (status, folders[0]) == (0, "uninterrupted")


def test_a_finished_demo_starts_anew_and_leaves_foreign_files(go, tmp_path):
    whole = (WHOLE_RUN, KILLED_RUN, RESUMED_RUN)
    assert go(*whole)[0] == 0
    mine = [tmp_path / "digits" / "notes.txt", tmp_path / "digits" / "interrupted" / "notes.txt"]
    for path in mine:
        path.write_text("mine")
    assert go(*whole)[0] == 0
    assert [path.read_text() for path in mine] == ["mine", "mine"]


def test_another_backend_cannot_go_on(go, monkeypatch, capsys):
    assert go(WHOLE_RUN, (Position(0, 1), Position(2, 3), -9))[0] == 2
    real = FakeCrew.train

    def with_jax(self, directory, *, on_message, kill_when):
        return real(
            self,
            directory,
            on_message=lambda m: on_message({"backend": "jax"} if "backend" in m else m),
            kill_when=kill_when,
        )

    monkeypatch.setattr(FakeCrew, "train", with_jax)
    capsys.readouterr()
    assert go(KILLED_RUN)[0] == 2
    assert "KERAS_BACKEND=tensorflow to go on" in capsys.readouterr().out


# ---------------------------------------------------------------- the folder


def test_a_folder_that_is_not_a_demos_is_refused_and_untouched(go, tmp_path, capsys):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    assert go(directory=folder, fresh=True)[0] == 2
    assert "Choose another folder with --dir" in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_clearing_refuses_where_a_foreign_checkpoint_would_be_mixed_in(tmp_path):
    folder = DemoFolder(tmp_path)
    foreign = folder.run("interrupted") / "checkpoints" / "mine.keras"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"mine")
    with pytest.raises(FolderError, match="Move them, or choose another folder"):
        folder.clear("interrupted")
    assert foreign.read_bytes() == b"mine"


def test_clearing_removes_what_the_demo_wrote(tmp_path):
    folder = DemoFolder(tmp_path)
    run = folder.run("interrupted")
    store = CheckpointStore(run / "checkpoints")
    with store.transaction() as transaction:
        transaction.commit(
            "epoch-01.keras",
            type("Payload", (), {"write_to": lambda self, sink: sink.write(b"data")})(),
            series="s",
            kind="model",
            epoch=0,
            batch=None,
            step=None,
            metrics={},
        )
    for name in ("logs/train/steps/events.out.tfevents.1.a", "result.json", "training.log"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("")
    folder.clear("interrupted")
    assert not run.exists()


# ---------------------------------------------------------------- the child processes


def test_a_child_is_killed_on_what_it_reports_and_both_positions_are_kept(tmp_path, monkeypatch):
    child = (
        "import json, sys\n"
        "print(json.dumps({'backend': 'fake'}), flush=True)\n"
        "print('something else', flush=True)\n"
        "for batch in range(1, 4):\n"
        "    print(json.dumps({'epoch': 4, 'batches': batch}), flush=True)\n"
        "sys.stdin.read()\n"  # for ever: the parent holds the other end
    )
    monkeypatch.setattr(processes, "_command", lambda directory: [sys.executable, "-c", child])
    messages = []
    with processes.Crew() as crew:
        crew.prepare_training(tmp_path / "run")
        attempt = crew.train(
            tmp_path / "run",
            on_message=messages.append,
            kill_when=lambda position: position == Position(4, 3),
        )
    assert (attempt.killed, attempt.returncode) == (True, processes.KILLED)
    assert (attempt.first, attempt.last) == (Position(4, 1), Position(4, 3))
    assert attempt.backend == "fake"
    assert len(messages) == 4
    assert "something else" in (tmp_path / "run" / "training.log").read_text()


def test_a_child_that_is_not_needed_is_ended(tmp_path, monkeypatch):
    child = "import sys; print(sys.stdin.read(), flush=True)"
    monkeypatch.setattr(processes, "_command", lambda directory: [sys.executable, "-c", child])
    with processes.Crew() as crew:
        crew.prepare_training(tmp_path / "run")
        process = crew._spare._child
        assert process.poll() is None
    assert process.returncode == processes.KILLED


def test_a_training_begins_when_told_to_and_ends_when_the_demo_is_gone():
    code = (
        "import threading\n"
        "from keras_callbacks_plus.demo import _child\n"
        "told_to_go = threading.Event()\n"
        "threading.Thread(target=_child._obey, args=[told_to_go], daemon=True).start()\n"
        "told_to_go.wait(60)\n"
        "print('began', flush=True)\n"
        "threading.Event().wait(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with child:
        child.stdin.write(b"go")
        child.stdin.flush()
        assert child.stdout.readline() == b"began\n"
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(timeout=30) == 1
