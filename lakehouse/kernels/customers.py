"""What customers did: per month, and over all months."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.kernels.distinct import Ints, coded, distinct_pairs, lists_of, pairs_of


def customer_months(receipts: pa.Table) -> pa.Table:
    """Sum up receipts (month, sold_on, store_id, customer_id, products, units) of one month by customer.

    Gives customer_id, month, first_on, last_on, receipts, units, stores and products (distinct, ascending).
    """
    totals = receipts.group_by("customer_id").aggregate(
        [("sold_on", "min"), ("sold_on", "max"), ("units", "count"), ("units", "sum")]
    )
    totals = totals.sort_by("customer_id")
    customers = _ints(totals["customer_id"])
    buyers = _ints(receipts["customer_id"])
    products = distinct_pairs(*pairs_of(buyers, receipts["products"].combine_chunks()))
    stores = distinct_pairs(buyers, _ints(receipts["store_id"]))
    return pa.table(
        {
            "customer_id": totals["customer_id"],
            "month": pa.repeat(receipts["month"][0].as_py() if receipts.num_rows else "", len(customers)),
            "first_on": totals["sold_on_min"],
            "last_on": totals["sold_on_max"],
            "receipts": totals["units_count"],
            "units": totals["units_sum"],
            "stores": lists_of(customers, *stores),
            "products": lists_of(customers, *products),
        }
    )


def customer_features(months: pa.Table, product_id: Ints, category_id: Ints) -> pa.Table:
    """Sum up customers' months; `product_id`, `category_id` are all pairs, ordered by product.

    Gives customer_id, first_on, last_on, frequency, total_products, diversity, avg_quantity, unique_stores,
    unique_categories, products (distinct, ascending).
    """
    totals = months.group_by("customer_id").aggregate(
        [("first_on", "min"), ("last_on", "max"), ("receipts", "sum"), ("units", "sum")]
    )
    totals = totals.sort_by("customer_id")
    customers, owners = _ints(totals["customer_id"]), _ints(months["customer_id"])
    stores = distinct_pairs(*pairs_of(owners, months["stores"].combine_chunks()))
    products = distinct_pairs(*pairs_of(owners, months["products"].combine_chunks()))
    categories = distinct_pairs(*_joined(*products, product_id, category_id))
    return pa.table(
        {
            "customer_id": totals["customer_id"],
            "first_on": totals["first_on_min"],
            "last_on": totals["last_on_max"],
            "frequency": totals["receipts_sum"],
            "total_products": totals["units_sum"],
            "diversity": _counts(customers, products[0]),
            "avg_quantity": pc.divide(
                totals["units_sum"].cast(pa.float64()), totals["receipts_sum"].cast(pa.float64())
            ),
            "unique_stores": _counts(customers, stores[0]),
            "unique_categories": _counts(customers, categories[0]),
            "products": lists_of(customers, *products),
        }
    )


def _joined(keys: Ints, products: Ints, product_id: Ints, category_id: Ints) -> tuple[Ints, Ints]:
    """Replace each product by its categories, none or many."""
    known, place = coded(products)
    first = np.searchsorted(product_id, known, "left")
    each = np.searchsorted(product_id, known, "right") - first
    many = each[place]
    within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    return np.repeat(keys, many), category_id[np.repeat(first[place], many) + within]


def _counts(customers: Ints, ordered: Ints) -> pa.Array:
    ends = np.searchsorted(ordered, customers, "right")
    return pa.array((ends - np.searchsorted(ordered, customers, "left")).astype(np.int32))


def _ints(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.to_numpy(), np.int64)
