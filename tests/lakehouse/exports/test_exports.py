"""Documents of a release: what they say, how they are published, how they reach a front end."""

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no stubs
from pydantic import BaseModel, ConfigDict

from lakehouse import catalog
from lakehouse.errors import BadInput, StorageFailed, WrongUse
from lakehouse.exports import analytics, clustering, folders, recommendations, summary
from lakehouse.exports.documents import leading
from lakehouse.exports.manifest import Manifest
from lakehouse.exports.publish import GROUPS, schemas, sync_folder
from lakehouse.exports.publish import publish as publish_groups
from lakehouse.kernels.correlation import VARIABLES
from tests.waiting import wait_until

Rows = list[dict[str, Any]]
JANUARY_1, JANUARY_2, FEBRUARY_1 = date(2013, 1, 1), date(2013, 1, 2), date(2013, 2, 1)
FILES = {
    "summary": (
        *("basic_metrics", "top_10_products", "top_10_customers", "top_10_categories"),
        *("top_10_categories_by_products", "top_10_peak_days", "top_10_peak_days_by_products"),
    ),
    "analytics": (
        *("daily_sales", "weekly_sales", "monthly_sales", "weekday_pattern"),
        *("category_products_by_store_distribution", "variable_correlation"),
    ),
    "advanced/clustering": ("cluster_summary", "clustering_visualization", "customer_clusters"),
    "recommendations": ("product_recs", "customer_recs", "product_associations"),
}


@dataclass(frozen=True)
class Release:
    """A release as documents see it."""

    release_id: int = 7
    created_at: datetime = datetime(2013, 7, 1, 6, 0, tzinfo=UTC)
    verified: bool = True
    groups: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*GROUPS, "warehouse"), 7))
    parameters: dict[str, str] = field(default_factory=lambda: {"min_support": "0.005", "min_confidence": "0.2"})


@dataclass(frozen=True)
class Snapshot:
    """A release whose tables are literal rows, with the columns the catalogue declares."""

    tables: dict[str, Rows]
    release: Release = Release()

    def rows(self, name: str, columns: list[str] | None = None, filters: pc.Expression | None = None) -> pa.Table:
        schema = catalog.entry(name).table.arrow_schema
        schema = pa.schema([column.with_nullable(True) for column in schema])
        return pads.dataset(pa.Table.from_pylist(self.tables.get(name, []), schema)).to_table(columns, filters)


def rows(names: str, *values: tuple[Any, ...]) -> Rows:
    return [dict(zip(names.split(), row, strict=True)) for row in values]


TABLES: dict[str, Rows] = {
    "silver.categories": rows("category_id category_name", (3, "Piñas"), (4, "Quesos")),
    "silver.sales_days": rows("sold_on receipts units", (JANUARY_2, 5, 9), (JANUARY_1, 5, 30), (FEBRUARY_1, 8, 10)),
    "silver.customers": rows(
        "customer_id frequency products", (20, 2, [1, 2]), (10, 9, [1]), (30, 9, [5]), (40, 1, [1])
    ),
    "gold.sales_totals": rows("receipts units", (18, 49)),
    "gold.product_sales": rows(
        "product_id category_id units", (2, 4, 10), (1, 3, 10), (9, None, 25), (8, 5, 4)
    ),
    "gold.customer_sales": rows("customer_id receipts", (20, 2), (30, 9), (10, 9)),
    "gold.category_sales": rows(
        "category_id category_name units listed_products",
        (4, "Quesos", 10, 2), (0, None, 25, 0), (3, "Piñas", 10, 2), (6, "Vinos", 0, 1)
    ),
    "gold.daily_sales": rows(
        "sold_on receipts units customers", (FEBRUARY_1, 8, 10, 6), (JANUARY_1, 5, 30, 4), (JANUARY_2, 5, 9, 5)
    ),
    "gold.weekly_sales": rows(
        "iso_year iso_week first_on last_on receipts units",
        (2013, 5, FEBRUARY_1, FEBRUARY_1, 8, 10),
        (2013, 1, JANUARY_1, JANUARY_2, 10, 39),
    ),
    "gold.monthly_sales": rows("month receipts units", ("2013-02", 8, 10), ("2013-01", 10, 39)),
    "gold.weekday_sales": rows("weekday receipts", (6, 8), (3, 5), (4, 5)),
    "gold.category_store_distribution": rows(
        "category_id store_id units receipts minimum lower_quartile median upper_quartile maximum average",
        (0, 102, 25, 9, 1, 1.5, 2.0, 3.0, 6, 2.777777777),
        (4, 102, 10, 4, 1, 1.0, 2.0, 3.0, 4, 2.5),
        (3, 103, 3, 2, 1, 1.0, 1.5, 2.0, 2, 1.5),
        (3, 102, 7, 3, 1, 2.0, 2.0, 3.0, 4, 2.333333333),
    ),
    "gold.variable_correlation": rows(
        "variable other correlation",
        *((a, b, 1.0 if a == b else 0.25) for a in VARIABLES for b in VARIABLES),
    ),
    "gold.segment_profiles": rows(
        "segment label description recommendations customers customers_pct avg_frequency avg_diversity "
        "avg_total_products avg_unique_categories min_frequency max_frequency min_total_products max_total_products",
        (1, "Regular", "So.", ["Keep."], 1, 25.0, 2.0, 2.0, 6.0, 1.0, 2, 2, 6, 6),
        (0, "Frequent", "Often.", ["Reward.", "Invite."], 3, 75.0, 6.3333333333, 1.0, 40.0, 1.0, 1, 9, 30, 50),
    ),
    "gold.customer_segments": rows(
        "customer_id segment frequency diversity total_products unique_categories",
        (20, 1, 2, 2, 6, 1), (10, 0, 9, 1, 50, 1), (30, 0, 9, 1, 40, 1), (40, 0, 1, 1, 30, 1),
    ),
    "gold.itemsets": rows("items receipts support", ([2], 6, 0.3), ([1, 2], 6, 0.3), ([1], 9, 0.5)),
    "gold.association_rules": rows(
        "antecedent consequent confidence lift support",
        ([2], 1, 0.6, 2.0, 0.3), ([1], 5, 0.6, 2.0, 0.1), ([1], 2, 2 / 3, 2.0, 0.3), ([1, 2], 5, 0.3, 3.0, 0.1),
    ),
    "gold.product_recommendations": rows(
        "product_id rank recommended_product_id confidence lift support",
        (2, 1, 1, 0.6, 2.0, 0.3), (1, 2, 5, 0.6, 2.0, 0.1), (1, 1, 2, 2 / 3, 2.0, 0.3),
    ),
    "gold.customer_recommendations": rows(
        "customer_id rank recommended_product_id based_on confidence lift",
        (10, 2, 5, [1], 0.6, 2.0), (10, 1, 2, [1], 2 / 3, 2.0), (20, 1, 5, [1, 2], 0.3, 3.0), (40, 1, 2, [1], 0.5, 2.0),
    ),
}  # fmt: skip
SNAPSHOT = Snapshot(TABLES)


def released(release_id: int, **changes: Any) -> Snapshot:
    """Give the same tables as another release."""
    created_at = datetime(2013, 7, 1, 6, 0, release_id % 60, tzinfo=UTC)
    groups = dict.fromkeys(GROUPS, release_id)
    return Snapshot(TABLES, replace(Release(release_id, created_at, groups=groups), **changes))


def publish(snapshot: Snapshot, into: Path, **others: Snapshot) -> Manifest:
    """Publish a release; `others` made the groups they are named for."""
    return publish_groups(snapshot.release, dict.fromkeys(snapshot.release.groups, snapshot) | others, into)


def with_rows(**tables: Rows) -> Snapshot:
    """Give the release with other rows in some tables, named `layer__name`."""
    return Snapshot(TABLES | {name.replace("__", "."): given for name, given in tables.items()})


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def beside(into: Path) -> list[str]:
    """Name the folders kept beside the link."""
    return sorted(p.name for p in into.parent.glob(f".{into.name}-*"))


# What the documents say


def test_totals_count_receipts_and_units() -> None:
    assert summary.basic_metrics(SNAPSHOT).model_dump() == {"total_transactions": 18, "total_sales_units": 49}


def test_a_product_is_listed_once_with_its_primary_category() -> None:
    found = [tuple(row.model_dump().values()) for row in summary.top_10_products(SNAPSHOT).data]
    assert found == [(9, None, None, 25), (1, 3, "Piñas", 10), (2, 4, "Quesos", 10), (8, 5, None, 4)]


def test_equal_values_are_in_order_of_the_number() -> None:
    found = [(row.customer_id, row.total_purchases) for row in summary.top_10_customers(SNAPSHOT).data]
    assert found == [(10, 9), (30, 9), (20, 2)]


def test_a_top_list_ends_after_ten() -> None:
    snapshot = with_rows(gold__customer_sales=rows("customer_id receipts", *((n, 1) for n in range(30, 0, -1))))
    assert [row.customer_id for row in summary.top_10_customers(snapshot).data] == list(range(1, 11))


def test_products_without_a_category_are_a_line_of_categories_by_units_only() -> None:
    by_units = [
        (row.category_id, row.category_name, row.total_volume) for row in summary.top_10_categories(SNAPSHOT).data
    ]
    by_products = [(row.category_id, row.num_products) for row in summary.top_10_categories_by_products(SNAPSHOT).data]
    assert by_units == [(None, None, 25), (3, "Piñas", 10), (4, "Quesos", 10)]
    assert by_products == [(3, 2), (4, 2), (6, 1)]


def test_peak_days_by_receipts_and_by_units() -> None:
    receipts = [(row.date, row.num_transactions) for row in summary.top_10_peak_days(SNAPSHOT).data]
    units = [(row.date, row.total_products_sold) for row in summary.top_10_peak_days_by_products(SNAPSHOT).data]
    assert receipts == [(FEBRUARY_1, 8), (JANUARY_1, 5), (JANUARY_2, 5)]
    assert units == [(JANUARY_1, 30), (FEBRUARY_1, 10), (JANUARY_2, 9)]


def test_series_are_in_order_of_time_with_their_statistics() -> None:
    daily, weekly = analytics.daily_sales(SNAPSHOT), analytics.weekly_sales(SNAPSHOT)
    monthly = analytics.monthly_sales(SNAPSHOT)
    assert [(day.date, day.num_transacciones, day.clientes_unicos) for day in daily.data] == [
        (JANUARY_1, 5, 4), (JANUARY_2, 5, 5), (FEBRUARY_1, 8, 6),
    ]  # fmt: skip
    assert daily.statistics.model_dump() == {"promedio": 6.0, "minimo": 5.0, "maximo": 8.0}
    assert [(week.week, week.inicio_semana, week.fin_semana) for week in weekly.data] == [
        (1, JANUARY_1, JANUARY_2), (5, FEBRUARY_1, FEBRUARY_1),
    ]  # fmt: skip
    assert [(m.year, m.month, m.month_name, m.date) for m in monthly.data] == [
        (2013, 1, "January", "2013-01"), (2013, 2, "February", "2013-02"),
    ]  # fmt: skip


def test_a_week_has_seven_days_from_sunday() -> None:
    found = [(day.day_of_week, day.day_name, day.num_transacciones) for day in analytics.weekday_pattern(SNAPSHOT).data]
    assert found == [
        (1, "Sunday", 0), (2, "Monday", 0), (3, "Tuesday", 5), (4, "Wednesday", 5),
        (5, "Thursday", 0), (6, "Friday", 8), (7, "Saturday", 0),
    ]  # fmt: skip


def test_box_plots_by_category_and_store_with_those_without_a_category_last() -> None:
    data = analytics.category_products_by_store_distribution(SNAPSHOT).data
    assert [(row.category_id, row.category_name, row.store_id, row.total_products_sold) for row in data] == [
        (3, "Piñas", 102, 7), (3, "Piñas", 103, 3), (4, "Quesos", 102, 10), (None, None, 102, 25),
    ]  # fmt: skip
    assert data[0].statistics.model_dump() == {
        "promedio": 2.333333, "minimo": 1, "q1": 2.0, "mediana": 2.0, "q3": 3.0, "maximo": 4,
    }  # fmt: skip


def test_the_matrix_of_correlations_is_whole() -> None:
    found = analytics.variable_correlation(SNAPSHOT).correlation_data
    assert list(found.matrix) == list(found.variable_names) == found.variables == list(VARIABLES)
    assert all(found.matrix[a][b] == (1.0 if a == b else 0.25) for a in found.variables for b in found.variables)


def test_profiles_are_numbered_and_carry_their_recommendations() -> None:
    found = clustering.cluster_summary(SNAPSHOT)
    assert list(found.cluster_profiles) == ["cluster_0", "cluster_1"]
    assert found.cluster_profiles["cluster_0"].business_recommendations == ["Reward.", "Invite."]
    assert found.cluster_profiles["cluster_0"].metrics.avg_frequency == 6.333333


def test_the_points_are_customers_of_the_table() -> None:
    points = clustering.clustering_visualization(SNAPSHOT).visualization_data.sample_points
    assert [(p.customer_id, p.cluster, p.total_volume) for p in points] == [
        (10, 0, 50),
        (20, 1, 6),
        (30, 0, 40),
        (40, 0, 30),
    ]


def test_the_sample_is_bounded_and_the_same_in_any_order_of_rows() -> None:
    names = "customer_id segment frequency diversity total_products unique_categories"
    many = rows(names, *((n * n, n % 4, 1, 1, 1, 1) for n in range(1, 3001)))
    one, other = (
        clustering.customer_clusters(with_rows(gold__customer_segments=given)) for given in (many, many[::-1])
    )
    assert one == other
    assert (
        one.sample_size == len(one.sample_assignments) == len({p.customer_id for p in one.sample_assignments}) == 1000
    )
    assert one.total_customers == 4
    clusters = [p.cluster for p in one.sample_assignments]
    assert all(200 < clusters.count(cluster) < 300 for cluster in range(4))


def test_recommendations_per_product_are_by_rank() -> None:
    data = recommendations.product_recs(SNAPSHOT).data
    assert [(p.product_id, [r.product_id for r in p.recommendations]) for p in data.recommendations] == [
        (1, [2, 5]),
        (2, [1]),
    ]
    assert data.summary.total_products == 2


def test_the_most_active_customers_come_first_even_without_recommendations() -> None:
    data = recommendations.customer_recs(SNAPSHOT).data
    found = [(c.customer_id, c.products_owned, [r.product_id for r in c.recommendations]) for c in data.recommendations]
    assert found == [(10, [1], [2, 5]), (30, [5], []), (20, [1, 2], [5]), (40, [1], [2])]
    assert data.recommendations[0].recommendations[0].model_dump() == {
        "product_id": 2, "confidence": 0.666666667, "lift": 2.0, "based_on": [1],
    }  # fmt: skip


def test_a_thousand_customers_are_listed() -> None:
    active = rows("customer_id frequency products", *((n, 1, [1]) for n in range(2000, 0, -1)), (9999, 5, [1, 2]))
    listed = recommendations.customer_recs(with_rows(silver__customers=active)).data.recommendations
    assert [c.customer_id for c in listed] == [9999, *range(1, 1000)]


def test_what_was_bought_since_is_not_recommended() -> None:
    bought = rows("customer_id frequency products", (10, 9, [1, 2]))
    listed = recommendations.customer_recs(with_rows(silver__customers=bought)).data.recommendations
    assert [r.product_id for r in listed[0].recommendations] == [5]


def test_rules_are_by_lift_then_confidence_then_products() -> None:
    data = recommendations.product_associations(SNAPSHOT).data
    assert [(r.antecedent, r.consequent) for r in data.top_rules] == [([1, 2], [5]), ([1], [2]), ([1], [5]), ([2], [1])]
    assert [(i.items, i.freq) for i in data.top_itemsets] == [([1], 9), ([1, 2], 6), ([2], 6)]
    assert data.summary.model_dump() == {
        "total_rules": 4,
        "total_itemsets": 3,
        "min_support": 0.005,
        "min_confidence": 0.2,
    }


def test_rules_are_bounded_and_ties_at_the_end_are_by_product() -> None:
    many = rows("antecedent consequent confidence lift support", *(([n], 1, 0.5, 2.0, 0.1) for n in range(1500, 1, -1)))
    data = recommendations.product_associations(with_rows(gold__association_rules=many)).data
    assert [r.antecedent for r in data.top_rules] == [[n] for n in range(2, 1002)]
    assert data.summary.total_rules == 1499


def test_ties_are_ordered_by_products_as_lists_are() -> None:
    some = [([2], 1), ([1, 3], 9), ([1], 3), ([1], 2), ([1, 2, 9], 4), ([10], 1)]
    alike = rows("antecedent consequent confidence lift support", *((a, c, 0.5, 2.0, 0.1) for a, c in some))
    data = recommendations.product_associations(with_rows(gold__association_rules=alike)).data
    assert [(r.antecedent, r.consequent) for r in data.top_rules] == [(a, [c]) for a, c in sorted(some)]


def test_of_rows_that_all_tie_no_more_are_given_than_are_listed() -> None:
    alike = pa.table({"items": [[n % 7, n] for n in range(5_000, 7, -1)], "receipts": [5] * 4_993})
    given = leading(alike, ("receipts",), ("items",), 3)
    assert [row["items"] for row in given] == [[0, 14], [0, 21], [0, 28]]


@pytest.mark.parametrize("snapshot", [SNAPSHOT, Snapshot({})], ids=["some rows", "no rows"])
def test_every_document_fulfils_its_schema(snapshot: Snapshot) -> None:
    for documents in GROUPS.values():
        for path, make in documents.items():
            schema = schemas()[Path(path).stem]
            Draft202012Validator.check_schema(schema)
            Draft202012Validator(schema).validate(json.loads(make(snapshot).model_dump_json()))


def test_the_files_are_those_that_are_promised() -> None:
    promised = {f"{folder}/{name}.json" for folder, names in FILES.items() for name in names}
    assert {path for documents in GROUPS.values() for path in documents} == promised
    assert set(schemas()) == {Path(path).stem for path in promised} | {"manifest"}


# Publishing


def test_the_manifest_lists_every_file_with_its_hash(tmp_path: Path) -> None:
    manifest = publish(SNAPSHOT, tmp_path / "exports")
    found = files_in(tmp_path / "exports")
    written = json.loads(found.pop("manifest.json"))
    assert (
        written["release_id"] == 7 and written["created_at"] == "2013-07-01T06:00:00Z" and written["verified"] is True
    )
    assert written["groups"] == {"summary": 7, "analytics": 7, "clustering": 7, "recommendations": 7}
    assert written["files"] == {
        path: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for path, content in found.items()
    }
    assert manifest.files.keys() == found.keys()
    Draft202012Validator(schemas()["manifest"]).validate(written)
    assert json.loads(found["schemas/manifest.schema.json"]) == schemas()["manifest"]
    assert "Piñas".encode() in found["summary/top_10_products.json"]


def test_one_release_gives_the_same_bytes_in_any_order_of_rows(tmp_path: Path) -> None:
    publish(SNAPSHOT, tmp_path / "one")
    publish(Snapshot({name: given[::-1] for name, given in TABLES.items()}), tmp_path / "other")
    assert files_in(tmp_path / "one") == files_in(tmp_path / "other")


def test_nothing_is_rewritten_when_nothing_changed(tmp_path: Path) -> None:
    into = tmp_path / "exports"
    publish(SNAPSHOT, into)
    before = (os.readlink(into), into.lstat().st_mtime_ns)
    publish(SNAPSHOT, into)
    assert (os.readlink(into), into.lstat().st_mtime_ns) == before


def test_a_damaged_file_is_published_again(tmp_path: Path) -> None:
    into = tmp_path / "exports"
    publish(SNAPSHOT, into)
    whole = files_in(into)
    (into / "summary/basic_metrics.json").write_text("{")
    (into / "analytics/daily_sales.json").unlink()
    publish(SNAPSHOT, into)
    assert files_in(into) == whole


def test_one_earlier_folder_is_kept_and_leftovers_are_removed(tmp_path: Path) -> None:
    into = tmp_path / "exports"
    for leftover in (".exports-3-00000000/summary", ".exports-of-mine", "exports-3"):
        (tmp_path / leftover).mkdir(parents=True)
    for release_id in (1, 2, 3):
        publish(released(release_id), into)
    assert [name.split("-")[1] for name in beside(into)] == ["2", "3", "of"]
    assert (tmp_path / "exports-3").is_dir()


def test_leftovers_are_removed_even_when_nothing_changed(tmp_path: Path) -> None:
    into = tmp_path / "exports"
    publish(released(1), into)
    publish(released(2), into)
    (tmp_path / ".exports-3-00000000/summary").mkdir(parents=True)
    publish(released(2), into)
    assert [name.split("-")[1] for name in beside(into)] == ["1", "2"]


def test_the_folder_may_be_moved(tmp_path: Path) -> None:
    publish(SNAPSHOT, tmp_path / "here/exports")
    (tmp_path / "here").rename(tmp_path / "there")
    assert (tmp_path / "there/exports/manifest.json").exists()


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "exports").mkdir()
    publish(SNAPSHOT, tmp_path / "exports")
    assert (tmp_path / "exports").is_symlink()


def test_a_folder_file_or_link_of_someone_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/holiday.txt").write_text("photos")
    (tmp_path / "file").write_text("a file")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name, said in (("folder", "a folder with other files"), ("file", "is a file"), ("link", "is a link to")):
        with pytest.raises(BadInput, match=said):
            publish(SNAPSHOT, tmp_path / name)
    assert (tmp_path / "folder/holiday.txt").read_text() == "photos"
    assert beside(tmp_path / "folder") == []
    assert {one.name for one in tmp_path.iterdir()} == {"folder", "file", "link"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="Could not publish exports as .*file/exports"):
        publish(SNAPSHOT, tmp_path / "file/exports")


def test_running_out_of_room_leaves_what_was_published(tmp_path: Path) -> None:
    into = tmp_path / "exports"
    publish(released(1), into)
    before = files_in(tmp_path)
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(StorageFailed, match="Could not publish exports as .*exports: File too large"):
            publish(released(2), into)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    assert files_in(tmp_path) == before


class Anything(BaseModel):
    """A document of whatever shape."""

    model_config = ConfigDict(extra="allow")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"products_owned": [1, "2"]}, "products_owned[1]"),
        ({"products_owned": [1, True]}, "products_owned[1]"),
        ({"products_owned": 1}, "products_owned"),
        ({"customer_id": 1.5}, "customer_id"),
        ({"customer_id": None}, "customer_id"),
        ({"name": "Ana"}, "recommendations[0]"),
    ],
)
def test_a_document_that_breaks_its_schema_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], where: str
) -> None:
    document = recommendations.customer_recs(SNAPSHOT).model_dump()
    document["data"]["recommendations"][0] |= changes
    schemas()
    path = "recommendations/customer_recs.json"
    monkeypatch.setitem(cast(dict[str, Any], recommendations.DOCUMENTS), path, lambda _: Anything(**document))
    with pytest.raises(BadInput, match=re.escape(where) + " breaks its schema"):
        publish(SNAPSHOT, tmp_path / "exports")
    assert not (tmp_path / "exports").exists()


def test_a_group_the_release_does_not_hold_has_no_documents(tmp_path: Path) -> None:
    publish(released(1), tmp_path / "exports")
    manifest = publish(released(2, groups={"summary": 2, "analytics": 1}), tmp_path / "exports")
    assert manifest.groups == {"summary": 2, "analytics": 1}
    assert not (tmp_path / "exports/recommendations").exists()


def test_a_reader_of_the_link_never_sees_two_releases(tmp_path: Path) -> None:
    into, stop, seen, problems = tmp_path / "exports", threading.Event(), set(), []
    publish(released(1), into)

    def read() -> None:
        while not stop.is_set():
            folder = into.resolve(strict=True)
            try:
                manifest = json.loads((folder / "manifest.json").read_bytes())
                found = {path: hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in manifest["files"]}
            except FileNotFoundError:
                problems.extend(["missing"] * (into.resolve() == folder))  # else it was outlived by two swaps
                continue
            seen.add(manifest["release_id"])
            problems.extend(path for path, file in manifest["files"].items() if found[path] != file["sha256"])
            time.sleep(0.001)

    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: 1 in seen or problems)
    for release_id in range(2, 52):
        publish(released(release_id), into)
        assert into.exists()
    wait_until(lambda: 51 in seen or problems)
    stop.set()
    reader.join()
    assert not problems


def test_publishers_at_one_time_leave_one_whole_release(tmp_path: Path) -> None:
    into = tmp_path / "exports"
    publishers = [threading.Thread(target=publish, args=(released(n), into)) for n in range(1, 9)]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join()
    manifest = json.loads((into / "manifest.json").read_text())
    assert manifest["files"].keys() == files_in(into).keys() - {"manifest.json"}
    assert len(beside(into)) == 2


def test_the_first_link_of_another_publisher_is_not_taken_for_a_folder_of_somebody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = tmp_path / "exports"
    folder = folders.write_version(into, {"a.json": b"{}"}, 1)

    def looked_at_before_it_comes(path: Path) -> bool:
        was_link = os.path.islink(path)
        if not was_link:
            folders.swap(into, folder)
        return was_link

    monkeypatch.setattr(Path, "is_symlink", looked_at_before_it_comes)
    assert folders.current_folder(into) is None
    assert folders.current_folder(into) == folder


def test_a_killed_publisher_leaves_a_whole_release_and_nothing_that_stays(tmp_path: Path) -> None:
    into = tmp_path / "exports"
    code = "import sys; from test_exports import *\nfor n in range(1, 10**6):\n"
    code += "    publish(released(n), Path(sys.argv[1]))\n    print(n, flush=True)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    publisher = subprocess.Popen([sys.executable, "-c", code, str(into)], env=environment, stdout=subprocess.PIPE)
    assert publisher.stdout is not None
    assert [publisher.stdout.readline() for _ in range(3)] == [b"1\n", b"2\n", b"3\n"]
    publisher.kill()  # in the midst of the next one
    publisher.communicate()
    files = json.loads((into / "manifest.json").read_text())["files"]
    assert all(hashlib.sha256((into / p).read_bytes()).hexdigest() == f["sha256"] for p, f in files.items())
    publish(released(10**6), into)
    assert len(beside(into)) == 2


# Copying to a front end


def test_a_publisher_that_hangs_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "LOCK_SECONDS", 0)
    into = tmp_path / "exports"
    expected = r"exports: another process has been at it for more than 0 s\. End it if it hangs"
    with folders.hold_exports(into), pytest.raises(StorageFailed, match=expected):
        publish(released(1), into)
    assert not into.exists()
    assert publish(released(1), into).release_id == 1


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    publish(released(1), tmp_path / "exports")
    return tmp_path / "exports"


def test_a_front_end_gets_the_same_files_once(exports: Path, tmp_path: Path) -> None:
    first, again = sync_folder(exports, tmp_path / "front/data"), sync_folder(exports, tmp_path / "front/data")
    assert files_in(tmp_path / "front/data") == files_in(exports)
    count = len(files_in(exports)) - 1
    assert (first.copied, first.unchanged, first.removed) == (count, 0, 0)
    assert (again.copied, again.unchanged, again.removed) == (0, count, 0)


def test_only_what_changed_is_copied(exports: Path, tmp_path: Path) -> None:
    sync_folder(exports, tmp_path / "front")
    (tmp_path / "front/summary/basic_metrics.json").write_text("{}")
    assert sync_folder(exports, tmp_path / "front").copied == 1
    assert files_in(tmp_path / "front") == files_in(exports)


def test_the_documents_of_a_group_are_those_of_the_release_that_made_it(tmp_path: Path) -> None:
    first, second = released(1), released(2, groups={"summary": 1} | dict.fromkeys(list(GROUPS)[1:], 2))
    publish(first, tmp_path / "first")
    publish(second, tmp_path / "second", summary=first)
    publish(second, tmp_path / "whole")
    found, before, whole = (files_in(tmp_path / name) for name in ("second", "first", "whole"))
    dated = summary.DOCUMENTS.keys() - {"summary/basic_metrics.json"}
    assert {path for path in found if found[path] != whole[path]} == {*dated, "manifest.json"}
    assert {path: found[path] for path in summary.DOCUMENTS} == {path: before[path] for path in summary.DOCUMENTS}


def test_what_is_no_longer_produced_is_removed_and_other_files_stay(exports: Path, tmp_path: Path) -> None:
    front = tmp_path / "front"
    (front / "summary").mkdir(parents=True)
    (front / "summary/readme.txt").write_text("mine")
    sync_folder(exports, front)
    publish(released(2, groups={"analytics": 2}), exports)
    counts = sync_folder(exports, front)
    assert counts.removed == 2 * (7 + 3 + 3)
    assert files_in(front) == files_in(exports) | {"summary/readme.txt": b"mine"}
    assert not (front / "recommendations").exists() and not (front / "advanced").exists()


def test_a_sync_after_a_killed_one_removes_what_that_one_had_copied(exports: Path, tmp_path: Path) -> None:
    front = tmp_path / "front"
    publish(released(2, groups={"analytics": 2}), exports)
    sync_folder(exports, front)
    (front / "summary").mkdir()
    for name in (
        "basic_metrics.json",
        ".top_10_products.json.part",
    ):  # copied and half copied from a release in between
        (front / "summary" / name).write_text("{}")
    (front / ".unfinished-sync.json").write_text('["summary/basic_metrics.json", "summary/top_10_products.json"]')
    assert sync_folder(exports, front).removed == 1
    assert files_in(front) == files_in(exports)


def test_exports_without_a_manifest_or_not_as_it_says_are_refused(exports: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no manifest of exports"):
        sync_folder(tmp_path / "nowhere", tmp_path / "front")
    (exports / "summary/basic_metrics.json").write_text("{}")
    with pytest.raises(BadInput, match="summary/basic_metrics.json: missing, or not what the manifest says"):
        sync_folder(exports, tmp_path / "front")
    assert not (tmp_path / "front").exists()


def test_a_manifest_of_someone_else_is_not_overwritten(exports: Path, tmp_path: Path) -> None:
    (tmp_path / "front").mkdir()
    (tmp_path / "front/manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(BadInput, match="is not a manifest of exports"):
        sync_folder(exports, tmp_path / "front")
    assert files_in(tmp_path / "front") == {"manifest.json": b'{"name": "an app"}'}


def test_the_exports_are_no_front_end(exports: Path) -> None:
    with pytest.raises(WrongUse, match="FRONTEND_PATH"):
        sync_folder(exports, exports)


def test_a_front_end_that_cannot_be_written_is_named(exports: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="Could not copy exports to .*file"):
        sync_folder(exports, tmp_path / "file")
