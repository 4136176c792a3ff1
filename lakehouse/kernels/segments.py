"""Customer segments: k-means (Lloyd) on standardised features, by scikit-learn."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

FEATURES = ("frequency", "diversity", "total_products", "unique_categories")
SEED, RESTARTS = 20130601, 10
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """Centres in standardised space, in the order of the segments' numbers, and how to standardise."""

    mean: Floats
    deviation: Floats
    centres: Floats


def fit(customers: pa.Table, n_clusters: int) -> Model:
    """Fit k-means to customers; fewer distinct customers than clusters: as many as there are.

    Equal customers are one point with their number as its weight: fewer points, and the same sum of squares.
    The deviation is that of the population; a feature without any is left as it is. Points in the order of their
    features, one thread, ten restarts and a fixed seed make it repeatable.
    """
    if not customers.num_rows:
        return Model(np.zeros(len(FEATURES)), np.ones(len(FEATURES)), np.empty((0, len(FEATURES))))
    equal = customers.group_by(list(FEATURES)).aggregate([([], "count_all")])
    equal = equal.sort_by([(name, "ascending") for name in FEATURES])
    points, weight = _points(equal), np.asarray(equal["count_all"].to_numpy(), np.float64)
    mean = np.average(points, axis=0, weights=weight)  # sums of whole numbers: exact, whatever their order
    spread = np.sqrt(np.average((points - mean) ** 2, axis=0, weights=weight))
    deviation = np.where(spread > 0, spread, 1.0)
    scaled = (points - mean) / deviation
    if len(points) <= n_clusters:
        return Model(mean, deviation, scaled)
    from sklearn.cluster import KMeans  # imported where it is used: it takes most of a second
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        model = KMeans(n_clusters, n_init=RESTARTS, random_state=SEED, tol=1e-4)
        centres = model.fit(scaled, sample_weight=weight).cluster_centers_
    return Model(mean, deviation, np.asarray(centres, np.float64))


def nearest(customers: pa.Table, model: Model) -> pa.Table:
    """Add to each customer the nearest centre (segment, int32) and its squared distance, standardised."""
    scaled = (_points(customers) - model.mean) / model.deviation
    if not len(scaled):
        return _placed(customers, np.empty(0, np.int64), np.empty(0))
    squared = np.stack([((scaled - centre) ** 2).sum(axis=1) for centre in model.centres], axis=1)
    segment = squared.argmin(axis=1)
    return _placed(customers, segment, squared[np.arange(len(segment)), segment])


def reorder(model: Model, order: list[int]) -> Model:
    """Give the centres new numbers: `order` lists old numbers by new."""
    return Model(model.mean, model.deviation, model.centres[order])


def _placed(customers: pa.Table, segment: npt.NDArray[np.int64], squared_distance: Floats) -> pa.Table:
    placed = customers.append_column("segment", pa.array(segment.astype(np.int32)))
    return placed.append_column("squared_distance", pa.array(squared_distance))


def _points(customers: pa.Table) -> Floats:
    return np.stack([np.asarray(customers[name].to_numpy(), np.float64) for name in FEATURES], axis=1)
