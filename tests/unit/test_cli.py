"""`kcp`: prints what the store answers, and its exit status is the answer."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from keras_callbacks_plus import cli
from keras_callbacks_plus._terminal import Terminal, format_table
from keras_callbacks_plus.storage import CheckpointStore


class Payload:
    def __init__(self, data):
        self.data = data

    def write_to(self, sink):
        sink.write(self.data)


LOSSES = {"epoch-01.keras": 0.9, "epoch-02.keras": 0.25, "epoch-03.keras": math.nan}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "checkpoints"
    store = CheckpointStore(folder, clock=lambda: 1_700_000_000.0)
    for epoch, (name, loss) in enumerate(LOSSES.items()):
        with store.transaction() as transaction:
            transaction.commit(
                name,
                Payload(b"x" * (1500 + epoch)),
                series="epoch-{epoch:02d}.keras",
                kind="model",
                epoch=epoch,
                batch=None,
                step=None,
                metrics={"val_loss": loss, "val_accuracy": 1 - epoch / 10, "score": float(epoch)},
            )
    return folder


@pytest.fixture(params=[True, False], ids=["rich", "plain"])
def terminal(request, monkeypatch):
    """Both kinds of output: with rich, and as if it were not installed."""
    monkeypatch.setattr(cli, "Terminal", lambda: Terminal(rich=request.param))


def test_ls_prints_every_checkpoint_with_its_scores(folder, terminal, capsys):
    assert cli.main(["ls", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if "epoch-02.keras" in line]
    assert line.split()[:2] == ["epoch-02.keras", "2"]
    assert "0.25" in line
    assert "1.5 kB" in line


def test_ls_json_is_strict_json_with_the_records(folder, capsys):
    assert cli.main(["ls", "--json", str(folder)]) == 0

    def refuse(constant):
        raise ValueError(constant)

    records = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert [record["path"] for record in records] == [str(folder / name) for name in LOSSES]
    assert [record["metrics"]["val_loss"] for record in records] == [0.9, 0.25, "nan"]
    assert [record["size"] for record in records] == [1500, 1501, 1502]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "epoch-02.keras"),
        (["--monitor", "val_accuracy"], "epoch-01.keras"),
        (["--monitor", "score", "--mode", "max"], "epoch-03.keras"),
        (["--mode", "max"], "epoch-01.keras"),
    ],
)
def test_best_prints_the_path_and_nothing_else(folder, capsys, options, name):
    assert cli.main(["best", str(folder), *options]) == 0
    assert capsys.readouterr().out == f"{folder / name}\n"


def test_best_asks_for_the_mode_of_an_unknown_metric(folder, capsys):
    assert cli.main(["best", str(folder), "--monitor", "score"]) == 2
    assert "--mode min or --mode max" in capsys.readouterr().err


def test_best_names_what_was_logged_where_the_metric_is_missing(folder, capsys):
    assert cli.main(["best", str(folder), "--monitor", "loss"]) == 1
    assert "Logged: score, val_accuracy, val_loss." in capsys.readouterr().err


def test_verify_says_which_file_is_damaged(folder, terminal, capsys):
    assert cli.main(["verify", str(folder)]) == 0
    assert "FAIL" not in capsys.readouterr().out
    data = bytearray((folder / "epoch-02.keras").read_bytes())
    data[100] ^= 1
    (folder / "epoch-02.keras").write_bytes(data)
    assert cli.main(["verify", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in lines] == ["ok  ", "FAIL", "ok  "]
    assert "epoch-02.keras" in lines[1]


def test_rm_dry_run_removes_nothing(folder, capsys):
    assert cli.main(["rm", str(folder), "--all", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("would remove") == 3
    assert sorted(path.name for path in folder.glob("*.keras")) == list(LOSSES)
    assert len(CheckpointStore(folder).records()) == 3


def test_rm_removes_the_named_file_and_its_record(folder):
    (folder / "mine.keras").write_bytes(b"not the store's")
    assert cli.main(["rm", str(folder), "epoch-01.keras"]) == 0
    left = ["epoch-02.keras", "epoch-03.keras"]
    assert [record.path for record in CheckpointStore(folder).records()] == left
    assert sorted(path.name for path in folder.glob("*.keras")) == [*left, "mine.keras"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine.keras"], "'mine.keras' is not a checkpoint"),
        (["epoch-01.keras", "epoch-09.keras"], "'epoch-09.keras' is not a checkpoint"),
        ([], "Name the files to remove, or pass --all"),
        (["epoch-01.keras", "--all"], "Name the files to remove, or pass --all"),
    ],
)
def test_rm_refuses_what_is_unclear_and_removes_nothing(folder, capsys, arguments, message):
    (folder / "mine.keras").write_bytes(b"not the store's")
    assert cli.main(["rm", str(folder), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert len(list(folder.glob("*.keras"))) == 4
    assert len(CheckpointStore(folder).records()) == 3


@pytest.mark.parametrize("command", ["ls", "verify", "best", "rm"])
def test_a_folder_without_checkpoints_is_an_error_that_says_where_there_are_some(
    folder, capsys, command
):
    assert cli.main([command, str(folder.parent)]) == 2
    assert f"There are some in {folder}." in capsys.readouterr().err
    assert cli.main([command, str(folder / "nowhere")]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_a_plain_table_is_aligned():
    table = format_table(["name", ">loss"], [["a", "0.5"], ["longer", "10.25"]])
    assert table == "name     loss\na         0.5\nlonger  10.25"


def test_the_command_imports_neither_keras_nor_a_backend(folder):
    code = (
        "import sys\nfrom keras_callbacks_plus.cli import main\n"
        f"main(['ls', {str(folder)!r}])\n"
        "print(sorted({'keras', 'tensorflow', 'jax', 'torch', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"
