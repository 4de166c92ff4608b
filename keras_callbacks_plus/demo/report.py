"""What the demo shows: a table, a picture of the curves, and which claims hold."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from keras_callbacks_plus._terminal import Terminal
from keras_callbacks_plus.demo import settings
from keras_callbacks_plus.demo.checks import RATE_CHART, Claim
from keras_callbacks_plus.demo.evidence import Evidence, RunEvidence
from keras_callbacks_plus.demo.processes import Position

__all__ = ["draw_curves", "print_claims", "print_files", "print_kept"]

_BLUE, _ORANGE, _RED, _GREY = "#1f6fb4", "#d9730d", "#c0392b", "#555555"


def print_kept(terminal: Terminal, run: RunEvidence) -> None:
    """Prints the kept checkpoints with their scores.

    Args:
        terminal: Where to.
        run: The run whose they are.
    """
    rows = [
        [
            str(place),
            file.name,
            f"{file.logged['val_loss']:.5f}",
            f"{file.logged['val_accuracy']:.2%}",
            f"{file.scores['validation']['accuracy']:.2%}",
            f"{file.scores['test']['accuracy']:.2%}",
        ]
        for place, file in enumerate(run.kept, 1)
    ]
    terminal.print("Kept checkpoints, and what plain Keras measures with each:")
    columns = ["rank", "file", ">val_loss", ">val_accuracy", ">opened: validation", ">opened: test"]
    terminal.table(columns, rows)


def print_claims(terminal: Terminal, claims: Sequence[Claim]) -> None:
    """Prints what was claimed, and whether it holds.

    Args:
        terminal: Where to.
        claims: The claims, checked.
    """
    width = max(len(claim.name) for claim in claims)
    for claim in claims:
        mark, style = ("ok  ", "green") if claim.holds else ("FAIL", "bold red")
        terminal.print(f"{mark}  {claim.name.ljust(width)}  {claim.detail}", style)
    terminal.print()
    failed = [claim.name for claim in claims if not claim.holds]
    if failed:
        terminal.print(f"{len(failed)} of {len(claims)} claims do not hold:", "bold red")
        for name in failed:
            terminal.print(f"  - {name}", "bold red")
    else:
        terminal.print(f"All {len(claims)} claims hold.", "bold green")


def print_files(terminal: Terminal, directory: Path) -> None:
    """Says where to look next.

    Args:
        directory: The folder of the demo.
        terminal: Where to.
    """
    rows = [
        ["learning curves", str(directory / "curves.png")],
        ["TensorBoard", f"tensorboard --logdir {_quoted(directory)}"],
        ["checkpoints", f"kcp ls {_quoted(directory / 'interrupted' / 'checkpoints')}"],
        ["the script", "python -m keras_callbacks_plus.demo.training runs/mine"],
    ]
    terminal.print()
    terminal.print("To look at:")
    for what, where in rows:
        terminal.print(f"  {what:16} {where}")


def draw_curves(evidence: Evidence) -> bytes:
    """Draws the learning rate by step, the losses by epoch, and where the kill was.

    Args:
        evidence: What the runs left behind.

    Returns:
        A PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    run = evidence.interrupted
    figure = Figure(figsize=(9.0, 6.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1)

    points = run.charts.get(RATE_CHART, [])
    top.plot([step for step, _ in points], [rate for _, rate in points], color=_BLUE, lw=1.8)
    top.set(xlabel="optimizer step", ylabel="learning rate", title="Warmup, then cosine decay")

    history, best = run.result["history"], run.result["best_epoch"]
    other = evidence.uninterrupted.result["history"]
    epochs = [epoch + 1 for epoch in run.result["epochs"]]
    for name, color in (("loss", _BLUE), ("val_loss", _ORANGE)):
        bottom.plot(epochs, history[name], color=color, lw=1.8, label=f"{name}, killed and resumed")
        bottom.plot(
            range(1, len(other[name]) + 1),
            other[name],
            color="black",
            lw=0,
            marker="o",
            ms=3.5,
            mfc="none",
            mew=0.8,
            label="never interrupted" if name == "val_loss" else None,
        )
    if best + 1 in epochs:
        bottom.plot(
            [best + 1],
            [history["val_loss"][epochs.index(best + 1)]],
            color=_ORANGE,
            marker="*",
            ms=15,
            mec="black",
            lw=0,
            label=f"restored: epoch {best + 1}",
        )
    bottom.set(xlabel="epoch", ylabel="loss (log scale)", yscale="log", title="Loss")

    if evidence.interruption is not None:
        kill, resume = evidence.interruption.killed_at, evidence.interruption.resumed_at
        for axes, unit in ((top, settings.STEPS_PER_EPOCH), (bottom, 1)):
            # a point of the lower curve is drawn at the end of its epoch, as the first one is at 1
            at = _place(kill) * unit
            axes.axvline(at, color=_RED, lw=1.3, ls="--")
            start = at
            if resume is not None:
                start = resume.epoch * unit
                axes.axvline(start, color=_GREY, lw=1.3, ls=":")
            axes.axvspan(start, at, color=_RED, alpha=0.12, lw=0)
        top.plot([], [], color=_RED, ls="--", lw=1.3, label=f"killed in epoch {kill.epoch + 1}")
        top.plot([], [], color=_GREY, ls=":", lw=1.3, label="resumed from here")
        top.legend(loc="upper right", frameon=False)
    bottom.legend(loc="upper right", frameon=False)
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _place(position: Position) -> float:
    return position.epoch + position.batches / settings.STEPS_PER_EPOCH


def _quoted(path: Path) -> str:
    text = str(path)
    return f'"{text}"' if " " in text else text
