"""What a lakehouse must hold, computed from the files and decisions alone: lists and dictionaries, no kernel."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import NamedTuple

PRODUCTS = ("products/Categories.csv", "products/ProductCategory.csv")
BROKEN = {  # lines of transactions files, and the rule each breaks
    b"2024-01-10|1|7|4 \xff 9": "not_utf8",
    b"2024-01-10|1|7": "wrong_field_count",
    b"": "wrong_field_count",
    b"one": "wrong_field_count",
    b"of two": "wrong_field_count",
    b"2024-02-30|1|7|4 9": "bad_date",
    b"1899-12-31|1|7|4": "date_out_of_range",
    b"2024-01-10|S|7|4": "bad_store",
    b"2024-01-10|1|C|4": "bad_customer",
    b"2024-01-10|1|7| ": "no_products",
    b"2024-01-10|1|7|4 x": "bad_product",
    b"2024-01-10|1|7|4\0": "bad_product",
    b"\0" * 512: "wrong_field_count",
    b"\x89PNG\0\0": "not_utf8",
}
UNREADABLE = (b"", b"\r\n", b"one\nof two\n", b"\x89PNG\0\0\n")
REFERENCES = (
    (b"1|Bread\n2|Milk\n", b"v.Code_pr|v.code\n1|1\n2|1\n3|2\n"),
    (b"1|Bread\n2|Oat milk\n3|Tea\n", b"v.Code_pr|v.code\n1|2\n2|1\n2|1\n4|3\n2|3\n"),
    (b"1|Bread\nx|Nothing\n", b"v.Code_pr|v.code\n1|1\n5|9\nq|1\n"),
)
BAD_REFERENCE_LINES = (b"x|Nothing", b"q|1")


class Receipt(NamedTuple):
    """A line that became a receipt."""

    source_id: int
    line_number: int
    sold_on: date
    store_id: int
    customer_id: int
    products: tuple[int, ...]


class Decision(NamedTuple):
    """What was decided about a line: read as `line`, or waived when that is None."""

    content: bytes
    line_number: int
    line: bytes | None


def source_id_of(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big", signed=True)


def is_readable(content: bytes) -> bool:
    return any(b"\0" not in line and line.count(b"|") == 3 for line in content.split(b"\n"))


def lines_of(content: bytes) -> list[bytes]:
    lines = content.split(b"\n")
    return [line.removesuffix(b"\r") for line in (lines if lines[-1] else lines[:-1])]


def read(source_id: int, number: int, line: bytes) -> Receipt:
    day, store, customer, products = line.decode().split("|")
    listed = tuple(int(product) for product in products.split())
    return Receipt(source_id, number, date.fromisoformat(day), int(store), int(customer), listed)


@dataclass(frozen=True)
class Shop:
    """What was delivered and decided.

    `heads` maps a path to the content that counts, `withdrawn` to what stays out; `rejected` has what could not be
    read, until something that can came under its path.
    """

    heads: Mapping[str, bytes] = field(default_factory=dict)
    withdrawn: Mapping[str, bytes] = field(default_factory=dict)
    rejected: frozenset[tuple[str, bytes]] = frozenset()
    decisions: tuple[Decision, ...] = ()

    def taking_in(self, landing: Mapping[str, bytes]) -> "Shop":
        """Give the state after a run that finds these files."""
        heads, withdrawn = dict(self.heads), dict(self.withdrawn)
        for path, content in landing.items():
            is_kept = path in PRODUCTS or is_readable(content)
            if is_kept and withdrawn.get(path) != content:
                heads[path] = content
                withdrawn.pop(path, None)
        refused = {(p, c) for p, c in landing.items() if p not in PRODUCTS and not is_readable(c)}
        came_right = landing.keys() - {path for path, _ in refused}
        waiting = {(path, content) for path, content in self.rejected if path not in came_right}
        return replace(self, heads=heads, withdrawn=withdrawn, rejected=frozenset(waiting | refused))

    def deciding(self, decision: Decision) -> "Shop":
        """Give the state after a decision; one that is so already changes nothing."""
        last = self.decided.get((decision.content, decision.line_number))
        return self if last == decision else replace(self, decisions=(*self.decisions, decision))

    def without(self, path: str) -> "Shop":
        """Give the state after a withdrawal."""
        heads = {other: content for other, content in self.heads.items() if other != path}
        return replace(self, heads=heads, withdrawn={**self.withdrawn, path: self.heads[path]})

    @property
    def key(self) -> object:
        """Give what decides the content of every table of gold."""
        held = set(self.contents)
        decided = {key: d.line for key, d in self.decided.items() if key[0] in held}
        return frozenset(held), tuple(self.heads.get(p) for p in PRODUCTS), frozenset(decided.items())

    @property
    def contents(self) -> list[bytes]:
        """Give every content of transactions that counts, once."""
        return sorted({content for path, content in self.heads.items() if path not in PRODUCTS})

    @cached_property
    def decided(self) -> dict[tuple[bytes, int], Decision]:
        return {(d.content, d.line_number): d for d in self.decisions}

    @property
    def refused(self) -> list[tuple[str, int, bytes, str, str]]:
        """Give path, line number, line, rule and status of the refused lines of transactions."""
        paths = {content: path for path, content in sorted(self.heads.items(), reverse=True)}
        status = {content: self._status(content) for content in self.contents}
        return [
            (paths[content], number, line, BROKEN[line], status[content][number])
            for content in self.contents
            for number, line in enumerate(lines_of(content), 1)
            if line in BROKEN
        ]

    def _status(self, content: bytes) -> dict[int, str]:
        found = {}
        for number in range(1, len(lines_of(content)) + 1):
            decision = self.decided.get((content, number))
            found[number] = "open" if decision is None else "waived" if decision.line is None else "replayed"
        return found

    @cached_property
    def receipts(self) -> list[Receipt]:
        return sorted(self._receipts())

    def _receipts(self) -> Iterator[Receipt]:
        for content in self.contents:
            for number, delivered in enumerate(lines_of(content), 1):
                decision = self.decided.get((content, number))
                line = decision.line if decision else delivered
                if line is not None and line not in BROKEN:
                    yield read(source_id_of(content), number, line)

    @property
    def accounts(self) -> dict[int, tuple[int, int, int]]:
        """Give, of every source that counts, its lines without a header, and those in quarantine and waived."""
        found = {}
        for content in self.contents:
            status = self._status(content)
            bad = [status[n] for n, line in enumerate(lines_of(content), 1) if line in BROKEN]
            kept = [s for s in bad if s != "replayed"]
            found[source_id_of(content)] = (len(lines_of(content)), len(kept), kept.count("waived"))
        for path, header in zip(PRODUCTS, (0, 1), strict=True):
            lines = lines_of(self.heads[path])
            bad = [line for line in lines if line in BAD_REFERENCE_LINES]
            found[source_id_of(self.heads[path])] = (len(lines) - header, len(bad), 0)
        return found

    @property
    def figures(self) -> dict[str, list[tuple[object, ...]]]:
        """Give the rows of core gold tables, sorted."""
        sold, names, listed = self.receipts, self._names(), self._listed()
        units: Counter[int] = Counter(p for r in sold for p in r.products)
        holds: Counter[int] = Counter(p for r in sold for p in set(r.products))
        primary = {p: min(c for q, c in listed if q == p) for p, _ in listed}
        shares: Counter[int] = Counter(primary.get(p, 0) for r in sold for p in r.products)
        baskets: Counter[int] = Counter(c for r in sold for c in {primary.get(p, 0) for p in r.products})
        members: Counter[int] = Counter(c for _, c in listed)
        total = (len(sold), sum(units.values()), len({r.customer_id for r in sold}), len(units))
        days = sorted({r.sold_on for r in sold})
        stores = len({r.store_id for r in sold})
        return {
            "gold.sales_totals": [(days[0], days[-1], *total, stores)] if sold else [],
            "gold.product_sales": [(p, primary.get(p), units[p], holds[p]) for p in sorted(units)],
            "gold.customer_sales": [self._bought(customer) for customer in sorted({r.customer_id for r in sold})],
            "gold.daily_sales": [self._day(day) for day in days],
            "gold.category_sales": [
                (c, names.get(c), shares[c], baskets[c], members[c]) for c in sorted({*names, *members, *shares})
            ],
        }

    def _names(self) -> dict[int, str]:
        lines = [n for n in lines_of(self.heads[PRODUCTS[0]]) if n not in BAD_REFERENCE_LINES]
        return {int(number): name for number, name in (line.decode().split("|") for line in lines)}

    def _listed(self) -> set[tuple[int, int]]:
        lines = [n for n in lines_of(self.heads[PRODUCTS[1]])[1:] if n not in BAD_REFERENCE_LINES]
        return {(int(product), int(category)) for product, category in (line.split(b"|") for line in lines)}

    def _bought(self, customer: int) -> tuple[object, ...]:
        own = [r for r in self.receipts if r.customer_id == customer]
        days = [r.sold_on for r in own]
        return customer, min(days), max(days), len(own), sum(len(r.products) for r in own)

    def _day(self, day: date) -> tuple[object, ...]:
        own = [r for r in self.receipts if r.sold_on == day]
        return day, len(own), sum(len(r.products) for r in own), len({r.customer_id for r in own})
