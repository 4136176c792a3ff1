"""The documents of the group summary: totals and top lists."""

import datetime
from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

import pyarrow.compute as pc
from pydantic import AwareDatetime

from lakehouse.exports.documents import Document, Maker, Part, Snapshot, category_names, largest

TOP_N = 10


class BasicMetrics(Document):
    """Receipts and units of the whole lakehouse."""

    total_transactions: int
    total_sales_units: int


class ProductSold(Part):
    """A product, its primary category where it has one, and its units."""

    product_id: int
    category_id: int | None
    category_name: str | None
    total_sold: int


class CustomerPurchases(Part):
    """A customer and its receipts."""

    customer_id: int
    total_purchases: int


class CategoryVolume(Part):
    """A category (null: products without one) and its units."""

    category_id: int | None
    category_name: str | None
    total_volume: int


class CategoryProducts(Part):
    """A category and how many products are listed in it."""

    category_id: int
    category_name: str | None
    num_products: int


class PeakDay(Part):
    """A day and its receipts."""

    date: datetime.date
    num_transactions: int


class PeakDayByProducts(Part):
    """A day and its units."""

    date: datetime.date
    total_products_sold: int


Row = TypeVar("Row", bound=Part)


class Top(Document, Generic[Row]):
    """The largest, value descending, then number or date ascending."""

    type: Literal["products", "customers", "categories", "categories_by_products", "peak_days", "peak_days_by_products"]
    top_n: int
    data: list[Row]
    generated_at: AwareDatetime


def basic_metrics(snapshot: Snapshot) -> BasicMetrics:
    """Count receipts and units; zero where there are none yet."""
    totals = snapshot.rows("gold.sales_totals", ["receipts", "units"])
    receipts, units = (pc.sum(totals[name]).as_py() or 0 for name in ("receipts", "units"))
    return BasicMetrics(total_transactions=receipts, total_sales_units=units)


def top_10_products(snapshot: Snapshot) -> Top[ProductSold]:
    """List the products sold most, each once."""
    names = category_names(snapshot)
    data = [
        ProductSold(
            product_id=row["product_id"],
            category_id=row["category_id"],
            category_name=names.get(row["category_id"]),
            total_sold=row["units"],
        )
        for row in _top(snapshot, "gold.product_sales", "units", "product_id", "category_id")
    ]
    return Top[ProductSold](type="products", top_n=TOP_N, data=data, generated_at=snapshot.release.created_at)


def top_10_customers(snapshot: Snapshot) -> Top[CustomerPurchases]:
    """List the customers with most receipts."""
    data = [
        CustomerPurchases(customer_id=row["customer_id"], total_purchases=row["receipts"])
        for row in _top(snapshot, "gold.customer_sales", "receipts", "customer_id")
    ]
    return Top[CustomerPurchases](type="customers", top_n=TOP_N, data=data, generated_at=snapshot.release.created_at)


def top_10_categories(snapshot: Snapshot) -> Top[CategoryVolume]:
    """List the categories with most units; products without a category are a line of their own."""
    data = [
        CategoryVolume(
            category_id=row["category_id"] or None, category_name=row["category_name"], total_volume=row["units"]
        )
        for row in _top(snapshot, "gold.category_sales", "units", "category_id", "category_name")
    ]
    return Top[CategoryVolume](type="categories", top_n=TOP_N, data=data, generated_at=snapshot.release.created_at)


def top_10_categories_by_products(snapshot: Snapshot) -> Top[CategoryProducts]:
    """List the categories with most listed products."""
    data = [
        CategoryProducts(
            category_id=row["category_id"], category_name=row["category_name"], num_products=row["listed_products"]
        )
        for row in _top(
            snapshot,
            "gold.category_sales",
            "listed_products",
            "category_id",
            "category_name",
            where=pc.field("category_id") != 0,
        )
    ]
    return Top[CategoryProducts](
        type="categories_by_products", top_n=TOP_N, data=data, generated_at=snapshot.release.created_at
    )


def top_10_peak_days(snapshot: Snapshot) -> Top[PeakDay]:
    """List the days with most receipts."""
    data = [
        PeakDay(date=row["sold_on"], num_transactions=row["receipts"])
        for row in _top(snapshot, "silver.sales_days", "receipts", "sold_on")
    ]
    return Top[PeakDay](type="peak_days", top_n=TOP_N, data=data, generated_at=snapshot.release.created_at)


def top_10_peak_days_by_products(snapshot: Snapshot) -> Top[PeakDayByProducts]:
    """List the days with most units."""
    data = [
        PeakDayByProducts(date=row["sold_on"], total_products_sold=row["units"])
        for row in _top(snapshot, "silver.sales_days", "units", "sold_on")
    ]
    return Top[PeakDayByProducts](
        type="peak_days_by_products", top_n=TOP_N, data=data, generated_at=snapshot.release.created_at
    )


DOCUMENTS: Mapping[str, Maker] = {
    "summary/basic_metrics.json": basic_metrics,
    "summary/top_10_products.json": top_10_products,
    "summary/top_10_customers.json": top_10_customers,
    "summary/top_10_categories.json": top_10_categories,
    "summary/top_10_categories_by_products.json": top_10_categories_by_products,
    "summary/top_10_peak_days.json": top_10_peak_days,
    "summary/top_10_peak_days_by_products.json": top_10_peak_days_by_products,
}


def _top(
    snapshot: Snapshot, table: str, value: str, key: str, *others: str, where: pc.Expression | None = None
) -> list[dict[str, Any]]:
    """Give the rows of largest value; what has none is in no top list."""
    some = pc.field(value) > 0
    rows = snapshot.rows(table, [key, value, *others], some if where is None else some & where)
    return largest(rows, value, key, TOP_N)
