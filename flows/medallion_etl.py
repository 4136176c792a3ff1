"""The whole run: what waits in the landing becomes a release, with its exports."""

from pathlib import Path

from prefect import flow

from flows.orchestration.tasks import run_as_flow
from flows.run.request import new_request
from flows.run.steps import run_medallion
from lakehouse.parameters import parameters_among
from lakehouse.settings import load_settings


@flow(name="medallion-etl")
def medallion_etl(
    source_path: str | None = None,
    enable_quality_checks: bool = True,
    min_rows_threshold: int = 1_000,
    max_quarantine_pct: float = 5.0,
    n_clusters: int = 4,
    min_support: float = 0.005,
    min_confidence: float = 0.2,
    max_itemset_size: int = 3,
    sync_to_frontend: bool = False,
) -> int | None:
    """Land, check, build and publish what waits in `source_path` (else DATA_PATH); give the release.

    With `source_path`, its products/ files are loaded into PostgreSQL first.
    """
    parameters = parameters_among(locals())
    source = Path(source_path) if source_path else None
    return run_as_flow(
        new_request("medallion-etl", load_settings(), parameters, source, sync_to_frontend), run_medallion
    )
