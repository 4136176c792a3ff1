"""Labels, descriptions and recommendations of customer segments."""

from collections import Counter
from typing import Any

import pyarrow as pa

VIP, FREQUENT, EXPLORERS, OCCASIONAL, REGULAR = (
    "VIP / Premium",
    "Frequent",
    "Explorers",
    "Occasional / New",
    "Regular",
)
RECOMMENDATIONS = {
    VIP: (
        "Offer a loyalty programme with early access and personal service.",
        "Protect availability of what they buy most often.",
        "Ask them first when the assortment changes.",
    ),
    FREQUENT: (
        "Reward visits with progressive discounts.",
        "Suggest products bought together to widen the basket.",
        "Invite them to the loyalty programme.",
    ),
    EXPLORERS: (
        "Show new products and neighbouring categories.",
        "Send samples and bundles across categories.",
        "Give a reason to return soon, such as a dated coupon.",
    ),
    OCCASIONAL: (
        "Welcome them with an offer for the second visit.",
        "Remind them after a few weeks without a purchase.",
        "Keep messages few and to the point.",
    ),
    REGULAR: (
        "Keep promotions on their staple products.",
        "Suggest one complementary product per visit.",
        "Watch for a falling frequency.",
    ),
}


def label_of(frequency: float, units: float, diversity: float, categories: float) -> str:
    """Name a segment by the means of its customers; the first rule that holds."""
    if frequency > 15 and units > 50 and categories > 10:
        return VIP
    if frequency > 10:
        return FREQUENT
    if diversity > 20 or categories > 8:
        return EXPLORERS
    if frequency < 5 and units < 20:
        return OCCASIONAL
    return REGULAR


def profiles(totals: pa.Table) -> pa.Table:
    """Describe segments from their customers, sums, extremes and inertia; a label used twice gets its rank."""
    rows = sorted(totals.to_pylist(), key=lambda row: row["segment"])
    everyone = sum(row["customers"] for row in rows)
    described = [_profile(row, everyone) for row in rows]
    uses = Counter(p["label"] for p in described)
    seen: Counter[str] = Counter()
    for profile in described:
        label = profile["label"]
        seen[label] += 1
        if uses[label] > 1:
            profile["label"] = f"{label} {seen[label]}"
    return pa.Table.from_pylist(described, _SCHEMA)


def _profile(row: dict[str, Any], everyone: int) -> dict[str, Any]:
    means = {name: row[f"sum_{name}"] / row["customers"] for name in _FEATURES}
    label = label_of(means["frequency"], means["total_products"], means["diversity"], means["unique_categories"])
    description = (
        f"{row['customers']} customers with on average {means['frequency']:.1f} receipts, "
        f"{means['total_products']:.1f} units, {means['diversity']:.1f} distinct products and "
        f"{means['unique_categories']:.1f} categories."
    )
    return {
        "segment": row["segment"],
        "label": label,
        "description": description,
        "recommendations": list(RECOMMENDATIONS[label]),
        "customers": row["customers"],
        "customers_pct": 100 * row["customers"] / everyone,
        "inertia": row["inertia_millionths"] / 1_000_000,
        **{f"avg_{name}": mean for name, mean in means.items()},
        **{f"{end}_{name}": row[f"{end}_{name}"] for end in ("min", "max") for name in ("frequency", "total_products")},
    }


_FEATURES = ("frequency", "diversity", "total_products", "unique_categories")
_SCHEMA = pa.schema(
    {
        "segment": pa.int32(),
        "label": pa.string(),
        "description": pa.string(),
        "recommendations": pa.list_(pa.string()),
        "customers": pa.int64(),
        "customers_pct": pa.float64(),
        "inertia": pa.float64(),
    }
    | {f"avg_{name}": pa.float64() for name in _FEATURES}
    | {f"{end}_{name}": pa.int64() for end in ("min", "max") for name in ("frequency", "total_products")}
)
