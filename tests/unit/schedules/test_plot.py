from __future__ import annotations

import sys

import pytest

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.schedules import Constant, LinearDecay, Warmup
from keras_callbacks_plus.schedules._plot import curve


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    matplotlib.use("agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_draws_the_rate_of_every_step(pyplot):
    figure = LinearDecay(1.0, 4).plot(steps=6)
    (line,) = figure.axes[0].lines
    assert list(line.get_xdata()) == [0, 1, 2, 3, 4, 5]
    assert list(line.get_ydata()) == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]


def test_draws_as_far_as_there_is_something_to_see(pyplot):
    figure = Warmup(LinearDecay(1.0, 100), 50).plot()
    assert figure.axes[0].lines[0].get_xdata()[-1] == 50 + 110 - 1


def test_draws_on_the_axes_given(pyplot):
    figure, (left, right) = pyplot.subplots(ncols=2)
    assert Constant(0.1).plot(10, right) is figure
    assert not left.lines
    assert len(right.lines) == 1


def test_axes_that_are_none_are_refused(pyplot):
    with pytest.raises(InvalidArgumentError, match=r"plt\.subplots"):
        Constant(0.1).plot(ax="left")


def test_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r'pip install "keras-callbacks-plus\[plot\]"'):
        Constant(0.1).plot()


@pytest.mark.parametrize("steps", [1, 2, 999, 1000, 1001, 12_345, 10**7])
def test_curve_is_short_and_has_both_ends(steps):
    drawn, rates = curve(LinearDecay(1.0, 10**7), steps)
    assert drawn[0] == 0
    assert drawn[-1] == steps - 1
    assert len(drawn) == len(rates) <= 1001
    assert drawn == sorted(set(drawn))
