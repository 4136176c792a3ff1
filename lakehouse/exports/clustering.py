"""The documents of the group clustering: profiles, points for a scatter plot, assignments."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AwareDatetime

from lakehouse.exports.documents import Document, Figure, Maker, Part, Snapshot

MAX_POINTS = 1_000


class Metrics(Part):
    """Means and extremes over the customers of a cluster."""

    avg_frequency: Figure
    avg_unique_products: Figure
    avg_total_volume: Figure
    avg_unique_categories: Figure
    min_frequency: int
    max_frequency: int
    min_volume: int
    max_volume: int


class Profile(Part):
    """What a cluster is like and what to do with it."""

    cluster_id: int
    label: str
    description: str
    n_customers: int
    percentage: Figure
    metrics: Metrics
    business_recommendations: list[str]


class ClusterSummary(Document):
    """The profile of every cluster, 0 being the one with the most units per customer."""

    n_clusters: int
    cluster_profiles: dict[str, Profile]
    generated_at: AwareDatetime


class ClusterStatistics(Part):
    """A bar of a chart of clusters."""

    cluster: int
    n_customers: int
    avg_frequency: Figure
    avg_unique_products: Figure
    avg_total_volume: Figure
    avg_unique_categories: Figure


class Assignment(Part):
    """A customer, its features and its cluster."""

    customer_id: int
    frequency: int
    unique_products: int
    total_volume: int
    unique_categories: int
    cluster: int


class Visualization(Part):
    """What charts need; the points are a sample of real customers."""

    cluster_statistics: list[ClusterStatistics]
    cluster_labels: dict[str, str]
    distribution: dict[str, int]
    sample_points: list[Assignment]


class ClusteringVisualization(Document):
    """Charts of the clusters, with their profiles."""

    n_clusters: int
    visualization_data: Visualization
    cluster_summary: dict[str, Profile]
    generated_at: AwareDatetime


class CustomerClusters(Document):
    """A sample of customers with their clusters, and how many customers there are in all."""

    n_clusters: int
    total_customers: int
    distribution: dict[str, int]
    sample_size: int
    sample_assignments: list[Assignment]
    generated_at: AwareDatetime


def cluster_summary(snapshot: Snapshot) -> ClusterSummary:
    """Give every cluster's profile."""
    profiles = _profiles(snapshot)
    return ClusterSummary(
        n_clusters=len(profiles), cluster_profiles=_by_name(profiles), generated_at=snapshot.release.created_at
    )


def clustering_visualization(snapshot: Snapshot) -> ClusteringVisualization:
    """Give the figures of charts and the points of the scatter plot."""
    profiles = _profiles(snapshot)
    bars = [
        ClusterStatistics(
            cluster=profile.cluster_id,
            n_customers=profile.n_customers,
            avg_frequency=profile.metrics.avg_frequency,
            avg_unique_products=profile.metrics.avg_unique_products,
            avg_total_volume=profile.metrics.avg_total_volume,
            avg_unique_categories=profile.metrics.avg_unique_categories,
        )
        for profile in profiles
    ]
    return ClusteringVisualization(
        n_clusters=len(profiles),
        visualization_data=Visualization(
            cluster_statistics=bars,
            cluster_labels={str(profile.cluster_id): profile.label for profile in profiles},
            distribution=_distribution(profiles),
            sample_points=_sample(snapshot),
        ),
        cluster_summary=_by_name(profiles),
        generated_at=snapshot.release.created_at,
    )


def customer_clusters(snapshot: Snapshot) -> CustomerClusters:
    """Give a sample of customers with their clusters; the table has them all."""
    profiles, sample = _profiles(snapshot), _sample(snapshot)
    return CustomerClusters(
        n_clusters=len(profiles),
        total_customers=sum(profile.n_customers for profile in profiles),
        distribution=_distribution(profiles),
        sample_size=len(sample),
        sample_assignments=sample,
        generated_at=snapshot.release.created_at,
    )


DOCUMENTS: Mapping[str, Maker] = {
    "advanced/clustering/cluster_summary.json": cluster_summary,
    "advanced/clustering/clustering_visualization.json": clustering_visualization,
    "advanced/clustering/customer_clusters.json": customer_clusters,
}


def _profiles(snapshot: Snapshot) -> list[Profile]:
    return [_profile(row) for row in snapshot.rows("gold.segment_profiles").sort_by("segment").to_pylist()]


def _profile(row: dict[str, Any]) -> Profile:
    return Profile(
        cluster_id=row["segment"],
        label=row["label"],
        description=row["description"],
        n_customers=row["customers"],
        percentage=row["customers_pct"],
        metrics=Metrics(
            avg_frequency=row["avg_frequency"],
            avg_unique_products=row["avg_diversity"],
            avg_total_volume=row["avg_total_products"],
            avg_unique_categories=row["avg_unique_categories"],
            min_frequency=row["min_frequency"],
            max_frequency=row["max_frequency"],
            min_volume=row["min_total_products"],
            max_volume=row["max_total_products"],
        ),
        business_recommendations=row["recommendations"],
    )


def _by_name(profiles: list[Profile]) -> dict[str, Profile]:
    return {f"cluster_{profile.cluster_id}": profile for profile in profiles}


def _distribution(profiles: list[Profile]) -> dict[str, int]:
    return {str(profile.cluster_id): profile.n_customers for profile in profiles}


def _sample(snapshot: Snapshot) -> list[Assignment]:
    """Give the customers whose ids have the smallest hashes, by id: the same ones whatever the order of rows."""
    chosen = _chosen(snapshot.rows("gold.customer_segments", ["customer_id"])["customer_id"])
    columns = ["customer_id", "segment", "frequency", "diversity", "total_products", "unique_categories"]
    rows = snapshot.rows("gold.customer_segments", columns, pc.field("customer_id").isin(chosen))
    return [
        Assignment(
            customer_id=row["customer_id"],
            frequency=row["frequency"],
            unique_products=row["diversity"],
            total_volume=row["total_products"],
            unique_categories=row["unique_categories"],
            cluster=row["segment"],
        )
        for row in rows.sort_by("customer_id").to_pylist()
    ]


def _chosen(customer_ids: pa.ChunkedArray) -> pa.Array:
    """Choose at most MAX_POINTS ids by Fibonacci hashing, which gives no two ids the same hash."""
    ids = customer_ids.to_numpy()
    if len(ids) > MAX_POINTS:
        hashes = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        ids = ids[np.argpartition(hashes, MAX_POINTS)[:MAX_POINTS]]
    return pa.array(ids)
