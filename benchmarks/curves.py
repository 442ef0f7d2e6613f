"""The numbers of docs/methods/bits_curve.md: fits that converge against ten steps of Adam.

python -m benchmarks.curves vit-scenes --n 200
python -m benchmarks.curves clip-scenes --n 64

Scores of CoIBA's maps (of pairs: of the image's map of CoM2IB) with paired differences to the
default, on held-out scenes; for the first `--seeds` samples the agreement between two seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import captum
import numpy as np
import torch
from torch import Tensor

from benchmarks.layers import HELD_OUT, pointing
from captum_ib import CoIBA, CoM2IB, DualEncoder, zoo
from captum_ib.bottleneck import to_bits
from captum_ib.curve import BitsCurve
from captum_ib.metrics import InsertionDeletion
