"""The peer of the benchmark: the same tables and documents, by one hand-written script.

DuckDB reads, checks and aggregates; numpy works on products (bit columns, one bit per receipt or customer);
scikit-learn finds the segments. It shares no code with the project and keeps nothing between runs: no history, no
quarantine, no ledger, no releases, no second engine.

    python duckdb_script.py --source DIR --output DIR

`--source` holds `products/` and `transactions/`; `--output` gets `tables/*.parquet` and the JSON documents. The last
line on standard error is a JSON object: seconds per step, peak memory, what was refused.
"""

import argparse
import json
import os
import resource
import sys
import time
from calendar import month_name
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

IMPORTED = time.process_time()  # seconds since the process began: close to those on the wall

Connection = duckdb.DuckDBPyConnection
Row = dict[str, Any]
Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

BLOCK = 1 << 16  # receipts worked on together; a multiple of 64
TOP, BEST_LISTED = 10, 1_000
PER_PRODUCT = PER_CUSTOMER = 5
CORRELATED = ("frequency", "total_products", "diversity", "avg_quantity", "unique_stores")
CLUSTERED = ("frequency", "diversity", "total_products", "unique_categories")


# Reading


TRANSACTIONS = """
    CREATE TABLE delivered AS
    WITH fields AS (
        SELECT * FROM read_csv(?, delim = '|', header = false, quote = '', escape = '', auto_detect = false,
            store_rejects = true,
            columns = {sold_on: 'VARCHAR', store: 'VARCHAR', customer: 'VARCHAR', products: 'VARCHAR'})
    ), judged AS (
        SELECT
            CASE WHEN regexp_full_match(sold_on, '\\d{4}-\\d{2}-\\d{2}') THEN try_cast(sold_on AS DATE) END AS day,
            CASE WHEN regexp_full_match(store, '\\d{1,10}') THEN try_cast(store AS INTEGER) END AS store_id,
            CASE WHEN regexp_full_match(customer, '\\d{1,19}') THEN try_cast(customer AS BIGINT) END AS customer_id,
            CASE
                WHEN contains(products, '  ') OR starts_with(products, ' ') OR ends_with(products, ' ')
                THEN trim(regexp_replace(products, ' +', ' ', 'g')) ELSE coalesce(products, '')
            END AS products
        FROM fields
    )
    SELECT
        day AS sold_on, store_id, customer_id, products,
        length(products) - length(replace(products, ' ', '')) + 1 AS units,
        CASE
            WHEN day IS NULL THEN 'bad_date'
            WHEN day NOT BETWEEN DATE '1990-01-01' AND DATE '2100-01-01' THEN 'date_out_of_range'
            WHEN store_id IS NULL THEN 'bad_store'
            WHEN customer_id IS NULL THEN 'bad_customer'
            WHEN products = '' THEN 'no_products'
            WHEN NOT regexp_full_match(products, '\\d{1,9}( \\d{1,9})*') THEN 'bad_product'
        END AS broken
    FROM judged
"""


def read_reference(con: Connection, source: Path) -> None:
    """Read categories, and which product is in which; the smallest is a product's primary category."""
    con.execute(
        """CREATE TABLE categories AS
        SELECT * FROM read_csv(?, delim = '|', header = false, quote = '', escape = '', auto_detect = false,
            ignore_errors = true, columns = {category_id: 'INTEGER', category_name: 'VARCHAR'})""",
        [str(source / "products" / "Categories.csv")],
    )
    con.execute(
        """CREATE TABLE listed AS
        SELECT DISTINCT * FROM read_csv(?, delim = '|', header = true, quote = '', escape = '', auto_detect = false,
            ignore_errors = true, columns = {product_id: 'INTEGER', category_id: 'INTEGER'})""",
        [str(source / "products" / "ProductCategory.csv")],
    )


def read_transactions(con: Connection, source: Path) -> dict[str, int]:
    """Read receipts, drop lines that break a rule, and count those by rule.

    The reader passes over blank lines without a word: the line ends in the bytes say how many there were.
    """
    files = sorted((source / "transactions").glob("*.csv"))
    con.execute(TRANSACTIONS, [[str(file) for file in files]])
    con.execute(
        """CREATE VIEW receipts AS SELECT * EXCLUDE broken FROM delivered WHERE broken IS NULL;
        CREATE TABLE unread AS
        SELECT if(bool_or(error_type = 'INVALID ENCODING'), 'not_utf8', 'wrong_field_count') AS broken
        FROM reject_errors GROUP BY file_id, line_byte_position"""
    )
    refused = Counter(
        {
            row["broken"]: row["lines"]
            for row in rows(
                con,
                """SELECT broken, count(*) AS lines
                FROM (SELECT broken FROM delivered WHERE broken IS NOT NULL UNION ALL FROM unread) GROUP BY broken""",
            )
        }
    )
    seen = value(con, "SELECT (SELECT count(*) FROM delivered) + (SELECT count(*) FROM unread)")
    refused["wrong_field_count"] += sum(lines_in(file) for file in files) - seen
    return dict(+refused)


def lines_in(file: Path) -> int:
    content = file.read_bytes()
    return content.count(b"\n") + (content != b"" and not content.endswith(b"\n"))


def rows(con: Connection, sql: str) -> list[Row]:
    found: list[Row] = con.sql(sql).to_arrow_table().to_pylist()
    return found


def value(con: Connection, sql: str) -> Any:
    return next(iter(rows(con, sql)[0].values()))


# Baskets


@dataclass(frozen=True)
class Baskets:
    """Receipts as arrays; products, stores, customers and categories as places among the ascending ids."""

    products: Ints
    customers: Ints
    stores: Ints
    categories: Ints  # 0 stands for products without
    store: Ints  # of each receipt
    units: Ints  # of each receipt
    product: Ints  # of each unit
    customer: Ints  # of each unit
    category: Ints  # of each product, the primary one


def baskets_of(con: Connection) -> Baskets:
    table = con.sql("SELECT store_id, customer_id, units, products FROM receipts").to_arrow_table()
    numbers = np.fromstring(" ".join(table["products"].to_pylist()), np.int64, sep=" ")
    units = table["units"].to_numpy()
    products, product = places(numbers)
    customers, customer = places(table["customer_id"].to_numpy())
    stores, store = places(table["store_id"].to_numpy())
    primary = con.sql("SELECT product_id, min(category_id) AS category_id FROM listed GROUP BY ALL").fetchnumpy()
    known = dict(zip(primary["product_id"].tolist(), primary["category_id"].tolist(), strict=True))
    categories, category = np.unique([0, *(known.get(p, 0) for p in products.tolist())], return_inverse=True)
    return Baskets(
        products, customers, stores, categories, store, units, product, np.repeat(customer, units), category[1:]
    )


def places(ids: Ints) -> tuple[Ints, Ints]:
    """Give the distinct ids, ascending, and the place of each id among them."""
    encoded = pa.array(ids).dictionary_encode()
    found = encoded.dictionary.to_numpy()
    order = np.argsort(found)
    place = np.empty(len(found), np.int64)
    place[order] = np.arange(len(found))
    return found[order], place[encoded.indices.to_numpy()]


def packed(baskets: Baskets) -> tuple[Bits, Ints]:
    """Give a bit column per product (which receipts hold it), and the histogram behind the box plots.

    The histogram has a row per store, category and units of it in a receipt: their places, units, receipts.
    """
    receipts, categories = len(baskets.units), len(baskets.categories)
    ends = np.concatenate([[0], np.cumsum(baskets.units)])
    most = int(baskets.units.max()) + 1
    bits = np.zeros((len(baskets.products), -(-receipts // 64) * 8), np.uint8)
    counts = np.zeros(len(baskets.stores) * categories * most, np.int64)
    for start in range(0, receipts, BLOCK):
        stop = min(start + BLOCK, receipts)
        receipt = np.repeat(np.arange(stop - start), baskets.units[start:stop])
        product = baskets.product[ends[start] : ends[stop]]
        held = np.zeros((len(baskets.products), stop - start), np.bool_)
        held[product, receipt] = True
        octets = np.packbits(held, axis=1)
        bits[:, start // 8 : start // 8 + octets.shape[1]] = octets
        of_category = np.bincount(
            receipt * categories + baskets.category[product], minlength=(stop - start) * categories
        )
        some = np.flatnonzero(of_category)
        group = baskets.store[start + some // categories] * categories + some % categories
        counts += np.bincount(group * most + of_category[some], minlength=len(counts))
    some = np.flatnonzero(counts)
    store, category, units = np.unravel_index(some, (len(baskets.stores), categories, most))
    return bits.view(np.uint64), np.stack(
        [baskets.stores[store], baskets.categories[category], units, counts[some]], axis=1
    )


def owners(baskets: Baskets) -> Bools:
    """Say for each product and customer whether the customer has bought it."""
    owned = np.zeros((len(baskets.products), len(baskets.customers)), np.bool_)
    owned[baskets.product, baskets.customer] = True
    return owned


# Summary and analytics


def make_summary(con: Connection, baskets: Baskets, bits: Bits, histogram: Ints) -> None:
    sold = {
        "product_id": baskets.products,
        "units": np.bincount(baskets.product, minlength=len(baskets.products)),
        "receipts": np.bitwise_count(bits).sum(axis=1, dtype=np.int64),
    }
    con.register("sold", pa.table(sold))
    names = ("store_id", "category_id", "basket_units", "receipts")
    con.register("histogram", pa.table({name: histogram[:, k] for k, name in enumerate(names)}))
    con.execute(
        """
        CREATE TABLE product_sales AS
        SELECT product_id::INTEGER AS product_id, min(category_id) AS category_id, any_value(units) AS units,
            any_value(receipts) AS receipts
        FROM sold LEFT JOIN listed USING (product_id) GROUP BY product_id;

        CREATE TABLE category_sales AS
        WITH s AS (
            SELECT category_id, sum(basket_units * receipts)::BIGINT AS units, sum(receipts)::BIGINT AS receipts
            FROM histogram GROUP BY ALL
        ), l AS (SELECT category_id, count(*) AS listed_products FROM listed GROUP BY ALL)
        SELECT category_id::INTEGER AS category_id, category_name, coalesce(units, 0) AS units,
            coalesce(receipts, 0) AS receipts, coalesce(listed_products, 0) AS listed_products
        FROM categories FULL JOIN l USING (category_id) FULL JOIN s USING (category_id);

        CREATE TABLE sales_totals AS
        SELECT min(sold_on) AS first_on, max(sold_on) AS last_on, count(*) AS receipts, sum(units)::BIGINT AS units,
            count(DISTINCT customer_id) AS customers, (SELECT count(*) FROM sold) AS products,
            count(DISTINCT store_id) AS stores
        FROM receipts
        """
    )


def make_customers(con: Connection, baskets: Baskets, owned: Bools) -> None:
    """Make the features of customers, and their sales."""
    listed = con.sql("SELECT product_id, category_id FROM listed").fetchnumpy()
    categories = np.zeros(len(baskets.customers), np.int64)
    for category in np.unique(listed["category_id"]):
        inside = np.isin(baskets.products, listed["product_id"][listed["category_id"] == category])
        categories += owned[inside].any(axis=0)
    bought = {
        "customer_id": baskets.customers,
        "diversity": owned.sum(axis=0, dtype=np.int64),
        "unique_categories": categories,
    }
    con.register("bought", pa.table(bought))
    con.execute(
        """
        CREATE TABLE customers AS
        SELECT customer_id, first_on, last_on, frequency, total_products, diversity,
            total_products / frequency AS avg_quantity, unique_stores, unique_categories
        FROM (
            SELECT customer_id, min(sold_on) AS first_on, max(sold_on) AS last_on, count(*) AS frequency,
                sum(units)::BIGINT AS total_products, count(DISTINCT store_id) AS unique_stores
            FROM receipts GROUP BY ALL
        ) JOIN bought USING (customer_id)
        ORDER BY customer_id;

        CREATE TABLE customer_sales AS
        SELECT customer_id, first_on, last_on, frequency AS receipts, total_products AS units FROM customers
        """
    )


def make_analytics(con: Connection, histogram: Ints) -> None:
    figures = "count(*) AS receipts, count(DISTINCT customer_id) AS customers, sum(units)::BIGINT AS units"
    con.execute(
        f"""
        CREATE TABLE daily_sales AS SELECT sold_on, {figures} FROM receipts GROUP BY ALL ORDER BY ALL;

        CREATE TABLE weekly_sales AS
        SELECT isoyear(sold_on) AS iso_year, week(sold_on) AS iso_week, min(sold_on) AS first_on,
            max(sold_on) AS last_on, {figures}
        FROM receipts GROUP BY ALL ORDER BY ALL;

        CREATE TABLE monthly_sales AS
        SELECT strftime(sold_on, '%Y-%m') AS month, count(DISTINCT sold_on) AS days, {figures}
        FROM receipts GROUP BY ALL ORDER BY ALL;

        CREATE TABLE weekday_sales AS
        SELECT dayofweek(sold_on) + 1 AS weekday, count(DISTINCT sold_on) AS days, {figures}
        FROM receipts GROUP BY ALL ORDER BY ALL
        """
    )
    con.register("box_plots", pa.Table.from_pylist(list(box_plots(histogram))))
    con.execute("CREATE TABLE category_store_distribution AS FROM box_plots ORDER BY category_id, store_id")
    features = con.sql(f"SELECT {', '.join(CORRELATED)} FROM customers").fetchnumpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.corrcoef([features[name] for name in CORRELATED])
    pairs = [
        {"variable": a, "other": b, "correlation": None if np.isnan(matrix[i, j]) else float(matrix[i, j])}
        for i, a in enumerate(CORRELATED)
        for j, b in enumerate(CORRELATED)
    ]
    con.register("pairs", pa.Table.from_pylist(pairs))
    con.execute("CREATE TABLE variable_correlation AS FROM pairs")


def box_plots(histogram: Ints) -> Iterator[Row]:
    """Give the figures of units per receipt, of those with any; quartiles by linear interpolation."""
    cuts = np.flatnonzero(np.any(np.diff(histogram[:, :2], axis=0), axis=1)) + 1
    for part in np.split(histogram, cuts):
        units, receipts = part[:, 2], part[:, 3]
        figures = np.quantile(np.repeat(units, receipts), [0, 0.25, 0.5, 0.75, 1]).tolist()
        yield {
            "category_id": int(part[0, 1]),
            "store_id": int(part[0, 0]),
            "units": int(units @ receipts),
            "receipts": int(receipts.sum()),
            **dict(zip(("minimum", "lower_quartile", "median", "upper_quartile", "maximum"), figures, strict=True)),
            "average": float(units @ receipts / receipts.sum()),
        }


# Clustering


def make_segments(con: Connection, n_clusters: int) -> None:
    """Find segments by k-means on standardised features, numbered by falling mean units."""
    features = ", ".join(CLUSTERED)
    equal = con.sql(
        f"SELECT {features}, count(*) AS customers FROM customers GROUP BY ALL ORDER BY ALL"
    ).to_arrow_table()
    points = np.stack([equal[name].to_numpy() for name in CLUSTERED], axis=1).astype(np.float64)
    weight = equal["customers"].to_numpy()
    mean = weight @ points / weight.sum()
    spread = np.sqrt(weight @ (points - mean) ** 2 / weight.sum())
    scaled = (points - mean) / np.where(spread > 0, spread, 1)
    with threadpool_limits(1):
        model = KMeans(min(n_clusters, len(scaled)), n_init=10, random_state=20130601).fit(scaled, None, weight)
    units = points[:, CLUSTERED.index("total_products")] * weight
    means = np.bincount(model.labels_, units) / np.bincount(model.labels_, weight)
    segment = np.argsort(np.argsort(-means, kind="stable"))[model.labels_]
    distance = ((scaled - model.cluster_centers_[model.labels_]) ** 2).sum(axis=1)
    found = equal.append_column("segment", pa.array(segment.astype(np.int32)))
    con.register("found_segments", found.append_column("squared_distance", pa.array(distance)))
    con.execute(
        f"""CREATE TABLE customer_segments AS
        SELECT customer_id, {features}, segment, squared_distance
        FROM customers JOIN found_segments USING ({features}) ORDER BY customer_id"""
    )
    means = ", ".join(f"avg({name}) AS avg_{name}" for name in CLUSTERED)
    ends = ", ".join(f"{f}({name}) AS {f}_{name}" for f in ("min", "max") for name in ("frequency", "total_products"))
    profiles = rows(
        con,
        f"""SELECT segment, count(*) AS customers, 100 * count(*) / sum(count(*)) OVER () AS customers_pct, {means},
            {ends}, sum(squared_distance) AS inertia
        FROM customer_segments GROUP BY segment ORDER BY segment""",
    )
    con.register("described", pa.Table.from_pylist(labelled(profiles)))
    con.execute("CREATE TABLE segment_profiles AS FROM described")


ADVICE = {
    "VIP / Premium": ["Keep them close: a loyalty programme and early offers.", "Never run out of what they buy."],
    "Frequent": ["Reward every visit.", "Offer what goes with their usual basket."],
    "Explorers": ["Show them what is new.", "Let them taste other categories."],
    "Occasional / New": ["Welcome them back with a second-visit offer.", "Remind them, but seldom."],
    "Regular": ["Promote their staples.", "Suggest one more product per visit."],
}


def labelled(profiles: list[Row]) -> list[Row]:
    """Give each profile a label of its own, a description and advice."""
    labels = [label_of(profile) for profile in profiles]
    described = []
    for place, (profile, label) in enumerate(zip(profiles, labels, strict=True)):
        rank = f" {labels[: place + 1].count(label)}" if labels.count(label) > 1 else ""
        description = (
            f"{profile['customers']} customers: {profile['avg_frequency']:.1f} receipts, "
            f"{profile['avg_total_products']:.1f} units of {profile['avg_diversity']:.1f} products in "
            f"{profile['avg_unique_categories']:.1f} categories each."
        )
        described.append(
            profile | {"label": label + rank, "description": description, "recommendations": ADVICE[label]}
        )
    return described


def label_of(profile: Row) -> str:
    frequency, categories = profile["avg_frequency"], profile["avg_unique_categories"]
    if frequency > 15 and profile["avg_total_products"] > 50 and categories > 10:
        return "VIP / Premium"
    if frequency > 10:
        return "Frequent"
    if profile["avg_diversity"] > 20 or categories > 8:
        return "Explorers"
    if frequency < 5 and profile["avg_total_products"] < 20:
        return "Occasional / New"
    return "Regular"


# Recommendations


Counted = tuple[tuple[int, ...], int]  # places of products, and the receipts that hold them all


def make_itemsets(con: Connection, baskets: Baskets, bits: Bits, min_support: float, max_size: int) -> None:
    """Find every itemset of at most `max_size` products that `min_support` of the receipts hold."""
    total = len(baskets.units)
    alone = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    frequent = np.flatnonzero(alone / total >= min_support)
    order = frequent[
        np.argsort(alone[frequent], kind="stable")
    ].tolist()  # rare products first: few receipts to look at
    columns = [bits[product] for product in order]

    def larger(at: int) -> list[Counted]:
        rest = list(zip(order[at + 1 :], columns[at + 1 :], strict=True))
        return list(extended((order[at],), columns[at], rest, total * min_support - 1e-6, max_size))

    found: list[Counted] = [((product,), int(alone[product])) for product in order]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy lets other threads work meanwhile
        found += [counted for some in pool.map(larger, range(len(order))) for counted in some]
    items = [sorted(baskets.products[list(itemset)].tolist()) for itemset, _ in found]
    receipts = pa.array([count for _, count in found], pa.int64())
    con.register("mined", pa.table({"items": pa.array(items, pa.list_(pa.int32())), "receipts": receipts}))
    con.execute(
        f"""CREATE TABLE itemsets AS SELECT items, len(items)::INTEGER AS size, receipts, receipts / {total} AS support
        FROM mined ORDER BY size, items"""
    )


def extended(
    prefix: tuple[int, ...], holding: Bits, rest: list[tuple[int, Bits]], least: float, max_size: int
) -> Iterator[Counted]:
    """Extend an itemset, held by the receipts `holding`, by the products of the `rest`, depth first."""
    if len(prefix) >= max_size:
        return
    counts = counts_within(holding, [column for _, column in rest])
    kept = [k for k, count in enumerate(counts) if count >= least]
    yield from (((*prefix, rest[k][0]), counts[k]) for k in kept)
    if len(prefix) + 1 < max_size and len(kept) > 1:
        octets = np.flatnonzero(holding.view(np.uint8))
        within = squeezed(holding, octets)
        narrow = [(rest[k][0], squeezed(rest[k][1], octets) & within) for k in kept]
        for k, (product, column) in enumerate(narrow):
            yield from extended((*prefix, product), column, narrow[k + 1 :], least, max_size)


def counts_within(holding: Bits, columns: list[Bits]) -> list[int]:
    """Count the receipts of each column that are also in `holding`; all in the same piece of memory."""
    both, ones = np.empty_like(holding), np.empty(len(holding), np.uint8)
    return [
        int(np.bitwise_count(np.bitwise_and(column, holding, out=both), out=ones).sum(dtype=np.uint32))
        for column in columns
    ]


def squeezed(column: Bits, octets: Ints) -> Bits:
    """Keep only some bytes of a bit column."""
    kept = np.zeros(-(-len(octets) // 8) * 8, np.uint8)
    column.view(np.uint8).take(octets, out=kept[: len(octets)], mode="clip")
    return kept.view(np.uint64)


def make_rules(con: Connection, min_confidence: float) -> None:
    """Make rules with one consequent, best first, and what they recommend beside a product."""
    con.execute(
        f"""
        CREATE TABLE association_rules AS
        WITH splits AS (
            SELECT list_filter(items, lambda item: item <> consequent) AS antecedent, consequent, receipts
            FROM (SELECT items, receipts, unnest(items) AS consequent FROM itemsets WHERE size > 1)
        ), alone AS (SELECT items[1] AS consequent, receipts FROM itemsets WHERE size = 1)
        SELECT s.antecedent, s.consequent, s.receipts, s.receipts / t.receipts AS support,
            s.receipts / a.receipts AS confidence,
            (s.receipts * t.receipts) / (a.receipts * c.receipts) AS lift
        FROM splits s JOIN itemsets a ON a.items = s.antecedent JOIN alone c ON c.consequent = s.consequent
            CROSS JOIN sales_totals t
        WHERE s.receipts / a.receipts >= {min_confidence}
        ORDER BY lift DESC, confidence DESC, s.consequent, len(s.antecedent), s.antecedent;

        CREATE TABLE product_recommendations AS
        SELECT antecedent[1] AS product_id,
            row_number() OVER (
                PARTITION BY antecedent ORDER BY lift DESC, confidence DESC, consequent
            )::INTEGER AS rank,
            consequent AS recommended_product_id, support, confidence, lift
        FROM association_rules WHERE len(antecedent) = 1
        QUALIFY rank <= {PER_PRODUCT} ORDER BY ALL
        """
    )


def make_customer_recommendations(con: Connection, baskets: Baskets, owned: Bools) -> None:
    """Recommend to customers what follows from what they have bought and is not bought yet: the best rules first.

    A bit column per product says who has bought it; each rule is tried on all customers who still want something.
    """
    rules = con.sql("SELECT antecedent, consequent, confidence, lift FROM association_rules").to_arrow_table()
    bought = bit_columns(owned)
    wanted, waiting = ~bought, ~np.zeros(bought.shape[1], np.uint64)
    given = np.zeros(bought.shape[1] * 64, np.int64)
    place = {product: at for at, product in enumerate(baskets.products.tolist())}
    found: list[tuple[int, Ints, Ints]] = []
    for rule, (antecedent, consequent) in enumerate(
        zip(rules["antecedent"].to_pylist(), rules["consequent"].to_pylist(), strict=True)
    ):
        match = wanted[place[consequent]] & waiting
        for product in antecedent:
            match &= bought[place[product]]
        customers = set_bits(match)
        if len(customers):
            wanted[place[consequent]] ^= match
            given[customers] += 1
            found.append((rule, customers, given[customers]))
            full = customers[given[customers] == PER_CUSTOMER]
            np.bitwise_and.at(waiting.view(np.uint8), full >> 3, ~(128 >> (full & 7)).astype(np.uint8))
    lengths = [len(customers) for _, customers, _ in found]
    rule_of = np.repeat(np.array([rule for rule, _, _ in found], np.int64), lengths)
    nothing = [np.empty(0, np.int64)]
    chosen = rules.take(pa.array(rule_of))
    recommended = {
        "customer_id": baskets.customers[np.concatenate([c for _, c, _ in found] or nothing)],
        "rank": np.concatenate([rank for *_, rank in found] or nothing).astype(np.int32),
        "recommended_product_id": chosen["consequent"],
        "based_on": chosen["antecedent"],
        "confidence": chosen["confidence"],
        "lift": chosen["lift"],
    }
    con.register("recommended", pa.table(recommended))
    con.execute("CREATE TABLE customer_recommendations AS FROM recommended ORDER BY customer_id, rank")


def bit_columns(matrix: Bools) -> Bits:
    """Pack each row into 64-bit words; what fills up the last word is 0."""
    octets = np.packbits(matrix, axis=1)
    return np.pad(octets, ((0, 0), (0, -octets.shape[1] % 8))).view(np.uint64)


def set_bits(column: Bits) -> Ints:
    words = column.nonzero()[0]
    if not len(words):
        return words
    at = np.flatnonzero(np.unpackbits(column[words].view(np.uint8)))
    customers: Ints = words[at >> 6] * 64 + (at & 63)
    return customers


# Output


TABLES = (
    *("sales_totals", "product_sales", "customer_sales", "category_sales"),
    *("daily_sales", "weekly_sales", "monthly_sales", "weekday_sales"),
    *("category_store_distribution", "variable_correlation", "customer_segments", "segment_profiles"),
    *("itemsets", "association_rules", "product_recommendations", "customer_recommendations"),
)


def write_tables(con: Connection, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        con.execute(f"COPY {table} TO '{folder / table}.parquet' (FORMAT parquet)")


def write_documents(con: Connection, folder: Path, min_support: float, min_confidence: float) -> None:
    made = (
        summary_documents(con)
        | analytics_documents(con)
        | clustering_documents(con)
        | recommendation_documents(con, min_support, min_confidence)
    )
    stamp = {"generated_at": datetime.now(UTC).isoformat()}
    for name, document in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = document if name == "summary/basic_metrics.json" else document | stamp
        path.write_text(json.dumps(whole, default=str, ensure_ascii=False), "utf-8")


def summary_documents(con: Connection) -> dict[str, Row]:
    lists = {
        "products": """SELECT product_id, category_id, category_name, units AS total_sold
            FROM product_sales LEFT JOIN categories USING (category_id) ORDER BY units DESC, product_id""",
        "customers": """SELECT customer_id, receipts AS total_purchases FROM customer_sales
            ORDER BY receipts DESC, customer_id""",
        "categories": """SELECT nullif(category_id, 0) AS category_id, category_name, units AS total_volume
            FROM category_sales s ORDER BY units DESC, s.category_id""",
        "categories_by_products": """SELECT category_id, category_name, listed_products AS num_products
            FROM category_sales WHERE category_id > 0 ORDER BY listed_products DESC, category_id""",
        "peak_days": """SELECT sold_on AS date, receipts AS num_transactions FROM daily_sales
            ORDER BY receipts DESC, sold_on""",
        "peak_days_by_products": """SELECT sold_on AS date, units AS total_products_sold FROM daily_sales
            ORDER BY units DESC, sold_on""",
    }
    totals = rows(con, "SELECT receipts AS total_transactions, units AS total_sales_units FROM sales_totals")[0]
    tops = {
        f"summary/top_10_{name}.json": {"type": name, "top_n": TOP, "data": rows(con, f"{sql} LIMIT {TOP}")}
        for name, sql in lists.items()
    }
    return {"summary/basic_metrics.json": totals, **tops}


def analytics_documents(con: Connection) -> dict[str, Row]:
    figures = "receipts AS num_transacciones, customers AS clientes_unicos, units AS total_products_sold"
    daily = rows(con, f"SELECT sold_on AS date, {figures} FROM daily_sales ORDER BY date")
    weekly = rows(
        con,
        f"""SELECT iso_year AS year, iso_week AS week, {figures}, first_on AS inicio_semana, last_on AS fin_semana
        FROM weekly_sales ORDER BY first_on""",
    )
    monthly = rows(
        con,
        f"""SELECT month[:4]::INTEGER AS year, month[6:]::INTEGER AS month, {figures}, month AS date
        FROM monthly_sales ORDER BY date""",
    )
    monthly = [row | {"month_name": month_name[row["month"]]} for row in monthly]
    weekdays = rows(
        con,
        """SELECT weekday AS day_of_week, dayname(DATE '2023-12-30' + weekday::INTEGER) AS day_name,
            receipts AS num_transacciones
        FROM weekday_sales ORDER BY weekday""",
    )
    boxes = rows(
        con,
        """SELECT nullif(d.category_id, 0) AS category_id, category_name, store_id, units AS total_products_sold,
            receipts AS num_transacciones, {promedio: average, minimo: minimum, q1: lower_quartile, mediana: median,
            q3: upper_quartile, maximo: maximum} AS statistics
        FROM category_store_distribution d LEFT JOIN categories USING (category_id)
        ORDER BY d.category_id = 0, d.category_id, store_id""",
    )
    correlations = rows(con, "FROM variable_correlation")
    matrix = {a: {r["other"]: r["correlation"] for r in correlations if r["variable"] == a} for a in CORRELATED}
    return {
        "analytics/daily_sales.json": series("daily_sales", "date", daily),
        "analytics/weekly_sales.json": series("weekly_sales", "inicio_semana", weekly),
        "analytics/monthly_sales.json": series("monthly_sales", "date", monthly),
        "analytics/weekday_pattern.json": {"distribution_name": "day_of_week_patterns", "data": weekdays},
        "analytics/category_products_by_store_distribution.json": {
            "distribution_name": "category_products_by_store",
            "data": boxes,
        },
        "analytics/variable_correlation.json": {
            "matrix_name": "variable_correlation",
            "correlation_data": {"variables": CORRELATED, "variable_names": VARIABLE_NAMES, "matrix": matrix},
        },
    }


VARIABLE_NAMES = {
    "frequency": "Frecuencia (nº transacciones)",
    "total_products": "Total Productos",
    "diversity": "Diversidad (productos únicos)",
    "avg_quantity": "Cantidad Promedio",
    "unique_stores": "Tiendas Únicas",
}


def series(name: str, date_column: str, data: list[Row]) -> Row:
    values = [row["num_transacciones"] for row in data]
    statistics = {"promedio": sum(values) / len(values), "minimo": min(values), "maximo": max(values)}
    return {
        "series_name": name,
        "date_column": date_column,
        "value_column": "num_transacciones",
        "statistics": statistics,
        "data": data,
    }


def clustering_documents(con: Connection) -> dict[str, Row]:
    profiles = [profile_document(row) for row in rows(con, "FROM segment_profiles ORDER BY segment")]
    by_name = {f"cluster_{profile['cluster_id']}": profile for profile in profiles}
    distribution = {str(profile["cluster_id"]): profile["n_customers"] for profile in profiles}
    sample = rows(
        con,
        f"""SELECT * FROM (
            SELECT customer_id, frequency, diversity AS unique_products, total_products AS total_volume,
                unique_categories, segment AS cluster
            FROM customer_segments ORDER BY hash(customer_id) LIMIT {BEST_LISTED}
        ) ORDER BY customer_id""",
    )
    averages = ("avg_frequency", "avg_unique_products", "avg_total_volume", "avg_unique_categories")
    statistics = [
        {"cluster": p["cluster_id"], "n_customers": p["n_customers"], **{name: p["metrics"][name] for name in averages}}
        for p in profiles
    ]
    visualization = {
        "cluster_statistics": statistics,
        "cluster_labels": {str(profile["cluster_id"]): profile["label"] for profile in profiles},
        "distribution": distribution,
        "sample_points": sample,
    }
    count = {"n_clusters": len(profiles)}
    return {
        "advanced/clustering/cluster_summary.json": {**count, "cluster_profiles": by_name},
        "advanced/clustering/clustering_visualization.json": {
            **count,
            "visualization_data": visualization,
            "cluster_summary": by_name,
        },
        "advanced/clustering/customer_clusters.json": {
            **count,
            "total_customers": sum(distribution.values()),
            "distribution": distribution,
            "sample_size": len(sample),
            "sample_assignments": sample,
        },
    }


def profile_document(row: Row) -> Row:
    return {
        "cluster_id": row["segment"],
        "label": row["label"],
        "description": row["description"],
        "n_customers": row["customers"],
        "percentage": row["customers_pct"],
        "metrics": {
            "avg_frequency": row["avg_frequency"],
            "avg_unique_products": row["avg_diversity"],
            "avg_total_volume": row["avg_total_products"],
            "avg_unique_categories": row["avg_unique_categories"],
            "min_frequency": row["min_frequency"],
            "max_frequency": row["max_frequency"],
            "min_volume": row["min_total_products"],
            "max_volume": row["max_total_products"],
        },
        "business_recommendations": row["recommendations"],
    }


def recommendation_documents(con: Connection, min_support: float, min_confidence: float) -> dict[str, Row]:
    rules = rows(
        con,
        f"""SELECT antecedent, [consequent] AS consequent, confidence, lift, support FROM association_rules
        ORDER BY lift DESC, confidence DESC, antecedent, consequent LIMIT {BEST_LISTED}""",
    )
    itemsets = rows(
        con, f"SELECT items, receipts AS freq, support FROM itemsets ORDER BY freq DESC, items LIMIT {BEST_LISTED}"
    )
    associations = {
        "total_rules": value(con, "SELECT count(*) FROM association_rules"),
        "total_itemsets": value(con, "SELECT count(*) FROM itemsets"),
        "min_support": min_support,
        "min_confidence": min_confidence,
    }
    columns = "recommended_product_id AS product_id, confidence, lift"
    beside = grouped(
        con, f"SELECT product_id AS key, {columns}, support FROM product_recommendations ORDER BY key, rank"
    )
    con.execute(
        f"""CREATE TEMP TABLE active AS SELECT customer_id, frequency FROM customers
        ORDER BY frequency DESC, customer_id LIMIT {BEST_LISTED}"""
    )
    owned = rows(
        con,
        """SELECT customer_id, list_sort(list_distinct(flatten(list(string_split(products, ' ')::INTEGER[]))))
            AS products
        FROM receipts JOIN active USING (customer_id) GROUP BY ALL ORDER BY any_value(frequency) DESC, customer_id""",
    )
    shown = grouped(
        con,
        f"""SELECT customer_id AS key, {columns}, based_on
        FROM customer_recommendations SEMI JOIN active USING (customer_id) ORDER BY key, rank""",
    )
    to_products = [{"product_id": product, "recommendations": best} for product, best in beside.items()]
    to_customers = [
        {
            "customer_id": row["customer_id"],
            "products_owned": row["products"],
            "recommendations": shown.get(row["customer_id"], []),
        }
        for row in owned
    ]
    return {
        "recommendations/product_recs.json": {
            "recommendation_type": "product_recommendations",
            "data": {
                "summary": {"total_products": len(to_products), "max_recommendations_per_product": PER_PRODUCT},
                "recommendations": to_products,
            },
        },
        "recommendations/customer_recs.json": {
            "recommendation_type": "customer_recommendations",
            "data": {
                "summary": {
                    "total_customers": len(to_customers),
                    "max_customers": BEST_LISTED,
                    "max_recommendations_per_customer": PER_CUSTOMER,
                },
                "recommendations": to_customers,
            },
        },
        "recommendations/product_associations.json": {
            "recommendation_type": "product_associations",
            "data": {"summary": associations, "top_rules": rules, "top_itemsets": itemsets},
        },
    }


def grouped(con: Connection, sql: str) -> dict[int, list[Row]]:
    """Give the rows of each key, without it."""
    parts = groupby(rows(con, sql), key=lambda row: row["key"])
    return {key: [{name: row[name] for name in row if name != "key"} for row in part] for key, part in parts}


# The whole


@dataclass(frozen=True)
class Clock:
    """Seconds per step, beginning with what it took the process to get here."""

    seconds: dict[str, float]

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--min-support", type=float, default=0.005)
    parser.add_argument("--min-confidence", type=float, default=0.2)
    parser.add_argument("--max-itemset-size", type=int, default=3)
    parser.add_argument("--n-clusters", type=int, default=4)
    given = parser.parse_args()
    clock = Clock({"imports": round(IMPORTED, 3)})
    con = duckdb.connect()
    con.execute("SET preserve_insertion_order = false")
    with clock.step("read"):
        read_reference(con, given.source)
        refused = read_transactions(con, given.source)
    with clock.step("baskets"):
        baskets = baskets_of(con)
    with clock.step("bit columns"):
        bits, histogram = packed(baskets)
        owned = owners(baskets)
    with clock.step("summary"):
        make_summary(con, baskets, bits, histogram)
        make_customers(con, baskets, owned)
    with clock.step("analytics"):
        make_analytics(con, histogram)
    with clock.step("clustering"):
        make_segments(con, given.n_clusters)
    with clock.step("itemsets"):
        make_itemsets(con, baskets, bits, given.min_support, given.max_itemset_size)
    with clock.step("rules"):
        make_rules(con, given.min_confidence)
    with clock.step("customer recommendations"):
        make_customer_recommendations(con, baskets, owned)
    with clock.step("write tables"):
        write_tables(con, given.output / "tables")
    with clock.step("write documents"):
        write_documents(con, given.output, given.min_support, given.min_confidence)
    report = {
        "receipts": len(baskets.units),
        "units": len(baskets.product),
        "refused": refused,
        "seconds": clock.seconds,
        "total_seconds": round(sum(clock.seconds.values()), 3),
        "cpu_seconds": round(time.process_time(), 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    sys.stderr.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
