"""One group on the last release's silver, published as a release."""

from functools import partial

from prefect import flow

from flows.orchestration.tasks import run_as_flow
from flows.run.request import new_request
from flows.run.steps import run_group
from lakehouse.parameters import Parameters, new_parameters
from lakehouse.releases import release
from lakehouse.settings import Settings, load_settings
from lakehouse.storage.tables import Storage


@flow(name="executive-summary")
def executive_summary(sync_to_frontend: bool = False) -> int | None:
    """Build and publish the group summary; give the release."""
    return _run("executive-summary", "summary", sync_to_frontend)


@flow(name="analytics")
def analytics(sync_to_frontend: bool = False) -> int | None:
    """Build and publish the group analytics; give the release."""
    return _run("analytics", "analytics", sync_to_frontend)


@flow(name="clustering")
def clustering(n_clusters: int = 4, sync_to_frontend: bool = False) -> int | None:
    """Build and publish the group clustering; give the release."""
    return _run("clustering", "clustering", sync_to_frontend, n_clusters=n_clusters)


@flow(name="recommendations")
def recommendations(
    min_support: float = 0.005,
    min_confidence: float = 0.2,
    max_itemset_size: int = 3,
    sync_to_frontend: bool = False,
) -> int | None:
    """Build and publish the group recommendations; give the release."""
    asked = {"min_support": min_support, "min_confidence": min_confidence, "max_itemset_size": max_itemset_size}
    return _run("recommendations", "recommendations", sync_to_frontend, **asked)


def parameters_for(settings: Settings, **asked: float) -> Parameters:
    """Give what is asked of a group; what is not stays as the last release has it, and checks are made.

    Errors: NothingPublished, WrongUse.
    """
    last = release.latest(Storage(settings.root)).parameters
    return new_parameters(**{**last, "enable_quality_checks": True, **asked})


def _run(flow_name: str, group: str, sync: bool, **asked: float) -> int | None:
    settings = load_settings()
    request = new_request(flow_name, settings, parameters_for(settings, **asked), sync=sync)
    return run_as_flow(request, partial(run_group, group))
