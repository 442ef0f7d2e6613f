"""How a bottleneck gets into a model and out again: hooks, isolation, replay."""

from captum_ib.hooks.axes import AxisTracker
from captum_ib.hooks.composite import CompositeHook
from captum_ib.hooks.isolate import borrowed, roots
from captum_ib.hooks.replay import Recorder, Replay, ReplayMismatch
from captum_ib.hooks.session import Session, open_session, require_path, samples_axis_of
from captum_ib.hooks.threads import Stopped, check_stop, stopping
from captum_ib.hooks.undo import Undo, before_layer, untouched

__all__ = [
    "AxisTracker",
    "CompositeHook",
    "Recorder",
    "Replay",
    "ReplayMismatch",
    "Session",
    "Stopped",
    "Undo",
    "before_layer",
    "borrowed",
    "check_stop",
    "open_session",
    "require_path",
    "roots",
    "samples_axis_of",
    "stopping",
    "untouched",
]
