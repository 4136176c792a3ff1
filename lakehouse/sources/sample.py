"""A sample in the source format: invented receipts with the traps that real ones hold.

Only the raw stream of PCG64 and whole-number arithmetic decide what is drawn, so the bytes depend on the parameters
alone: not on the machine, nor on the version of a library.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import StorageFailed, WrongUse

Ints = npt.NDArray[np.int64]

FORMAT = 1  # raised when the same parameters give other bytes
STATEMENT = "sample.json"
FIRST_DAY, LAST_DAY = date(2024, 1, 1), date(2100, 1, 1)
FEWEST_RECEIPTS, FEWEST_PER_STORE = 400, 100
MOST_PER_RULE = 3

SOLD, NEVER_SOLD = 200, 40
CATEGORIES = (
    "FRUIT", "VEGETABLES, LEAF", "VEGETABLES, ROOT", "BREAD", "CAKES AND PASTRY", "MILK", "CHEESE", "YOGURT",
    "EGGS", "RICE, BEANS, LENTILS", "PASTA", "FLOUR AND SUGAR", "CEREALS", "BISCUITS", "SWEETS", "SNACKS, SALTED",
    "COFFEE AND TEA", "JUICE", "SOFT DRINKS", "WATER", "OIL AND VINEGAR", "SAUCES, SPICES, HERBS", "TINS AND JARS",
    "SOAP, PAPER, CLEANING",
)  # fmt: skip

WEEKDAYS = (10, 11, 10, 12, 11, 15, 15)  # Monday first
MONTHS = (9, 9, 10, 10, 10, 11, 10, 10, 10, 11, 11, 14)  # January first
OTHERS = tuple(10_000 // (22 + (size - 3) ** 2) for size in range(1, 33))  # 1 to 32 products of no topic
TOPIC_SIZES = (3, 4, 5, 3, 4, 5, 3, 4, 5, 3, 4, 3)
IN_TOPIC_PCT, OF_TOPIC_PCT, AT_HOME_PCT, TWICE_PCT = 60, 80, 85, 12

BAD_LINES: dict[str, tuple[bytes, ...]] = {
    "not_utf8": (b"2024-01-02|101|17|4 \xff 9", b"2024-01-02|101|1\xe97|4", b"2024-01-02|101|17|4 9 \xc3"),
    "wrong_field_count": (b"", b"2024-01-02|101|17", b"2024-01-02|101|17|4|9"),
    "bad_date": (b"2024-02-30|101|17|4 9", b"02/01/2024|101|17|4", b"|101|17|4 9"),
    "date_out_of_range": (b"1899-12-31|101|17|4 9", b"2999-01-01|101|17|4", b"0001-01-01|101|17|4 9"),
    "bad_store": (b"2024-01-02|S1|17|4 9", b"2024-01-02||17|4", b"2024-01-02|-101|17|4 9"),
    "bad_customer": (b"2024-01-02|101|C17|4 9", b"2024-01-02|101||4", b"2024-01-02|101|1.5|4 9"),
    "no_products": (b"2024-01-02|101|17|", b"2024-01-02|101|17| ", b"2024-01-02|101|17|   "),
    "bad_product": (b"2024-01-02|101|17|4 x 9", b"2024-01-02|101|17|4,9", b"2024-01-02|101|17|4 -9"),
}


@dataclass(frozen=True)
class SampleCounts:
    """What a sample holds: good receipts, their units and customers, bad lines by rule, lines by file."""

    receipts: int
    units: int
    customers: int
    bad: dict[str, int]
    files: dict[str, int]


@dataclass(frozen=True)
class _Statement:
    """What a sample says of itself; without counts it was not finished."""

    parameters: dict[str, int]
    counts: SampleCounts | None


@dataclass(frozen=True)
class _Receipts:
    """Good receipts in the order of their lines: by store, day and customer."""

    store: Ints
    day: Ints
    customer: Ints
    products: pa.ListArray

    def take(self, rows: Ints) -> "_Receipts":
        return _Receipts(self.store[rows], self.day[rows], self.customer[rows], self.products.take(pa.array(rows)))


def write_sample(into: Path, receipts: int = 20_000, days: int = 90, stores: int = 4, seed: int = 7) -> SampleCounts:
    """Write a deterministic sample of a retailer's files into a folder, and count what it holds.

    `into/products` gets the categories and the products in them, `into/transactions` a file per store, from
    2024-01-01 on; `into/sample.json` states parameters and counts. `receipts` is the number of good lines.

    - Weekdays and months differ, few products and customers make most of the sales, and twelve groups of three to
      five products are bought together, so that association rules are there to be found.
    - A quarter of the products sold have no category, some have two, some rows are there twice, some products are
      never sold.
    - Of the first four files one ends its lines with LF, one with CRLF, one has no newline at its end and one begins
      with a UTF-8 mark. In each file a line is there twice: two receipts. Products repeat within lines.
    - One to three lines break each row rule, spread over the files.

    The same parameters give the same bytes. A folder that holds a sample of these parameters is left as it is, an
    earlier sample of other parameters is replaced, any other folder that is not empty is refused. Errors: WrongUse.
    """
    _check(receipts, days, stores, seed)
    parameters = {"format": FORMAT, "receipts": receipts, "days": days, "stores": stores, "seed": seed}
    earlier = _earlier(into)
    if earlier and earlier.counts and earlier.parameters == parameters:
        return earlier.counts
    _make_room(into, earlier)
    _state(into, _Statement(parameters, None))
    bits = np.random.PCG64(seed)
    good = _drawn_receipts(bits, receipts, days, stores)
    bad = _bad_lines(np.bincount(good.store, minlength=stores), min(MOST_PER_RULE, -(-receipts // 1_000)))
    files = _reference_files(bits) | dict(_transactions_files(good, bad))
    for name, content in files.items():
        (into / name).write_bytes(content)
    counts = _counted(good, bad, files)
    _state(into, _Statement(parameters, counts))
    return counts


def _check(receipts: int, days: int, stores: int, seed: int) -> None:
    if receipts < FEWEST_RECEIPTS:
        raise WrongUse("receipts", receipts, f"a whole number from {FEWEST_RECEIPTS}")
    if not 1 <= stores <= receipts // FEWEST_PER_STORE:
        raise WrongUse("stores", stores, f"from 1 to {receipts // FEWEST_PER_STORE}, {FEWEST_PER_STORE} receipts each")
    most_days = min(receipts - stores, (LAST_DAY - FIRST_DAY).days)
    if not 1 <= days <= most_days:
        raise WrongUse("days", days, f"from 1 to {most_days}, every day with a receipt and none after {LAST_DAY}")
    if seed < 0:
        raise WrongUse("seed", seed, "a whole number from 0")


# What is in the folder


def _earlier(into: Path) -> _Statement | None:
    """Read what an earlier sample says of itself; None where there is none."""
    try:
        stated = json.loads((into / STATEMENT).read_bytes())
        counts = stated["counts"] and SampleCounts(**stated["counts"])
        return _Statement({name: int(value) for name, value in stated["parameters"].items()}, counts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _state(into: Path, statement: _Statement) -> None:
    (into / STATEMENT).write_bytes(json.dumps(asdict(statement), indent=2).encode() + b"\n")


def _make_room(into: Path, earlier: _Statement | None) -> None:
    """Make the folders, without the files of an earlier sample."""
    if into.exists() and not into.is_dir():
        raise WrongUse("the folder of the sample", str(into), "a folder, not a file")
    if earlier is None and into.exists() and any(into.iterdir()):
        raise WrongUse("the folder of the sample", str(into), "new, empty or an earlier sample, and holds other files")
    for folder in ("products", "transactions"):
        try:
            (into / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = "Name a folder that can be written."
            raise StorageFailed("make", str(into / folder), error.strerror or str(error), remedy) from None
    for store in range(earlier.parameters.get("stores", 0) if earlier else 0):
        (into / _transactions_name(store)).unlink(missing_ok=True)


def _transactions_name(store: int) -> str:
    return f"transactions/{101 + store}_Tran.csv"


# Drawing


def _draw(bits: np.random.PCG64, count: int, bound: int) -> Ints:
    """Draw whole numbers from 0 up to, not including, `bound` (at most 2**32)."""
    raw = bits.random_raw(count) >> np.uint64(32)
    return np.asarray((raw * np.uint64(bound)) >> np.uint64(32), np.int64)


def _weighted(bits: np.random.PCG64, count: int, weights: npt.ArrayLike) -> Ints:
    """Draw places of `weights`, each as often as its weight says."""
    ends = np.cumsum(np.asarray(weights, np.int64))
    return np.asarray(np.searchsorted(ends, _draw(bits, count, int(ends[-1])), side="right"), np.int64)


def _shuffled(bits: np.random.PCG64, count: int) -> Ints:
    return np.asarray(np.argsort(bits.random_raw(count), kind="stable"), np.int64)


def _falling(count: int, head: int) -> Ints:
    """Give weights that fall like Zipf's after the first few (the head)."""
    return np.asarray(1_000 * head // (np.arange(count, dtype=np.int64) + head))


def _chance(bits: np.random.PCG64, count: int, percent: int) -> npt.NDArray[np.bool_]:
    return _draw(bits, count, 100) < percent


# Receipts


def _drawn_receipts(bits: np.random.PCG64, receipts: int, days: int, stores: int) -> _Receipts:
    """Draw receipts; the first line of each store is there twice."""
    count = receipts - stores
    customer, store = _visits(bits, count, max(1, receipts // 8), stores)
    day = np.concatenate([np.arange(days), _weighted(bits, count - days, _day_weights(days))])
    order = np.lexsort((customer, day, store))
    drawn = _Receipts(store[order], day[order], customer[order], _baskets(bits, count))
    firsts = np.searchsorted(drawn.store, np.arange(stores))
    return drawn.take(np.sort(np.concatenate([np.arange(count), firsts])))


def _visits(bits: np.random.PCG64, count: int, customers: int, stores: int) -> tuple[Ints, Ints]:
    """Draw who comes, each at least once and few very often, and to which store, mostly their own."""
    number = 1_000 + 7 * _shuffled(bits, customers)
    home = _weighted(bits, customers, _falling(stores, 3))
    again = _weighted(bits, count - customers, _falling(customers, 1 + customers // 20))
    who = np.concatenate([np.arange(customers), again])[_shuffled(bits, count)]
    store = np.where(_chance(bits, count, AT_HOME_PCT), home[who], _weighted(bits, count, _falling(stores, 3)))
    store[:stores] = np.arange(stores)
    return number[who], store


def _day_weights(days: int) -> list[int]:
    dates = (FIRST_DAY + timedelta(day) for day in range(days))
    return [WEEKDAYS[d.weekday()] * MONTHS[d.month - 1] for d in dates]


def _baskets(bits: np.random.PCG64, count: int) -> pa.ListArray:
    """Draw product lists: what is left of a topic, then anything, then sometimes the first product again."""
    product = 1 + _shuffled(bits, SOLD)
    topics = _topics()
    topic = _weighted(bits, count, _falling(len(topics), 10))
    bought = (topics[topic] >= 0) & _chance(bits, topics[topic].size, OF_TOPIC_PCT).reshape(count, -1)
    bought &= _chance(bits, count, IN_TOPIC_PCT)[:, None]
    others = 1 + _weighted(bits, count, OTHERS)
    twice = np.flatnonzero(_chance(bits, count, TWICE_PCT))

    of_topic = bought.sum(axis=1)
    lengths = of_topic + others
    lengths[twice] += 1
    ends = np.cumsum(lengths)
    starts = ends - lengths
    rank = np.empty(int(ends[-1]), np.int64)
    rank[(starts[:, None] + np.cumsum(bought, axis=1) - 1)[bought]] = topics[topic][bought]
    before = np.cumsum(others) - others
    places = np.repeat(starts + of_topic - before, others) + np.arange(others.sum())
    rank[places] = _weighted(bits, len(places), _falling(SOLD, 8))
    rank[ends[twice] - 1] = rank[starts[twice]]
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(product[rank].astype(np.int32)))


def _topics() -> Ints:
    """Give the places in the order of popularity of products bought together; rows are filled up with -1."""
    rows = np.full((len(TOPIC_SIZES), max(TOPIC_SIZES)), -1, np.int64)
    for topic, size in enumerate(TOPIC_SIZES):
        rows[topic, :size] = 10 + topic + len(TOPIC_SIZES) * np.arange(size)
    return rows


# Files


def _reference_files(bits: np.random.PCG64) -> dict[str, bytes]:
    """Give categories (without a newline at the end) and the products in them (with a header, some rows twice)."""
    names = "\n".join(f"{number}|{name}" for number, name in enumerate(CATEGORIES, 1))
    sold, never = np.arange(1, SOLD + 1), np.arange(SOLD + 1, SOLD + NEVER_SOLD + 1)
    listed = np.concatenate([np.delete(sold, np.s_[::4]), never])
    category = 1 + _draw(bits, len(listed), len(CATEGORIES))
    second = category[::10] % len(CATEGORIES) + 1
    rows = [*zip(category, listed, strict=True), *zip(second, listed[::10], strict=True)]
    rows += rows[::12]
    lines = ["v.Code_pr|v.code", *(f"{product}|{number}" for number, product in sorted(rows))]
    return {
        "products/Categories.csv": names.encode(),
        "products/ProductCategory.csv": "".join(f"{line}\n" for line in lines).encode(),
    }


def _bad_lines(receipts_by_store: Ints, per_rule: int) -> list[list[tuple[str, bytes]]]:
    """Deal bad lines out to the stores so that the largest share of a file's lines is as small as can be."""
    dealt: list[list[tuple[str, bytes]]] = [[] for _ in receipts_by_store]
    for variant in range(per_rule):
        for rule, lines in BAD_LINES.items():
            shares = [(len(given) + 1) / max(1, n) for given, n in zip(dealt, receipts_by_store.tolist(), strict=True)]
            dealt[shares.index(min(shares))].append((rule, lines[variant]))
    return dealt


def _transactions_files(good: _Receipts, bad: list[list[tuple[str, bytes]]]) -> Iterator[tuple[str, bytes]]:
    """Give name and bytes of each store's file, bad lines between good ones."""
    ends = np.searchsorted(good.store, np.arange(len(bad) + 1))
    text = _lines(good)
    for store, given in enumerate(bad):
        lines = text[ends[store] : ends[store + 1]].to_pylist()
        for nth, (_, line) in reversed(list(enumerate(given, 1))):
            lines.insert(max(1, nth * len(lines) // (len(given) + 1)), line)
        feed = b"\r\n" if store == 1 else b"\n"
        mark = b"\xef\xbb\xbf" if store == 3 else b""
        yield _transactions_name(store), mark + feed.join(lines) + (b"" if store == 2 else feed)


def _lines(good: _Receipts) -> pa.Array:
    """Write receipts as `date|store|customer|p1 p2 ...`."""
    days = pa.array([(FIRST_DAY + timedelta(day)).isoformat() for day in range(int(good.day.max()) + 1)])
    numbers = pa.array([str(n) for n in range(SOLD + 1)])
    products = pa.ListArray.from_arrays(good.products.offsets, numbers.take(good.products.values))
    store, customer = (pa.array(n).cast(pa.string()) for n in (101 + good.store, good.customer))
    lists = pc.binary_join(products, " ")
    return pc.binary_join_element_wise(days.take(pa.array(good.day)), store, customer, lists, "|").cast(pa.binary())


def _counted(good: _Receipts, bad: list[list[tuple[str, bytes]]], files: dict[str, bytes]) -> SampleCounts:
    rules = [rule for given in bad for rule, _ in given]
    return SampleCounts(
        receipts=len(good.store),
        units=len(good.products.values),
        customers=len(np.unique(good.customer)),
        bad={rule: rules.count(rule) for rule in BAD_LINES},
        files={name: content.count(b"\n") + (not content.endswith(b"\n")) for name, content in files.items()},
    )
