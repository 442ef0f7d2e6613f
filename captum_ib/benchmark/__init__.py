"""The benchmark: many samples x methods x metrics x seeds, the way a paper's table is made.

A run is described by one file, or by a preset of the package:

>>> from captum_ib import benchmark
>>> benchmark.RunConfig.__name__
'RunConfig'

Names are loaded when first used: importing this package imports neither torch nor pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_ib.lazy import attach

if TYPE_CHECKING:
    from captum_ib.benchmark.config import ConfigError as ConfigError
    from captum_ib.benchmark.config import DataConfig as DataConfig
    from captum_ib.benchmark.config import MethodConfig as MethodConfig
    from captum_ib.benchmark.config import MetricConfig as MetricConfig
    from captum_ib.benchmark.config import RunConfig as RunConfig
    from captum_ib.benchmark.config_files import PRESETS as PRESETS
    from captum_ib.benchmark.config_files import load_config as load_config
    from captum_ib.benchmark.config_files import preset as preset
    from captum_ib.benchmark.config_files import preset_title as preset_title
    from captum_ib.benchmark.data import Dataset as Dataset
    from captum_ib.benchmark.data import Sample as Sample
    from captum_ib.benchmark.data import UnreadableSampleError as UnreadableSampleError
    from captum_ib.benchmark.data import open_data as open_data

# Where each public name lives; a new name is one line here and one import above.
_HOMES = {
    "ConfigError": ".config",
    "DataConfig": ".config",
    "Dataset": ".data",
    "MethodConfig": ".config",
    "MetricConfig": ".config",
    "PRESETS": ".config_files",
    "RunConfig": ".config",
    "Sample": ".data",
    "UnreadableSampleError": ".data",
    "load_config": ".config_files",
    "open_data": ".data",
    "preset": ".config_files",
    "preset_title": ".config_files",
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
