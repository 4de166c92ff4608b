"""The files around the package agree with one another."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
    if "_build" not in path.parts
)


def first_shell_block():
    return re.search(r"^```(?:sh|bash|shell)\n(.*?)^```", README, re.M | re.S)[1].splitlines()


def test_the_readme_begins_with_two_commands_that_need_nothing_before_them():
    """One runs the main job, one runs the tests; each makes the environment that it uses."""
    demo, tests = first_shell_block()
    assert demo.startswith("python3 -m venv .venv && ")
    assert demo.endswith(" && .venv/bin/kcp demo")
    assert tests.startswith("python3 -m venv .venv-tox && ")
    assert tests.endswith(" && .venv-tox/bin/tox")


@pytest.fixture
def folder_with_a_shell_that_only_reports(tmp_path):
    shell = tmp_path / "bash"
    shell.write_text('#!/bin/sh\nfor last; do :; done\nprintf "%s" "$last" >"$REPORT"\nexit 7\n')
    shell.chmod(0o755)
    return tmp_path


def test_ci_runs_the_readme_s_test_command(folder_with_a_shell_that_only_reports):
    """Taken from the README when it runs; its exit status is the script's."""
    folder = folder_with_a_shell_that_only_reports
    report = folder / "report"
    done = subprocess.run(
        ["/bin/bash", str(ROOT / ".ci" / "run")],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "REPORT": str(report)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 7
    assert report.read_text() == first_shell_block()[1]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_documents_lead_somewhere(path):
    """A moved page takes its links along."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = [t for t in re.findall(r"\]\(([^)\s#]+)", text) if "://" not in t]
    assert [t for t in targets if not (path.parent / t).exists()] == []


def test_the_differences_from_keras_name_tests_that_exist():
    """A claim whose test is renamed or removed takes its row along."""
    page = (ROOT / "docs/explanation/differences_from_keras.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    named = [re.search(r"`(test_\w+)` \|$", row) for row in rows]
    assert rows
    assert all(named)
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    assert [m[1] for m in named if f"def {m[1]}(" not in tests] == []


def test_the_changelog_has_a_place_for_what_is_not_released():
    """In the form of Keep a Changelog."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", changelog, re.M)
    assert headings[0] == "Unreleased"


def test_the_version_stands_in_one_place():
    """`pyproject.toml` reads it from `_version.py`."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = (ROOT / "keras_callbacks_plus" / "_version.py").read_text(encoding="utf-8")
    assert re.search(r'^__version__ = "\d+\.\d+\.\d+[^"]*"$', version, re.M)
    assert 'dynamic = ["version"]' in project
    assert not re.search(r"^version\s*=", project, re.M)


def test_the_matrix_has_every_version_that_is_promised():
    """The classifiers, the README's table and tox name the same versions."""
    tox = configparser.RawConfigParser()
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    matrix = re.search(r"^matrix = (.*)$", tox["tox"]["labels"], re.M)[1]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pythons = re.findall(r"Python :: (3\.\d+)", project)
    assert {f"py{p.replace('.', '')}" for p in pythons} <= set(re.findall(r"py\d+", matrix))
    assert f"| Python | {', '.join(pythons)} |" in README
    first, last = re.search(r"tensorflow>=2\.(\d+),<2\.(\d+)", project).groups()
    minors = range(int(first), int(last))
    assert {f"tf2{minor}" for minor in minors} <= set(re.findall(r"tf2\d\d", matrix))
    assert f"| TensorFlow | 2.{minors[0]} - 2.{minors[-1]} |" in README
