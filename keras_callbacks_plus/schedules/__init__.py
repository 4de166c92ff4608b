"""Learning-rate schedules: pure functions of the step, importable without Keras."""

from __future__ import annotations

from keras_callbacks_plus.schedules._base import Clipped as Clipped
from keras_callbacks_plus.schedules._base import Scaled as Scaled
from keras_callbacks_plus.schedules._base import Schedule as Schedule
from keras_callbacks_plus.schedules._compose import Joined as Joined
from keras_callbacks_plus.schedules._compose import join as join
from keras_callbacks_plus.schedules._config import deserialize as deserialize
from keras_callbacks_plus.schedules._config import serialize as serialize
from keras_callbacks_plus.schedules._decay import Constant as Constant
from keras_callbacks_plus.schedules._decay import CosineDecay as CosineDecay
from keras_callbacks_plus.schedules._decay import ExponentialDecay as ExponentialDecay
from keras_callbacks_plus.schedules._decay import LinearDecay as LinearDecay
from keras_callbacks_plus.schedules._decay import PolynomialDecay as PolynomialDecay
from keras_callbacks_plus.schedules._ops import Operations as Operations
from keras_callbacks_plus.schedules._warmup import Warmup as Warmup

__all__ = [
    "Schedule",
    "Constant",
    "LinearDecay",
    "PolynomialDecay",
    "ExponentialDecay",
    "CosineDecay",
    "Warmup",
    "join",
    "Joined",
    "Scaled",
    "Clipped",
    "serialize",
    "deserialize",
    "Operations",
]
