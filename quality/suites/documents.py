"""What the suites found, as a static site to read: Great Expectations' Data Docs."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from great_expectations.core import ExpectationSuiteValidationResult, RunIdentifier
from great_expectations.data_context import EphemeralDataContext
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)


def write_documents(results: Sequence[ExpectationSuiteValidationResult], into: Path) -> None:
    """Write a page per suite and an index; the folder is replaced when the new one is complete."""
    staged, former = (into.with_name(f".{into.name}.{role}") for role in ("staged", "former"))
    for left_over in (staged, former):
        shutil.rmtree(left_over, ignore_errors=True)
    staged.mkdir(parents=True)
    context = _context(staged)
    run = RunIdentifier(run_name="suites")
    for result in results:
        result.meta["run_id"] = run
        suite = ExpectationSuiteIdentifier(result.suite_name)
        context.validation_results_store.set(ValidationResultIdentifier(suite, run, result.batch_id), result)
    context.build_data_docs()
    for picture in staged.rglob("*.gif"):
        picture.unlink()  # 3 MB of help on how to begin with Great Expectations, which is switched off
    if into.exists():
        into.rename(former)
    staged.rename(into)
    shutil.rmtree(former, ignore_errors=True)


def _context(folder: Path) -> EphemeralDataContext:
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.absolute())}
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_section_builders": {"expectations": "None"},
        "store_backend": store,
    }
    return EphemeralDataContext(
        DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            progress_bars=ProgressBarsConfig(globally=False),
            data_docs_sites={"suites": site},
        )
    )
