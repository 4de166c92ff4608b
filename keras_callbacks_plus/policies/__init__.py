"""Decisions as values: what is better, when to stop, when to act, what to keep.

Everything here is a frozen dataclass or a pure function of the standard library: no Keras, no
clock, no files.
"""

from keras_callbacks_plus.policies._duration import Duration as Duration
from keras_callbacks_plus.policies._duration import Progress as Progress
from keras_callbacks_plus.policies._duration import parse_duration as parse_duration
from keras_callbacks_plus.policies._duration import read_amount as read_amount
from keras_callbacks_plus.policies._monitor import Monitor as Monitor
from keras_callbacks_plus.policies._parse import parse_policy as parse_policy
from keras_callbacks_plus.policies._patience import Patience as Patience
from keras_callbacks_plus.policies._patience import PatienceState as PatienceState
from keras_callbacks_plus.policies._patience import StopReason as StopReason
from keras_callbacks_plus.policies._patience import Verdict as Verdict
from keras_callbacks_plus.policies._retention import Decision as Decision
from keras_callbacks_plus.policies._retention import Record as Record
from keras_callbacks_plus.policies._retention import RetentionPolicy as RetentionPolicy
from keras_callbacks_plus.policies._retention import ask as ask
from keras_callbacks_plus.policies._retention_compose import AllOf as AllOf
from keras_callbacks_plus.policies._retention_compose import AnyOf as AnyOf
from keras_callbacks_plus.policies._retention_compose import monitors_of as monitors_of
from keras_callbacks_plus.policies._retention_compose import most_kept as most_kept
from keras_callbacks_plus.policies._retention_compose import needs_monitor as needs_monitor
from keras_callbacks_plus.policies._retention_limits import MaxBytes as MaxBytes
from keras_callbacks_plus.policies._retention_limits import Within as Within
from keras_callbacks_plus.policies._retention_rules import BestN as BestN
from keras_callbacks_plus.policies._retention_rules import EveryN as EveryN
from keras_callbacks_plus.policies._retention_rules import KeepAll as KeepAll
from keras_callbacks_plus.policies._retention_rules import LatestN as LatestN
from keras_callbacks_plus.policies._selection import Selection as Selection
from keras_callbacks_plus.policies._selection import best_value as best_value
from keras_callbacks_plus.policies._trigger import Trigger as Trigger

# what users write; the rest is for the callbacks
__all__ = [
    "Monitor",
    "Patience",
    "PatienceState",
    "StopReason",
    "Verdict",
    "BestN",
    "LatestN",
    "EveryN",
    "Within",
    "MaxBytes",
    "KeepAll",
    "AnyOf",
    "AllOf",
    "parse_policy",
    "Decision",
    "Record",
    "RetentionPolicy",
    "Trigger",
    "Progress",
    "Duration",
    "parse_duration",
]
