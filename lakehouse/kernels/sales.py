"""What was sold where on which day, product by product."""

import numpy as np
import pyarrow as pa

from lakehouse.kernels.distinct import is_repeated, lengths_of, value_codes, value_counts


def product_days(receipts: pa.Table) -> pa.Table:
    """Count units and receipts of one month (month, sold_on, store_id, products) by day, store and product.

    Gives month, sold_on, store_id, product_id, units, receipts.
    """
    lists = receipts["products"].combine_chunks()
    lengths = lengths_of(lists)
    products, product = value_codes(lists.flatten().to_numpy())
    stores, store = value_codes(receipts["store_id"].to_numpy())
    days, day = value_codes(receipts["sold_on"].cast(pa.int32()).to_numpy())
    width = max(len(products), 1)
    cell = np.repeat((day.astype(np.int64) * len(stores) + store) * width, lengths) + product
    size = len(days) * len(stores) * width
    cells, units = value_counts(cell, size)
    _, holders = value_counts(cell[~is_repeated(lengths, product, width)], size)
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
