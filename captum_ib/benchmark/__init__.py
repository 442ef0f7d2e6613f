"""The benchmark: many samples x methods x metrics x seeds, the way a paper's table is made.

A run is described by one file, or by a preset of the package:

>>> from captum_ib import benchmark
>>> benchmark.RunConfig.__name__
'RunConfig'

Names are loaded when first used: importing this package imports neither torch nor pyarrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_ib.benchmark.config import (
        ConfigError,
        DataConfig,
        MethodConfig,
        MetricConfig,
        RunConfig,
    )
    from captum_ib.benchmark.config_files import PRESETS, load_config, preset
    from captum_ib.benchmark.data import Dataset, Sample, UnreadableSampleError, open_data

# Where each public name lives; a new name is one line here and one import above.
_HOME = {
    "ConfigError": "config",
    "DataConfig": "config",
    "Dataset": "data",
    "MethodConfig": "config",
    "MetricConfig": "config",
    "PRESETS": "config_files",
    "RunConfig": "config",
    "Sample": "data",
    "UnreadableSampleError": "data",
    "load_config": "config_files",
    "open_data": "data",
    "preset": "config_files",
}

__all__ = [
    "PRESETS",
    "ConfigError",
    "DataConfig",
    "Dataset",
    "MethodConfig",
    "MetricConfig",
    "RunConfig",
    "Sample",
    "UnreadableSampleError",
    "load_config",
    "open_data",
    "preset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # the next access does not come through here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
