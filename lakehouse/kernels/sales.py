"""What was sold where on which day, product by product."""

import numpy as np
import pyarrow as pa

from lakehouse.kernels.distinct import Ints, coded, counted, pairs_of

MANY = 31  # bits for the units of a product in one receipt


def product_days(receipts: pa.Table) -> pa.Table:
    """Count units and receipts of one month (month, sold_on, store_id, products) by day, store and product.

    Gives month, sold_on, store_id, product_id, units, receipts.
    """
    rows, bought = pairs_of(np.arange(receipts.num_rows), receipts["products"].combine_chunks())
    products, product = coded(bought)
    stores, store = coded(np.asarray(receipts["store_id"].to_numpy(), np.int64))
    days, day = coded(np.asarray(receipts["sold_on"].cast(pa.int32()).to_numpy(), np.int64))
    width = max(len(products), 1)
    held, units = counted(rows * width + product)
    receipt = held // width
    cell = (day[receipt] * len(stores) + store[receipt]) * width + held % width
    cells, totals, holders = _summed(cell, units)
    place = cells // width
    shops = max(len(stores), 1)
    return pa.table(
        {
            "month": pa.repeat(receipts["month"][0].as_py() if receipts.num_rows else "", len(cells)),
            "sold_on": pa.array(days[place // shops].astype(np.int32)).cast(pa.date32()),
            "store_id": stores[place % shops],
            "product_id": products[cells % width],
            "units": totals,
            "receipts": holders,
        }
    )


def _summed(cell: Ints, units: Ints) -> tuple[Ints, Ints, Ints]:
    """Give the distinct cells, the sum of their units and how often each occurs."""
    packed = np.sort((cell << MANY) | units)
    cells = packed >> MANY
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    totals = np.add.reduceat(packed & (2**MANY - 1), starts) if len(starts) else np.empty(0, np.int64)
    return cells[starts], totals, np.diff(starts, append=len(cells))
