"""The oracle at work beside a run: begun when the ledger holds, asked when everything is written."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from lakehouse import catalog
from lakehouse.releases.release import Base
from lakehouse.sources.landing import Delivery
from lakehouse.storage.tables import Storage
from lakehouse.table import Layer
from quality.oracle.oracle import Recounted, figure_verdicts, recount_sources, row_verdicts
from quality.verdict import Verdict


class Recounting:
    """One recount, in a thread of its own: DuckDB leaves the interpreter to the others."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="oracle")
        self._found: Future[tuple[Recounted, list[Verdict]]] | None = None

    def begin(
        self,
        storage: Storage,
        base: Base,
        current: Sequence[Delivery],
        versions: Mapping[str, int],
        touched: frozenset[int] | None,
    ) -> None:
        """Recount the landed files: those touched where the last release is verified, otherwise all."""
        is_upon = touched is not None and base.release is not None and base.release.verified

        def recount() -> tuple[Recounted, list[Verdict]]:
            upon = (touched, base.versions) if is_upon else (None, None)
            found = recount_sources(storage, versions, current, *upon)
            return found, row_verdicts(found, versions)

        self._found = self._thread.submit(recount)

    def verdicts(self, versions: Mapping[str, int], written: Mapping[str, object]) -> list[Verdict]:
        """Wait for the recount, and hold to it what is in bronze and silver, and the gold tables written."""
        assert self._found is not None, "begun"
        found, verdicts = self._found.result()
        gold = {t.qualified_name for t in catalog.tables(Layer.GOLD)}
        with found.connection:
            return verdicts + figure_verdicts(
                found, {n: v for n, v in versions.items() if n not in gold - set(written)}
            )

    def close(self) -> None:
        """Wait for what was begun, give its memory back and forget it: an error that is kept keeps this object."""
        self._thread.shutdown()
        begun, self._found = self._found, None
        if begun is not None and begun.exception() is None:
            begun.result()[0].connection.close()
