"""What a report stands on, or a message that says how to get it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from captum_ib.extras import need

if TYPE_CHECKING:
    import jinja2
    import pyarrow as pa
    import pyarrow.parquet as pq
    import tabulate

    pd: Any  # pandas brings no types, and what a checker infers from its source is often not true
    DataFrame = Series = Any
else:
    jinja2 = need("jinja2", "the report")
    pd = need("pandas", "the report")
    pa = need("pyarrow", "the report")
    pq = need("pyarrow.parquet", "the report")
    tabulate = need("tabulate", "the report")
    DataFrame, Series = pd.DataFrame, pd.Series

__all__ = ["DataFrame", "Series", "jinja2", "pa", "pd", "pq", "tabulate"]
