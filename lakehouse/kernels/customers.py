"""What customers did: per month, and over all months."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.kernels.distinct import Ints, Wholes, distinct_lists, pairs_of, value_codes


def customer_months(receipts: pa.Table) -> pa.Table:
    """Sum up receipts (month, sold_on, store_id, customer_id, products, units) of one month by customer.

    Gives customer_id, month, first_on, last_on, receipts, units, stores and products (distinct, ascending).
    """
    totals = receipts.group_by("customer_id").aggregate(
        [("sold_on", "min"), ("sold_on", "max"), ("units", "count"), ("units", "sum")]
    )
    totals = totals.sort_by("customer_id")
    customers = totals.num_rows
    buyer = _places(receipts, totals)
    products = distinct_lists(*pairs_of(buyer, receipts["products"].combine_chunks()), customers)
    stores = distinct_lists(buyer, receipts["store_id"].to_numpy(), customers)
    return pa.table(
        {
            "customer_id": totals["customer_id"],
            "month": pa.repeat(receipts["month"][0].as_py() if receipts.num_rows else "", customers),
            "first_on": totals["sold_on_min"],
            "last_on": totals["sold_on_max"],
            "receipts": totals["units_count"],
            "units": totals["units_sum"],
            "stores": stores,
            "products": products,
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
    customers = totals.num_rows
    owner = _places(months, totals)
    stores = distinct_lists(*pairs_of(owner, months["stores"].combine_chunks()), customers)
    products = distinct_lists(*pairs_of(owner, months["products"].combine_chunks()), customers)
    pairs = _joined(*pairs_of(np.arange(customers), products), product_id, category_id)
    categories = distinct_lists(*pairs, customers)
    return pa.table(
        {
            "customer_id": totals["customer_id"],
            "first_on": totals["first_on_min"],
            "last_on": totals["last_on_max"],
            "frequency": totals["receipts_sum"],
            "total_products": totals["units_sum"],
            "diversity": pc.list_value_length(products),
            "avg_quantity": pc.divide(
                totals["units_sum"].cast(pa.float64()), totals["receipts_sum"].cast(pa.float64())
            ),
            "unique_stores": pc.list_value_length(stores),
            "unique_categories": pc.list_value_length(categories),
            "products": products,
        }
    )


def _joined(owner: Wholes, products: Wholes, product_id: Ints, category_id: Ints) -> tuple[Wholes, Ints]:
    """Replace each product by its categories, none or many."""
    known, place = value_codes(products)
    first = np.searchsorted(product_id, known, "left")
    each = np.searchsorted(product_id, known, "right") - first
    many = each[place]
    within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    owners: Wholes = np.repeat(owner, many)
    return owners, category_id[np.repeat(first[place], many) + within]


def _places(rows: pa.Table, totals: pa.Table) -> Ints:
    """Say of each row which of the ascending customers it is of."""
    return np.asarray(np.searchsorted(totals["customer_id"].to_numpy(), rows["customer_id"].to_numpy()), np.int64)
