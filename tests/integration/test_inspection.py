"""`kcp inspect` and `kcp diff` on the snapshots of real runs."""

from __future__ import annotations

import json
import shutil

import pytest

from keras_callbacks_plus import _snapshot_commands
from keras_callbacks_plus.cli import main
from tests.helpers.resumed_runs import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(folder, save_freq="4 batches", epochs=1)
    return folder / "backup"


def test_inspect_shows_where_the_run_goes_on_and_what_is_kept(run, capsys):
    assert main(["inspect", str(run), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["goes on in epoch"], facts["batches in all"]) == (1, 6)
    assert facts["batch size"] == 8
    assert "EarlyStopping" in facts["callbacks"]
    assert facts["variables of the model"] > 4
    (within,) = run.glob("snapshot-000000-*.kcp")
    assert main(["inspect", str(within), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["goes on in epoch"], facts["after batches of it"]) == (0, 4)
    assert facts["metric accumulators"] >= 2
    assert main(["inspect", str(run)]) == 0
    assert "goes on in epoch" in capsys.readouterr().out


def test_diff_names_what_differs_and_says_so_by_its_exit_status(run, capsys):
    (within,) = run.glob("snapshot-000000-*.kcp")
    assert main(["diff", str(run), str(run)]) == 0
    assert "the same" in capsys.readouterr().out
    assert main(["diff", str(within), str(run), "--json"]) == 1
    places = {row["place"] for row in json.loads(capsys.readouterr().out)}
    assert {"epoch", "batches", "random.python", "random.numpy"} <= places
    assert any(p.startswith("model.variables[") and p.endswith("/kernel]") for p in places)
    assert any(p.startswith("model.optimizer[adam/") for p in places)
    assert sum("random" in place for place in places) < 12
    assert "fingerprint.backend" not in places
    assert main(["diff", str(within), str(run)]) == 1


def test_a_folder_without_a_snapshot_is_an_error_that_says_why(tmp_path, capsys):
    assert main(["inspect", str(tmp_path)]) == 1
    assert "delete_checkpoint=False" in capsys.readouterr().err


def test_a_snapshot_that_goes_meanwhile_is_an_error_that_names_it(run, capsys, monkeypatch):
    def gone(path):
        raise FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr(_snapshot_commands, "read_container", gone)
    assert main(["inspect", str(run)]) == 2
    told = capsys.readouterr().err
    assert "Could not read" in told
    assert "snapshot-" in told


def test_a_damaged_newest_snapshot_is_passed_over_as_a_fit_would(run, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "copy")
    older, newest = sorted(folder.glob("*.kcp"))
    for path in (newest, older):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        if path is newest:
            assert main(["inspect", str(folder), "--json"]) == 0
            told = capsys.readouterr()
            assert json.loads(told.out)["file"] == str(older)
            assert f"{newest} is damaged" in told.err
            assert "The snapshot before it is shown instead." in told.err
    assert main(["inspect", str(folder)]) == 2
    assert f"{newest} is damaged" in capsys.readouterr().err


def test_inspect_lists_the_variables_by_name(run, capsys):
    assert main(["inspect", str(run), "--variables"]) == 0
    shown = capsys.readouterr().out
    assert "/kernel]" in shown
    assert "optimizer[adam/learning_rate]" in shown


def test_two_runs_that_differ_in_their_seed_differ_in_few_lines(run, tmp_path, capsys):
    train(tmp_path, save_freq="4 batches", epochs=1, seed=2)
    assert main(["diff", str(run), str(tmp_path / "backup"), "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) < 60
    assert next(row["a"] for row in rows if row["place"] == "random.python").startswith("state ")
