"""From the model in memory to a committed file of a series, and what happens when that fails."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from keras_callbacks_plus._keras import compat, training_state
from keras_callbacks_plus._keras.model_files import ModelFileWriter
from keras_callbacks_plus.callbacks._checkpoint_name import CheckpointName
from keras_callbacks_plus.callbacks._placing import Placement
from keras_callbacks_plus.callbacks._series import Candidate, Outcome, Series
from keras_callbacks_plus.errors import CheckpointWarning, StorageError
from keras_callbacks_plus.policies import Monitor, Selection, best_value

__all__ = ["ModelSeries", "Moment", "Outlook", "begins_anew", "step_of"]

# Which model was trained last in this process under which `filepath`.
_TRAINED: dict[tuple[str, str], weakref.ref[Any]] = {}


@dataclass(frozen=True)
class Moment:
    """A model that may be saved.

    Args:
        name: The name that its file would like to have.
        epoch: As in `CheckpointRecord`, like the following.
        batch: The batch, counted from 0.
        step: The optimizer's step.
        metrics: Every scalar that was logged.
    """

    name: str
    epoch: int
    batch: int | None
    step: int | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Outlook:
    """What a save would be.

    Args:
        candidate: The checkpoint.
        placement: What would become of it.
        best: The best value of the metric among the others, or `None`.
    """

    candidate: Candidate
    placement: Placement
    best: float | None

    def best_after(self, monitor: Monitor) -> float | None:
        """The best value of the metric when it is saved.

        Args:
            monitor: The comparison.
        """
        value = self.candidate.metrics.get(monitor.name)
        ranked = [v for v in (self.best, value) if monitor.is_ranked(v)]
        return min(ranked, key=monitor.sort_key, default=None)


class ModelSeries:
    """The files that one `ModelCheckpoint` keeps of a model.

    Args:
        name: Folder and template of the names.
        weights_only: Boolean, whether the files hold the weights only.
        on_background: Boolean, whether a writer thread does the writing.
        on_error: `"raise"`, or `"warn"` to go on when a file cannot be written.

    Attributes:
        saved_step: The optimizer's step of the last save that is kept, or `None`.
    """

    def __init__(
        self,
        name: CheckpointName,
        *,
        weights_only: bool,
        on_background: bool,
        on_error: Literal["raise", "warn"],
    ) -> None:
        self.saved_step: int | None = None
        self._name = name
        self._weights_only = weights_only
        self._on_error = on_error
        self._surprised = False
        self._error: Exception | None = None  # of the last save whose end was seen
        self._told: set[str] = set()
        self._files: ModelFileWriter | None = None
        self._thread = threading.get_ident()
        kind = "weights" if weights_only else "model"
        self._series = Series(name.directory, name.template, kind, on_background=on_background)

    # ---------------------------------------------------------------- from beginning to end

    def begin(self, model: Any) -> None:
        """At the start of a `fit`: puts the folder in order.

        Args:
            model: The model; another one than before in this process may start a new ranking.
        """
        self._thread = threading.get_ident()  # whose hooks raise what the writer has met
        self._told.clear()
        self._error = None
        self.saved_step = None
        before = _TRAINED.get(self._name.identity)
        _TRAINED[self._name.identity] = weakref.ref(model)
        with self._errors_as_asked():
            self._tell(self._series.recover())
            if before is not None and begins_anew(before(), model, step_of(model)):
                self._series.start_over()

    def close(self) -> None:
        """At the end of a `fit`: waits for the last save, and gives the copy's memory back."""
        try:
            self.wait_until_finished()
        finally:
            self._files = None

    def get_state(self) -> dict[str, Any]:
        """Where the ranking begins, and what is saved."""
        return {"since": self._series.since, "saved_step": self.saved_step}

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts back what `get_state` returned: a resumed run goes on with its own ranking.

        Args:
            state: What `get_state` returned.
        """
        with self._errors_as_asked():
            self._series.rank_from(state["since"])
        self.saved_step = state["saved_step"]

    # ---------------------------------------------------------------- looking

    def count(self) -> int:
        """How many checkpoints there are in the ranking."""
        with self._errors_as_asked():
            return len(self._series.members())
        return 0

    def take_up(self, monitor: Monitor) -> float | None:
        """The best value among the files, once it is known to be in a file that is whole.

        Args:
            monitor: The comparison.
        """
        with self._errors_as_asked():
            if not self._series.store.is_remote:  # which checks what it holds, and reads slowly
                self._tell(self._series.disown_damaged_best(monitor))
        return self.best(monitor)

    def best(self, monitor: Monitor) -> float | None:
        """The best value of the metric among the files, or `None`.

        Args:
            monitor: The comparison.
        """
        with self._errors_as_asked():
            return best_value(monitor, self._series.members())
        return None

    def foresee(
        self,
        selection: Selection,
        moment: Moment,
        monitor: Monitor | None,
        *,
        forced: bool = False,
    ) -> Outlook | None:
        """What a save would be now; `None` where that cannot be known, and training goes on.

        Args:
            selection: Decides.
            moment: What would be saved.
            monitor: What it is ranked by, for whoever reads it back; `None` if that is not known.
            forced: Whether it is to be saved whatever the selection says.
        """
        series = self._series
        with self._errors_as_asked():
            self._tell(series.notice_changes())
            members = series.members()
            size = members[-1].size if members else 0
            number = series.next_sequence()
            place = (moment.name, moment.epoch, moment.batch, moment.step, moment.metrics)
            candidate = Candidate(*place, size, time.time(), number)
            if monitor is not None:
                candidate = replace(candidate, monitor=monitor.name, mode=monitor.mode)
            placement = series.foresee(selection, candidate, forced=forced)
            best = None if monitor is None else best_value(monitor, members)
            return Outlook(candidate, placement, best)
        return None

    # ---------------------------------------------------------------- saving

    def save(
        self, model: Any, selection: Selection, outlook: Outlook, *, forced: bool = False
    ) -> None:
        """Takes the model as it is now, and has it committed, if it still is worth it then.

        Args:
            model: The model.
            selection: Decides, when every other checkpoint is known.
            outlook: What `foresee` has said.
            forced: Whether it is to be saved whatever the selection says.
        """
        candidate, foreseen = outlook.candidate, outlook.placement.path
        assert foreseen is not None
        self.wait_until_finished()  # at most one copy of the model is held
        if self._files is None:
            self._files = ModelFileWriter(
                model,
                weights_only=self._weights_only,
                legacy_h5=not self._weights_only and candidate.path.endswith(".h5"),
            )
        with self._errors_as_asked():
            payload = self._files.capture(candidate.carried(self._series))
            self.saved_step = candidate.step
            candidate = replace(candidate, size=payload.size_hint)
            self._series.save(candidate, payload, selection, foreseen=foreseen, forced=forced)

    def wait_until_finished(self) -> None:
        """Blocks until every save is durable; raises if one could not be written.

        In another thread than the one that trains, the error stays for the training's next hook,
        and is raised also where that has seen it already.
        """
        self._series.wait()
        if threading.get_ident() == self._thread:
            self._see_outcomes()
        elif self._on_error == "raise":
            errors = [outcome.error for outcome in list(self._series.outcomes)]
            for error in (*errors, self._error):  # in this order: none is missed in between
                if error is not None:
                    raise error

    def holds(self, model: Any, step: int | None) -> bool:
        """Whether a model, as it is now, is what was saved last.

        Weights can change without a step: `EarlyStopping` restores the best, a moving average takes
        their place. Of a save by another process, which a resumed run goes on from, only the step
        is known.

        Args:
            model: The model.
            step: Its optimizer's step.
        """
        if step is None or step != self.saved_step:
            return False
        return self._files is None or self._files.is_unchanged()

    def is_surprised(self) -> bool:
        """Whether a save ended otherwise than foreseen since this was last asked.

        Where one could not be written, it raises with `on_error="raise"`, and has warned else.
        """
        self._see_outcomes()
        surprised, self._surprised = self._surprised, False
        return surprised

    def _see_outcomes(self) -> None:
        while self._series.outcomes:
            self._error = self._series.outcomes[0].error
            with self._errors_as_asked():
                self._see(self._series.outcomes.popleft())

    def _see(self, outcome: Outcome) -> None:
        candidate, placement = outcome.candidate, outcome.placement
        self._tell(outcome.facts)
        path = None if placement is None else placement.path
        if path != outcome.foreseen:
            self._surprised = True
        if path is None and self.saved_step == candidate.step:
            self.saved_step = None
        if outcome.error is not None:
            raise outcome.error
        assert placement is not None
        wanted = self._name.path_of(candidate.path)
        if path is None:
            reason = placement.reason.removeprefix("evicted: ")
            self._tell([f"{wanted} was not kept, as things had changed: {reason}."])
        elif outcome.is_foreign and candidate.path not in self._told:
            self._told.add(candidate.path)
            self._tell(
                [
                    f"{wanted} is there and is not one of these checkpoints: it is left as it is, "
                    f"and {path} is written instead."
                ]
            )

    def _tell(self, facts: Iterable[str]) -> None:
        for fact in facts:
            self._surprised = True
            warnings.warn(fact, CheckpointWarning, stacklevel=5)

    @contextlib.contextmanager
    def _errors_as_asked(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            self._surprised = True
            if self._on_error == "raise":
                raise
            warnings.warn(f"{error} Training goes on.", CheckpointWarning, stacklevel=4)


def begins_anew(trained: Any, model: Any, step: int | None) -> bool:
    """Whether a model starts a new ranking, and does not go on with the one that is there.

    One that has been trained already was read from a file: it goes on. A run that is resumed begins
    here, too, and then gets its own ranking back by `set_state`.

    Args:
        trained: The model that was trained last in this process under the same `filepath`, or
            `None` where that is gone.
        model: The model.
        step: Its optimizer's step.
    """
    return model is not trained and not step


def step_of(model: Any) -> int | None:
    """How many batches the model's optimizer has seen, or `None` without one.

    Of several optimizers (a GAN's) it is the one that has seen most.
    """
    compat.recover_state_after_failure(model)
    return max(training_state.iterations(model), default=None)
