"""Tables, figures and galleries from the folders of ``captum-ib benchmark``.

``reading`` finds runs and reads their Parquet files, ``scores`` puts their numbers in order,
``aggregate`` makes means and standard errors, ``layout`` and ``tables`` write them down, ``plots``
draws, ``gallery`` makes the page, and ``write`` does all of it.
"""

from captum_ib.report.write import FORMATS, make_report, read_tables, summary

__all__ = ["FORMATS", "make_report", "read_tables", "summary"]
