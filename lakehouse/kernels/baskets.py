"""How many units of a category a receipt holds: the histogram behind the box plots."""

import numpy as np
import pyarrow as pa

from lakehouse.kernels.distinct import Ints, cells_of, lengths_of, value_codes, value_counts


def basket_histogram(receipts: pa.Table, product_id: Ints, category_id: Ints) -> pa.Table:
    """Count one month's receipts (month, store_id, products) by store, category and units of that category.

    `product_id` (ascending), `category_id` give each product's primary category; products not there are in
    category 0. Gives month, store_id, category_id, basket_units, receipts.
    """
    lists = receipts["products"].combine_chunks()
    lengths = lengths_of(lists)
    bought, product = value_codes(lists.flatten().to_numpy())
    known, category = np.unique(primary_categories(bought, product_id, category_id), return_inverse=True)
    stores, store = value_codes(receipts["store_id"].to_numpy())
    width, widest = max(len(known), 1), int(lengths.max(initial=0)) + 1
    places = [np.empty(0, np.int64)]
    for first, _, cells in cells_of(lengths, category[product], width):
        units = np.bincount(cells)
        baskets = np.flatnonzero(units != 0)
        row = baskets // width
        shop = store[first + row].astype(np.int64)
        places.append((shop * width + baskets - row * width) * widest + units[baskets])
    cells, counts = value_counts(np.concatenate(places), len(stores) * width * widest)
    place = cells // widest
    return pa.table(
        {
            "month": pa.array([receipts["month"][0].as_py() if receipts.num_rows else ""] * len(cells), pa.string()),
            "store_id": stores[place // width],
            "category_id": known[place % width],
            "basket_units": cells % widest,
            "receipts": counts,
        }
    )


def primary_categories(products: Ints, product_id: Ints, category_id: Ints) -> Ints:
    """Look up each product's primary category; 0 where it has none."""
    if not len(product_id):
        return np.zeros(len(products), np.int64)
    at = np.minimum(np.searchsorted(product_id, products), len(product_id) - 1)
    return np.where(product_id[at] == products, category_id[at], 0)


def box_plots(histogram: pa.Table) -> pa.Table:
    """Draw one box per category and store from (category_id, store_id, basket_units, receipts).

    Quartiles interpolate linearly between the sorted receipts. Gives category_id, store_id, units, receipts,
    minimum, lower_quartile, median, upper_quartile, maximum, average.
    """
    keys = ("category_id", "store_id", "basket_units")
    ordered = histogram.sort_by([(key, "ascending") for key in keys])
    category, store, value, count = (np.asarray(ordered[c].to_numpy(), np.int64) for c in (*keys, "receipts"))
    starts = np.flatnonzero(np.append(True, (np.diff(category) != 0) | (np.diff(store) != 0))[: len(category)])
    ends = np.append(starts, len(value))[1:]
    boxes = [_box(value[a:b], count[a:b]) for a, b in zip(starts, ends, strict=True)]
    figures = {name: [box[name] for box in boxes] for name in _FIGURES}
    return pa.table({"category_id": category[starts], "store_id": store[starts]} | figures)


_FIGURES = ("units", "receipts", "minimum", "lower_quartile", "median", "upper_quartile", "maximum", "average")


def _box(value: Ints, count: Ints) -> dict[str, float]:
    reached = np.cumsum(count)
    receipts, units = int(reached[-1]), int((value * count).sum())

    def quantile(share: float) -> float:
        at = share * (receipts - 1)
        places = (int(at), min(int(at) + 1, receipts - 1))
        low, high = (int(value[np.searchsorted(reached, place, "right")]) for place in places)
        return low + (high - low) * (at - int(at))

    quartiles = (quantile(0.25), quantile(0.5), quantile(0.75))
    extremes = (int(value[0]), int(value[-1]))
    return dict(zip(_FIGURES, (units, receipts, extremes[0], *quartiles, extremes[1], units / receipts), strict=True))
