"""The table of supported models: what the tests run, and what docs/models.md shows.

Every row builds a small model of random weights from its configuration, and says which shapes the
methods' maps have. `python -m tests.models.supported` writes the table into docs/models.md.
"""

from __future__ import annotations

from tests.models.classifiers import IMAGE_CLASSIFIERS, TEXT_CLASSIFIERS
from tests.models.duals import DUAL_ENCODERS
from tests.models.generators import GENERATORS

ROWS = (*IMAGE_CLASSIFIERS, *TEXT_CLASSIFIERS, *GENERATORS, *DUAL_ENCODERS)
