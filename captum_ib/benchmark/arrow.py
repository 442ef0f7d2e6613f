"""pyarrow, or a message that says how to get it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_ib.extras import need

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
else:
    pa = need("pyarrow", "the benchmark")
    pq = need("pyarrow.parquet", "the benchmark")

__all__ = ["pa", "pq"]
