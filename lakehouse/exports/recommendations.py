"""The documents of the group recommendations: per product, per customer, and the rules they come from."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AwareDatetime

from lakehouse.exports.documents import Document, Maker, Part, Share, Snapshot, largest, leading

MAX_CUSTOMERS = 1_000
MAX_RULES = 1_000
MAX_ITEMSETS = 1_000
PER_PRODUCT = PER_CUSTOMER = 5


class BesideProduct(Part):
    """A product to show beside another, and the rule's figures."""

    product_id: int
    confidence: Share
    lift: Share
    support: Share


class ForProduct(Part):
    """A product and what to show beside it, best first."""

    product_id: int
    recommendations: list[BesideProduct]


class ProductsSummary(Part):
    """How many products have recommendations, and how many at most."""

    total_products: int
    max_recommendations_per_product: int


class ProductsData(Part):
    """Products by number."""

    summary: ProductsSummary
    recommendations: list[ForProduct]


class ProductRecs(Document):
    """What to show beside each product."""

    recommendation_type: Literal["product_recommendations"]
    data: ProductsData
    generated_at: AwareDatetime


class ToCustomer(Part):
    """A product the customer has not bought, and the products it is recommended for."""

    product_id: int
    confidence: Share
    lift: Share
    based_on: list[int]


class ForCustomer(Part):
    """A customer, the distinct products it bought and what to recommend, best first."""

    customer_id: int
    products_owned: list[int]
    recommendations: list[ToCustomer]


class CustomersSummary(Part):
    """How many customers are listed, how many would be at most, and how many recommendations each at most."""

    total_customers: int
    max_customers: int
    max_recommendations_per_customer: int


class CustomersData(Part):
    """The most active customers: most receipts first, then by number."""

    summary: CustomersSummary
    recommendations: list[ForCustomer]


class CustomerRecs(Document):
    """What to recommend to the most active customers; the table has them all."""

    recommendation_type: Literal["customer_recommendations"]
    data: CustomersData
    generated_at: AwareDatetime


class Rule(Part):
    """Who buys the antecedent, buys the consequent."""

    antecedent: list[int]
    consequent: list[int]
    confidence: Share
    lift: Share
    support: Share


class Itemset(Part):
    """Products bought together, and how many receipts hold them."""

    items: list[int]
    freq: int
    support: Share


class AssociationsSummary(Part):
    """How many rules and itemsets the tables have, and the limits they were mined with."""

    total_rules: int
    total_itemsets: int
    min_support: Share
    min_confidence: Share


class AssociationsData(Part):
    """The rules of greatest lift and the most frequent itemsets."""

    summary: AssociationsSummary
    top_rules: list[Rule]
    top_itemsets: list[Itemset]


class ProductAssociations(Document):
    """Which products are bought together."""

    recommendation_type: Literal["product_associations"]
    data: AssociationsData
    generated_at: AwareDatetime


def product_recs(snapshot: Snapshot) -> ProductRecs:
    """List every product with recommendations."""
    columns = ["product_id", "rank", "recommended_product_id", "confidence", "lift", "support"]
    rows = snapshot.rows("gold.product_recommendations", columns)
    listed = [
        ForProduct(product_id=product_id, recommendations=[_beside(row) for row in ranked])
        for product_id, ranked in _ranked(rows, "product_id").items()
    ]
    summary = ProductsSummary(total_products=len(listed), max_recommendations_per_product=PER_PRODUCT)
    return ProductRecs(
        recommendation_type="product_recommendations",
        data=ProductsData(summary=summary, recommendations=listed),
        generated_at=snapshot.release.created_at,
    )


def customer_recs(snapshot: Snapshot) -> CustomerRecs:
    """List the most active customers with what they own and what to recommend, even if nothing."""
    activity = snapshot.rows("silver.customers", ["customer_id", "frequency"])
    active = [row["customer_id"] for row in largest(activity, "frequency", "customer_id", MAX_CUSTOMERS)]
    these = pc.field("customer_id").isin(pa.array(active, pa.int64()))
    owned = {
        row["customer_id"]: row["products"]
        for row in snapshot.rows("silver.customers", ["customer_id", "products"], these).to_pylist()
    }
    columns = ["customer_id", "rank", "recommended_product_id", "confidence", "lift", "based_on"]
    ranked = _ranked(snapshot.rows("gold.customer_recommendations", columns, these), "customer_id")
    listed = [
        ForCustomer(
            customer_id=customer_id,
            products_owned=owned[customer_id],
            recommendations=_not_owned(ranked.get(customer_id, []), owned[customer_id]),
        )
        for customer_id in active
    ]
    summary = CustomersSummary(
        total_customers=len(listed), max_customers=MAX_CUSTOMERS, max_recommendations_per_customer=PER_CUSTOMER
    )
    return CustomerRecs(
        recommendation_type="customer_recommendations",
        data=CustomersData(summary=summary, recommendations=listed),
        generated_at=snapshot.release.created_at,
    )


def product_associations(snapshot: Snapshot) -> ProductAssociations:
    """List the best rules (lift, then confidence, descending, then products) and the most frequent itemsets."""
    columns = ["antecedent", "consequent", "confidence", "lift", "support"]
    rules = snapshot.rows("gold.association_rules", columns)
    itemsets = snapshot.rows("gold.itemsets", ["items", "receipts", "support"])
    best = leading(rules, ("lift", "confidence"), ("antecedent", "consequent"), MAX_RULES)
    frequent = leading(itemsets, ("receipts",), ("items",), MAX_ITEMSETS)
    summary = AssociationsSummary(
        total_rules=rules.num_rows,
        total_itemsets=itemsets.num_rows,
        min_support=float(snapshot.release.parameters["min_support"]),
        min_confidence=float(snapshot.release.parameters["min_confidence"]),
    )
    return ProductAssociations(
        recommendation_type="product_associations",
        data=AssociationsData(
            summary=summary,
            top_rules=[Rule(**row | {"consequent": [row["consequent"]]}) for row in best],
            top_itemsets=[
                Itemset(items=row["items"], freq=row["receipts"], support=row["support"]) for row in frequent
            ],
        ),
        generated_at=snapshot.release.created_at,
    )


DOCUMENTS: Mapping[str, Maker] = {
    "recommendations/product_recs.json": product_recs,
    "recommendations/customer_recs.json": customer_recs,
    "recommendations/product_associations.json": product_associations,
}


def _beside(row: dict[str, Any]) -> BesideProduct:
    return BesideProduct(
        product_id=row["recommended_product_id"],
        confidence=row["confidence"],
        lift=row["lift"],
        support=row["support"],
    )


def _ranked(rows: pa.Table, key: str) -> dict[int, list[dict[str, Any]]]:
    """Give the rows of each key by rank, keys ascending."""
    ordered = rows.sort_by([(key, "ascending"), ("rank", "ascending")]).to_pylist()
    return {value: list(ranked) for value, ranked in groupby(ordered, key=lambda row: row[key])}


def _not_owned(ranked: list[dict[str, Any]], owned: list[int]) -> list[ToCustomer]:
    """Leave out what was bought since: a group that kept its last version is older than silver."""
    bought = set(owned)
    return [
        ToCustomer(
            product_id=row["recommended_product_id"],
            confidence=row["confidence"],
            lift=row["lift"],
            based_on=row["based_on"],
        )
        for row in ranked
        if row["recommended_product_id"] not in bought
    ]
