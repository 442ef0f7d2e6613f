"""How a bottleneck gets into a model and out again: hooks, isolation, replay."""

from captum_ib.hooks.composite import CompositeHook
from captum_ib.hooks.isolate import borrowed, roots
from captum_ib.hooks.replay import Recorder, Replay, ReplayMismatch
from captum_ib.hooks.session import Session, open_session, samples_axis_of
from captum_ib.hooks.stop import Stopped, check_stop, stopping

__all__ = [
    "CompositeHook",
    "Recorder",
    "Replay",
    "ReplayMismatch",
    "Session",
    "Stopped",
    "borrowed",
    "check_stop",
    "open_session",
    "roots",
    "samples_axis_of",
    "stopping",
]
