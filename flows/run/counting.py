"""What each current source holds, for the ledger: new files are counted beside the run, of the others it is known."""

from collections.abc import Mapping
from concurrent.futures import Future

from flows.run.changes import Changes
from lakehouse.errors import BadInput, LakehouseError
from lakehouse.sources.landing import Delivery
from quality.ledger.recount import Count
from quality.suites.worker import Worker

Counts = dict[int, tuple[Delivery, Future[Count]]]


def counts_of(found: Changes, known: Mapping[int, Count], checks: Worker) -> Counts:
    """Have sources counted that are new, or of which no count is known; of the others take the earlier count.

    What they delivered is in bronze already.
    """
    new = {one.source_id for one in found.admission.new}
    counts: Counts = {}
    for delivery in found.current:
        if delivery.source_id in new or delivery.source_id not in known:
            counts[delivery.source_id] = (delivery, checks.submit_recount(delivery.location, delivery.bytes))
        else:
            counts[delivery.source_id] = (delivery, known_count(known[delivery.source_id], delivery))
    return counts


def finished_count(delivery: Delivery, count: Future[Count]) -> Count:
    """Wait for a count; errors: BadInput for a file that cannot be counted, and those of the process that counts."""
    try:
        return count.result()
    except LakehouseError as error:
        if type(error) is not LakehouseError:
            raise
        raise BadInput(delivery.path, f"it cannot be counted: {error}", "Deliver it again, or withdraw it.") from error


def known_count(count: Count, delivery: Delivery) -> Future[Count]:
    """Take an earlier count for granted, wherever the file is now."""
    future: Future[Count] = Future()
    future.set_result(count._replace(sha256=delivery.sha256))
    return future
