"""`kcp`: prints what the store answers, and its exit status is the answer."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys

import pytest

from keras_callbacks_plus import _checkpoint_commands, cli
from keras_callbacks_plus._terminal import Terminal, format_table
from keras_callbacks_plus.storage import CheckpointStore
from tests.helpers.checkpoint_folder import carrying, commit, damage

LOSSES = {"epoch-01.keras": 0.9, "epoch-02.keras": 0.25, "epoch-03.keras": math.nan}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "checkpoints"
    for epoch, (name, loss) in enumerate(LOSSES.items()):
        metrics = {"val_loss": loss, "val_accuracy": 1 - epoch / 10, "score": float(epoch)}
        commit(folder, name, metrics, data=b"x" * (1500 + epoch), series="epoch-{epoch:02d}.keras")
    return folder


@pytest.fixture(params=[True, False], ids=["rich", "plain"])
def terminal(request, monkeypatch):
    """Both kinds of output: with rich, and as if it were not installed."""
    monkeypatch.setattr(
        cli, "Terminal", lambda: Terminal(rich=request.param, interactive=request.param)
    )


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
    error = capsys.readouterr().err
    assert 'pass `mode="min"` or `mode="max"`' in error
    assert "Here that is --mode." in error


def test_best_names_what_was_logged_where_the_metric_is_missing(folder, capsys):
    assert cli.main(["best", str(folder), "--monitor", "loss"]) == 1
    assert "Available metrics: score, val_accuracy, val_loss." in capsys.readouterr().err


def test_verify_says_which_file_is_damaged(folder, terminal, capsys):
    assert cli.main(["verify", str(folder)]) == 0
    assert "FAIL" not in capsys.readouterr().out
    damage(folder / "epoch-02.keras", 100)
    assert cli.main(["verify", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in lines] == ["ok  ", "ok  ", "FAIL", "ok  "]
    assert lines[0].endswith("checkpoints.json")
    assert f"{folder / 'epoch-02.keras'} is damaged between bytes 0 and 1501" in lines[2]


def test_rm_dry_run_removes_nothing(folder, capsys):
    assert cli.main(["rm", str(folder), "--all", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("would remove") == 3
    assert sorted(path.name for path in folder.glob("*.keras")) == list(LOSSES)
    assert len(CheckpointStore(folder).records()) == 3


def test_rm_all_leaves_what_was_saved_while_it_asked(folder, monkeypatch):
    def meanwhile(arguments, going):
        commit(folder, "epoch-01.keras", {"val_loss": 0.1}, series="epoch-{epoch:02d}.keras")
        return True

    monkeypatch.setattr(_checkpoint_commands, "_is_agreed", meanwhile)
    assert cli.main(["rm", str(folder), "--all"]) == 0
    (left,) = CheckpointStore(folder).records()
    assert (left.path, left.metrics["val_loss"]) == ("epoch-01.keras", 0.1)
    assert (folder / "epoch-01.keras").exists()


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


POLICY = "LatestN(1) | EveryN(2)"


def names(folder):
    return sorted(path.name for path in folder.glob("*.keras"))


def test_best_tells_the_rest_on_stderr(folder, capsys):
    damage(folder / "epoch-02.keras")
    assert cli.main(["best", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{folder / 'epoch-01.keras'}\n"
    assert "epoch-02.keras is damaged between bytes 0 and 1501" in err.splitlines()[0]
    assert err.splitlines()[1].startswith("epoch 1, val_loss 0.9")


def test_best_json_is_the_record(folder, capsys):
    assert cli.main(["best", "--json", str(folder)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["path"], found["epoch"]) == (str(folder / "epoch-02.keras"), 1)
    assert found["metrics"]["val_loss"] == 0.25


def test_best_is_negative_where_all_are_damaged(folder, capsys):
    for name in LOSSES:
        damage(folder / name)
    assert cli.main(["best", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "is whole" in err


def test_verify_json_has_the_bytes(folder, capsys):
    damage(folder / "epoch-03.keras")
    assert cli.main(["verify", "--json", str(folder)]) == 1
    manifest, *files = json.loads(capsys.readouterr().out)
    assert (manifest["path"], manifest["ok"]) == (str(folder / "checkpoints.json"), True)
    assert [answer["ok"] for answer in files] == [True, True, False]
    assert (files[2]["path"], files[2]["offset"], files[2]["end"]) == (
        str(folder / "epoch-03.keras"),
        0,
        1502,
    )


def test_verify_says_that_the_manifest_is_damaged(folder, capsys):
    damage(folder / "checkpoints.json", 200)
    size = (folder / "checkpoints.json").stat().st_size
    assert cli.main(["verify", str(folder)]) == 1
    assert f"checkpoints.json is damaged between bytes 0 and {size}" in capsys.readouterr().out
    assert cli.main(["verify", "--json", str(folder)]) == 1
    (answer,) = json.loads(capsys.readouterr().out)
    assert (answer["offset"], answer["end"]) == (0, size)


def test_verify_finds_a_byte_of_the_manifest_that_means_the_same(folder, capsys):
    """`1E-05` is `1e-05`: the manifest can be read, and the files are checked too."""
    commit(folder, "small.keras", {"val_loss": 1e-05})
    path = folder / "checkpoints.json"
    offset = path.read_bytes().index(b"1e-05") + 1
    damage_to_capital = bytearray(path.read_bytes())
    damage_to_capital[offset] ^= 0x20
    path.write_bytes(damage_to_capital)
    assert cli.main(["verify", "--json", str(folder)]) == 1
    manifest, *files = json.loads(capsys.readouterr().out)
    assert (manifest["ok"], manifest["offset"], manifest["end"]) == (False, offset, offset + 1)
    assert [answer["ok"] for answer in files] == [True] * 4


def test_ls_hides_metrics_that_do_not_fit_and_says_so(folder, monkeypatch, capsys):
    """Narrow columns that break every number would be read by nobody."""
    monkeypatch.setenv("COLUMNS", "70")
    terminal = Terminal(rich=True, interactive=True)
    monkeypatch.setattr(Terminal, "width", 70)
    monkeypatch.setattr(cli, "Terminal", lambda: terminal)
    commit(folder, "last.keras", {"val_loss": 0.5, "rate": 0.1}, monitor="val_loss", mode="min")
    assert cli.main(["ls", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "val_loss" in out.splitlines()[1]
    assert "Not shown, as the window is too narrow: " in out
    assert out.splitlines()[-1].endswith("score.")


def test_ls_is_one_line_for_each_where_nobody_is_looking(folder, capsys):
    """However long, for grep and awk."""
    commit(folder, "x" * 150 + ".keras", {f"a_long_name_{i}": 0.5 for i in range(9)})
    assert cli.main(["ls", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 4
    assert [line.split()[0] for line in lines[1:4]] == list(LOSSES)


def test_ls_ledger(folder, terminal, capsys):
    assert cli.main(["rm", str(folder), "epoch-01.keras"]) == 0
    capsys.readouterr()
    assert cli.main(["ls", "--ledger", str(folder)]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "epoch-01.keras" in x]
    assert line.split()[-5:] == ["epoch-01.keras", "evicted", "removed", "by", "hand"]
    assert cli.main(["ls", "--ledger", "--json", str(folder)]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["path"], found["action"]) == ("epoch-01.keras", "evicted")


def test_ls_and_best_of_one_series(folder, capsys):
    commit(folder, "w.h5", {"val_loss": 0.1}, series="w")
    assert cli.main(["ls", "--json", "--series", "w", str(folder)]) == 0
    assert [r["path"] for r in json.loads(capsys.readouterr().out)] == [str(folder / "w.h5")]
    assert cli.main(["best", "--series", "epoch-{epoch:02d}.keras", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / 'epoch-02.keras'}\n"
    assert cli.main(["ls", "--series", "v", str(folder)]) == 2
    assert "'w'. Here that is --series." in capsys.readouterr().err


def test_rm_keep_dry_run_says_why_and_removes_nothing(folder, terminal, capsys):
    assert cli.main(["rm", str(folder), "--keep", POLICY, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if "epoch-01.keras" in line]
    assert "remove" in line
    assert "evicted: 3rd latest; not one of every 2 epochs" in line
    (line,) = [line for line in lines if "epoch-02.keras" in line]
    assert "keep" in line
    assert "one of every 2 epochs" in line
    assert "1 of 3 files would go: 1.5 kB." in lines
    assert len(names(folder)) == 3


def test_rm_keep_refuses_where_nobody_can_be_asked(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))  # no terminal
    for options in (["--keep", POLICY], ["--keep", POLICY, "--json"], ["--all"]):
        assert cli.main(["rm", str(folder), *options]) == 2
        error = capsys.readouterr().err
        assert "Pass --yes" in error
        assert "Nothing was removed." in error
    assert len(names(folder)) == 3


class Typed(io.StringIO):
    """What somebody types at a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "left"), [("y\n", 2), ("Yes\n", 2), ("n\n", 3), ("", 3)])
def test_rm_keep_asks_at_a_terminal(folder, monkeypatch, capsys, answer, left):
    monkeypatch.setattr(sys, "stdin", Typed(answer))
    assert cli.main(["rm", str(folder), "--keep", POLICY]) == (0 if left == 2 else 2)
    assert "Remove 1 files, 1.5 kB? [y/N]" in capsys.readouterr().err
    assert len(names(folder)) == left


def test_rm_keep_yes_removes_what_it_said_and_prints_json(folder, capsys):
    (folder / "mine.keras").write_bytes(b"not the store's")
    assert cli.main(["rm", str(folder), "--keep", POLICY, "--yes", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [(a["path"], a["keep"], a["removed"]) for a in answers] == [
        (str(folder / "epoch-01.keras"), False, True),
        (str(folder / "epoch-02.keras"), True, False),
        (str(folder / "epoch-03.keras"), True, False),
    ]
    assert names(folder) == ["epoch-02.keras", "epoch-03.keras", "mine.keras"]


@pytest.mark.parametrize(
    ("options", "going", "removed"),
    [
        (["epoch-01.keras"], {1}, True),
        (["epoch-01.keras", "--dry-run"], {1}, False),
        (["--all", "--yes"], {1, 2, 3}, True),
        (["--all", "--dry-run"], {1, 2, 3}, False),
        (["--keep", POLICY, "--dry-run"], {1}, False),
    ],
)
def test_rm_json_says_what_went_or_would_go(folder, capsys, options, going, removed):
    assert cli.main(["rm", str(folder), *options, "--json"]) == 0
    answers = {a["path"]: a for a in json.loads(capsys.readouterr().out)}
    for epoch in (1, 2, 3):
        path = folder / f"epoch-0{epoch}.keras"
        goes = epoch in going
        assert path.exists() == (not goes or not removed)
        if goes or "--keep" in options:
            assert (answers[str(path)]["keep"], answers[str(path)]["removed"]) == (
                not goes,
                goes and removed,
            )
            assert answers[str(path)]["reason"]
        else:
            assert str(path) not in answers


def test_rm_keep_ranks_by_the_monitor_that_is_given(folder):
    options = ["--keep", "BestN(1)", "--monitor", "score", "--mode", "max", "--yes"]
    assert cli.main(["rm", str(folder), *options]) == 0
    assert names(folder) == ["epoch-03.keras"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep", "__import__('os')"], "is refused"),
        (["--keep", "BestN(1)", "--monitor", "los", "--mode", "min"], "Available metrics: score"),
        (["--keep", "BestN(1)", "--monitor", "score"], "Here that is --mode."),
        (["--keep", 'BestN(1, Monitor("nope", "min"))'], "'nope' was not logged"),
        (["--keep", "BestN(1)", "--all"], "or --keep"),
        (["epoch-01.keras", "--keep", "Within(1)"], "or --keep"),
    ],
)
def test_rm_keep_refuses_what_is_unclear(folder, capsys, options, message):
    assert cli.main(["rm", str(folder), *options, "--yes"]) == 2
    assert message in capsys.readouterr().err
    assert len(names(folder)) == 3


def test_as_a_process_of_its_own(folder):
    """`$(kcp best DIR)` is the path alone, also where a file is damaged."""
    damage(folder / "epoch-02.keras")
    command = [sys.executable, "-W", "error", "-m", "keras_callbacks_plus.cli"]
    best = subprocess.run(
        [*command, "best", str(folder)], capture_output=True, text=True, check=True, timeout=60
    )
    assert best.stdout == f"{folder / 'epoch-01.keras'}\n"
    assert "epoch-02.keras is damaged" in best.stderr
    checked = subprocess.run(
        [*command, "verify", "--json", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode == 1
    assert [answer["ok"] for answer in json.loads(checked.stdout)] == [True, True, False, True]


EMPTY = {"ls": [], "verify": [], "best": None, "rm": []}


@pytest.mark.parametrize("command", EMPTY)
def test_a_folder_without_checkpoints_is_a_no_that_says_where_there_are_some(
    folder, capsys, command
):
    assert cli.main([command, str(folder.parent)]) == 1
    assert f"There are some in {folder}." in capsys.readouterr().err
    assert cli.main([command, "--json", str(folder.parent)]) == 1
    assert json.loads(capsys.readouterr().out) == EMPTY[command]
    assert cli.main([command, str(folder / "nowhere")]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_a_folder_without_snapshots_is_a_no(folder, capsys):
    assert cli.main(["inspect", str(folder)]) == 1
    assert "There is no snapshot" in capsys.readouterr().err


def test_best_json_is_null_where_there_is_none(folder, capsys):
    for name in LOSSES:
        damage(folder / name)
    assert cli.main(["best", "--json", str(folder)]) == 1
    assert json.loads(capsys.readouterr().out) is None


@pytest.mark.parametrize("arguments", [["ls"], ["ls", "--json"], ["verify"], ["best"]])
def test_a_reader_that_leaves_early_is_no_error(folder, arguments):
    """As in `kcp ls runs/a | head -2`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "keras_callbacks_plus.cli", *arguments, str(folder)]
    with open(writing, "wb") as nobody_reads:
        done = subprocess.run(
            command, stdout=nobody_reads, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert done.returncode == 141
    assert "Error" not in done.stderr  # where `best` says what it has found


# ------------------------------------------------------------------ the manifest is lost


@pytest.fixture
def lost(folder):
    """Files that carry their own record, and no manifest."""
    for path in folder.iterdir():
        path.unlink()
    for i, loss in enumerate([0.5, 0.25]):
        carried = {"series": "s", "kind": "weights", "epoch": i, "batch": None, "step": i}
        carried |= {"metrics": {"val_loss": loss}, "time": float(i)}
        (folder / f"{i}.weights.h5").write_bytes(carrying(carried))
    return folder


def test_without_the_manifest_the_files_are_listed_and_it_is_said(lost, capsys):
    assert cli.main(["ls", "--json", str(lost)]) == 0
    out, err = capsys.readouterr()
    assert [r["epoch"] for r in json.loads(out)] == [0, 1]
    assert "checkpoints.json is gone" in err
    assert cli.main(["best", str(lost)]) == 0
    assert capsys.readouterr().out == f"{lost / '1.weights.h5'}\n"
    assert not (lost / "checkpoints.json").exists()


def test_without_the_manifest_the_folder_is_not_called_whole(lost, capsys):
    assert cli.main(["verify", "--json", str(lost)]) == 1
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["path"] == str(lost / "checkpoints.json")
    assert "is gone. The files that are listed carry a record" in answer["error"]


def test_without_the_manifest_a_damaged_file_is_not_taken(lost, capsys):
    damage(lost / "1.weights.h5", 33)
    assert cli.main(["best", str(lost)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{lost / '0.weights.h5'}\n"
    assert "1.weights.h5 is damaged, and is not listed." in err


def test_rm_writes_the_lost_manifest_anew(lost, capsys):
    assert cli.main(["rm", str(lost), "0.weights.h5"]) == 0
    assert [r.path for r in CheckpointStore(lost).records()] == ["1.weights.h5"]


# ------------------------------------------------------------------ an object store


def test_every_command_takes_a_url(capsys):
    fsspec = pytest.importorskip("fsspec")
    url = "memory://commands/run"
    for i, loss in enumerate([0.5, 0.25, 0.75]):
        commit(url, f"{i}.keras", {"val_loss": loss})
    assert cli.main(["ls", "--json", url]) == 0
    assert [r["path"] for r in json.loads(capsys.readouterr().out)] == [
        f"{url}/{i}.keras" for i in range(3)
    ]
    assert cli.main(["best", url]) == 0
    assert capsys.readouterr().out == f"{url}/1.keras\n"
    assert cli.main(["verify", url]) == 0
    assert capsys.readouterr().out.count("ok  ") == 4
    assert cli.main(["rm", url, "--keep", "BestN(2)", "--yes"]) == 0
    assert [r.path for r in CheckpointStore(url).records()] == ["0.keras", "1.keras"]
    fsspec.filesystem("memory").pipe_file(f"{url}/0.keras", b"other")
    capsys.readouterr()
    assert cli.main(["verify", url]) == 1
    assert f"FAIL  {url}/0.keras is damaged" in capsys.readouterr().out
    assert cli.main(["ls", "memory://commands/nowhere"]) == 2
    assert "There is nothing in memory://commands/nowhere." in capsys.readouterr().err


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
