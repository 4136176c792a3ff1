"""Which days a transactions file is about."""

from collections.abc import Iterable
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.kernels.lines import numbered_lines
from lakehouse.kernels.receipt_rules import accepted_receipts
from lakehouse.sources.landing import Delivery
from lakehouse.storage.objects import open_location

Span = tuple[date, date]


def span_of(delivery: Delivery) -> Span | None:
    """Read a file for the first and the last day of the lines that keep the row rules; None where no line does."""
    with open_location(delivery.location) as file:
        batches = numbered_lines(file, delivery.source_id, until=delivery.bytes)
        return _widest(accepted_receipts(pa.Table.from_batches([batch]))["sold_on"] for batch in batches)


def _widest(columns: Iterable[pa.ChunkedArray]) -> Span | None:
    found = [pc.min_max(column).as_py() for column in columns if len(column)]
    return (min(one["min"] for one in found), max(one["max"] for one in found)) if found else None
