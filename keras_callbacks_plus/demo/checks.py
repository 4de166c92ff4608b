"""The claims of the demo: each a function of the evidence that says whether it holds, and why."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from keras_callbacks_plus.demo import settings
from keras_callbacks_plus.demo.evidence import Evidence, KeptFile, RunEvidence
from keras_callbacks_plus.demo.processes import KILLED

__all__ = ["CLAIMS", "Claim", "check"]

_PNG = b"\x89PNG\r\n\x1a\n"
_SCORE_TOLERANCE = 1e-5  # another program sums the same float32 losses in another order
_RATE_TOLERANCE = 1e-6  # relative: a float32 in the file against the formula in float64
RATE_CHART = "train/steps/batch_learning_rate"
LOSS_CHARTS = {"loss": "train/epoch_loss", "val_loss": "validation/epoch_loss"}


@dataclass(frozen=True)
class Claim:
    """One claim, checked.

    Args:
        name: What is claimed.
        holds: Whether it is true.
        detail: What was found.
    """

    name: str
    holds: bool
    detail: str


def check(evidence: Evidence) -> list[Claim]:
    """Checks every claim.

    Args:
        evidence: What the runs left behind.

    Returns:
        One answer for each of `CLAIMS`, in the same order.
    """
    return [Claim(name, *claim(evidence)) for name, claim in CLAIMS.items()]


def killed_in_an_epoch(evidence: Evidence) -> tuple[bool, str]:
    """The process was killed by the system, with batches of its epoch done and others to come."""
    kill = evidence.interruption
    if kill is None:
        return False, "nobody killed it"
    at = kill.killed_at
    inside = 0 < at.batches < settings.STEPS_PER_EPOCH
    return kill.returncode == KILLED and inside, (
        f"exit status {kill.returncode} after batch {at.batches} of {settings.STEPS_PER_EPOCH} "
        f"in epoch {at.epoch + 1}"
    )


def resumed_at_a_beginning(evidence: Evidence) -> tuple[bool, str]:
    """The next process began with the first batch of that epoch, or of the one before.

    Snapshots are written in the background: a kill soon after the end of an epoch may come before
    the snapshot of it is on the disk.
    """
    kill = evidence.interruption
    if kill is None or kill.resumed_at is None:
        return False, "it was not started again, or trained nothing"
    first, epoch = kill.resumed_at, kill.killed_at.epoch
    holds = first.batches == 1 and first.epoch > 0 and first.epoch in (epoch - 1, epoch)
    return holds, f"the next process began with batch {first.batches} of epoch {first.epoch + 1}"


def same_variables(*groups: str) -> Callable[[Evidence], tuple[bool, str]]:
    """Makes the check that groups of variables ended with the same bytes in both runs."""

    def same(evidence: Evidence) -> tuple[bool, str]:
        ours, theirs = (
            {name: d for name, d in run.digests.items() if name.split("/")[0] in groups}
            for run in (evidence.interrupted, evidence.uninterrupted)
        )
        if not ours:
            return False, "there are none"
        differing = _differing(ours, theirs)
        if differing:
            return False, f"{len(differing)} of {len(ours)} differ, first {differing[0]}"
        return True, f"SHA-256 of {len(ours)} of {len(ours)} arrays equal"

    return same


def same_history(evidence: Evidence) -> tuple[bool, str]:
    """Every number of `History` is the same, to the last bit, and no epoch is missing or twice."""
    ours, theirs = evidence.interrupted.result, evidence.uninterrupted.result
    for name in sorted({*ours["history"], *theirs["history"]}):
        mine, other = ours["history"].get(name), theirs["history"].get(name)
        if json.dumps(mine) != json.dumps(other):
            return False, f"{name} differs: {_first_difference(mine, other)}"
    complete = ours["epochs"] == list(range(len(ours["epochs"]))) == theirs["epochs"]
    return complete, f"{len(ours['history'])} metrics x {len(ours['epochs'])} epochs"


def same_learning(evidence: Evidence) -> tuple[bool, str]:
    """Early stopping ended both runs in the same epoch, with the same best one."""
    names = ("best_epoch", "best", "stopped_epoch", "test")
    ours, theirs = evidence.interrupted.result, evidence.uninterrupted.result
    differing = [name for name in names if ours[name] != theirs[name]]
    if differing:
        return False, f"{', '.join(differing)} differ"
    return True, f"best epoch {ours['best_epoch'] + 1}, {_how_it_ended(ours)}, in both runs"


def kept_the_best(evidence: Evidence) -> tuple[bool, str]:
    """The kept checkpoints are those of the lowest validation losses in `History`."""
    run = evidence.interrupted
    losses = run.result["history"]["val_loss"]
    ranked = sorted(range(len(losses)), key=lambda epoch: losses[epoch])[: settings.KEPT]
    kept = [k.epoch for k in run.kept]
    epochs = ", ".join(str(epoch + 1) for epoch in kept)
    if kept != ranked:
        return False, f"kept epochs {epochs}; the best are {[e + 1 for e in ranked]}"
    wrong = [k.name for k in run.kept if k.logged["val_loss"] != losses[k.epoch]]
    if wrong:
        return False, f"the manifest and History disagree on {wrong[0]}"
    return True, f"epochs {epochs} of {len(losses)}"


def same_checkpoints(evidence: Evidence) -> tuple[bool, str]:
    """Both runs kept the same files: names, scores, and each weight and optimizer variable."""
    ours, theirs = evidence.interrupted.kept, evidence.uninterrupted.kept
    if not ours or [k.name for k in ours] != [k.name for k in theirs]:
        return False, f"{[k.name for k in ours]} against {[k.name for k in theirs]}"
    for mine, other in zip(ours, theirs, strict=True):
        for what in ("logged", "weights", "optimizer"):
            if getattr(mine, what) != getattr(other, what):
                return False, f"{mine.name}: {what} differ"
    return True, f"{len(ours)} files: names, scores, weights and optimizers equal"


def restored_the_best(evidence: Evidence) -> tuple[bool, str]:
    """The model that `fit` left has the weights of the epoch with the lowest validation loss."""
    run = evidence.interrupted
    losses, best = run.result["history"]["val_loss"], run.result["best_epoch"]
    if losses[best] != min(losses):
        return False, f"epoch {best + 1} is not the best of History"
    file = next((k for k in run.kept if k.epoch == best), None)
    if file is None or not file.weights:
        return False, f"there is no checkpoint of epoch {best + 1}"
    left = [digest for name, digest in sorted(run.digests.items()) if name.startswith("weights/")]
    if left != list(file.weights):
        return False, f"the weights are not those of {file.name}"
    accuracy = file.scores["test"]["accuracy"]
    if not _close(accuracy, run.result["test"]["accuracy"]):
        return False, f"plain Keras measures {accuracy:.4f} on the test set"
    return True, (
        f"epoch {best + 1} of {len(losses)} ({_how_it_ended(run.result)}); "
        f"test accuracy {accuracy:.2%}"
    )


def opened_by_plain_keras(evidence: Evidence) -> tuple[bool, str]:
    """Without this package, `load_model` opens the best file, which scores what was logged."""
    if evidence.package_was_imported:
        return False, "the process had, or could have, imported keras_callbacks_plus"
    if not evidence.interrupted.kept:
        return False, "there is no file"
    best = evidence.interrupted.kept[0]
    found = best.scores["validation"]
    for name in ("accuracy", "loss"):
        if not _close(found[name], best.logged[f"val_{name}"]):
            logged = best.logged[f"val_{name}"]
            return False, f"{best.name}: {name} {found[name]:.6f}, but {logged:.6f} was logged"
    return True, f"{best.name}: validation accuracy {found['accuracy']:.2%}, as logged"


def followed_the_schedule(evidence: Evidence) -> tuple[bool, str]:
    """The rate of every step, as TensorBoard reads it, is warmup and cosine decay by the book."""
    points = evidence.interrupted.charts.get(RATE_CHART)
    if not points:
        return False, f"there is no chart {RATE_CHART}"
    steps = len(evidence.interrupted.result["epochs"]) * settings.STEPS_PER_EPOCH
    first = points[0][0]
    if [step for step, _ in points] != list(range(first, first + steps)):
        return False, f"{len(points)} points from step {first}, not one for each of {steps} steps"
    for number, (step, rate) in enumerate(points):
        if not math.isclose(rate, expected_rate(number), rel_tol=_RATE_TOLERANCE, abs_tol=1e-12):
            return False, f"{rate:.6g} at step {step}; expected {expected_rate(number):.6g}"
    return True, f"{steps} of {steps} steps, peak {max(rate for _, rate in points):.4g}"


def same_charts(evidence: Evidence) -> tuple[bool, str]:
    """TensorBoard reads the same points from both runs, and the epochs are those of `History`."""
    ours, theirs = evidence.interrupted.charts, evidence.uninterrupted.charts
    differing = [name for name in _differing(ours, theirs) if not _is_a_clock(name)]
    if not ours or differing:
        return False, f"{differing[0] if differing else 'every chart'} differs or is missing"
    for metric, name in LOSS_CHARTS.items():
        values = evidence.interrupted.result["history"][metric]
        drawn = [value for _, value in ours.get(name, [])]
        if len(drawn) != len(values) or not all(map(_close, drawn, values)):
            return False, f"{name} is not the {metric} of History"
    points = sum(len(chart) for chart in ours.values())
    return True, f"{len(ours)} charts, {points:,} points, no step missing or twice"


def drew_the_curves(evidence: Evidence) -> tuple[bool, str]:
    """There is a picture."""
    size = len(evidence.pictures)
    return evidence.pictures.startswith(_PNG) and size > 10_000, f"{size / 1024:.0f} KiB"


CLAIMS: Mapping[str, Callable[[Evidence], tuple[bool, str]]] = {
    "killed in the middle of an epoch": killed_in_an_epoch,
    "went on at the beginning of an epoch": resumed_at_a_beginning,
    "weights and seeds: bit for bit as if never killed": same_variables("weights", "seeds"),
    "optimizer: bit for bit": same_variables("optimizer"),
    "history: bit for bit": same_history,
    "early stopping: the same decisions": same_learning,
    "early stopping: restored the best epoch": restored_the_best,
    f"checkpoints: the {settings.KEPT} best were kept": kept_the_best,
    "checkpoints: the same in both runs": same_checkpoints,
    "best file: opens in plain Keras": opened_by_plain_keras,
    "learning rate: warmup and cosine, step by step": followed_the_schedule,
    "TensorBoard: one clean curve each": same_charts,
    "picture of the curves": drew_the_curves,
}


def expected_rate(step: int) -> float:
    """The schedule once more, from its definition.

    Args:
        step: The step, counted from 0.
    """
    if step < settings.WARMUP_STEPS:
        return settings.PEAK_RATE * step / settings.WARMUP_STEPS
    done = min((step - settings.WARMUP_STEPS) / settings.DECAY_STEPS, 1.0)
    return settings.PEAK_RATE * (1.0 + math.cos(math.pi * done)) / 2.0


def best_file(run: RunEvidence) -> KeptFile | None:
    """The best of the kept checkpoints.

    Args:
        run: A run.
    """
    return run.kept[0] if run.kept else None


def _how_it_ended(result: Mapping[str, object]) -> str:
    stopped = result["stopped_epoch"]
    return f"stopped after epoch {stopped + 1}" if isinstance(stopped, int) else "ran to the end"


def _differing(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    return [k for k in sorted({*ours, *theirs}) if k not in ours or ours[k] != theirs.get(k)]


def _first_difference(mine: list[float] | None, other: list[float] | None) -> str:
    if mine is None or other is None or len(mine) != len(other):
        return f"{len(mine or [])} epochs against {len(other or [])}"
    epoch = next(i for i, (a, b) in enumerate(zip(mine, other, strict=True)) if a != b)
    return f"{mine[epoch]!r} against {other[epoch]!r} in epoch {epoch + 1}"


def _is_a_clock(chart: str) -> bool:
    return "per_second" in chart or "time" in chart


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_SCORE_TOLERANCE, abs_tol=_SCORE_TOLERANCE)
