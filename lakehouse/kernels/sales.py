"""What was sold where on which day, product by product."""

import numpy as np
import pyarrow as pa

from lakehouse.kernels.distinct import coded, counted, pairs_of, sorted_pairs


def product_days(receipts: pa.Table) -> pa.Table:
    """Count units and receipts of one month (month, sold_on, store_id, products) by day, store and product.

    Gives month, sold_on, store_id, product_id, units, receipts.
    """
    rows, bought = pairs_of(np.arange(receipts.num_rows), receipts["products"].combine_chunks())
    products, product = coded(bought)
    stores, store = coded(np.asarray(receipts["store_id"].to_numpy(), np.int64))
    days, day = coded(np.asarray(receipts["sold_on"].cast(pa.int32()).to_numpy(), np.int64))
    width = max(len(products), 1)
    row, product, starts = sorted_pairs(rows, product, width)
    cell = (day * len(stores) + store)[row] * width + product
    size = len(days) * len(stores) * width
    cells, units = counted(cell, size)
    _, holders = counted(cell[starts], size)
    place = cells // width
    shops = max(len(stores), 1)
    return pa.table(
        {
            "month": pa.repeat(receipts["month"][0].as_py() if receipts.num_rows else "", len(cells)),
            "sold_on": pa.array(days[place // shops].astype(np.int32)).cast(pa.date32()),
            "store_id": stores[place % shops],
            "product_id": products[cells % width],
            "units": units,
            "receipts": holders,
        }
    )
