"""The named failures. One root; each keeps its facts and says what was found, what was expected, what to do."""

from collections.abc import Collection


class LakehouseError(Exception):
    """Stand at the root of every failure the lakehouse names. Exit code 1."""

    exit_code = 1


class WrongUse(LakehouseError):
    """A parameter, setting or name that cannot be right. Nothing was started. Exit code 2."""

    exit_code = 2

    def __init__(self, what: str, found: object, expected: str) -> None:
        self.what, self.found, self.expected = what, found, expected
        super().__init__(f"{what} is {found!r}: it must be {expected}.")


class BadInput(LakehouseError):
    """Something delivered that cannot be read. Exit code 1."""

    def __init__(self, where: str, found: str, remedy: str) -> None:
        self.where, self.found, self.remedy = where, found, remedy
        super().__init__(f"{where}: {found}. {remedy}")


class ServiceDown(LakehouseError):
    """A service that does not answer, or refuses. Exit code 1."""

    def __init__(self, service: str, address: str, reason: str, remedy: str) -> None:
        self.service, self.address, self.reason, self.remedy = service, address, reason, remedy
        super().__init__(f"{service} at {address} failed: {reason}. {remedy}")


class StorageFailed(LakehouseError):
    """The storage refused a read or a write. Exit code 1."""

    def __init__(self, action: str, where: str, reason: str, remedy: str) -> None:
        self.action, self.where, self.reason, self.remedy = action, where, reason, remedy
        super().__init__(f"Could not {action} {where}: {reason}. {remedy}")


class UnsafeStore(LakehouseError):
    """An object store that does not keep what one writer at a time needs. No table was written. Exit code 1."""

    def __init__(self, address: str, found: str) -> None:
        self.address, self.found = address, found
        super().__init__(
            f"Nothing is written to {address}: {found}. Use a store that keeps to S3's conditional writes."
        )


class LeaseTaken(LakehouseError):
    """Another run is writing, and did not end in the time there was. Nothing was started. Exit code 1."""

    def __init__(self, root: str, holder: str, host: str, seconds: float) -> None:
        self.root, self.holder, self.host, self.seconds = root, holder, host, seconds
        super().__init__(
            f"{holder} on {host} is writing to {root}, and did not end within {seconds:g} s. "
            "Run again when it has ended, or set LEASE_WAIT_SECONDS higher."
        )


class LeaseLost(LakehouseError):
    """A run that is not the writer any more: it published nothing since. Exit code 1."""

    def __init__(self, root: str, reason: str) -> None:
        self.root, self.reason = root, reason
        super().__init__(f"This run lost the lease on {root}: {reason}. It published nothing since; run again.")


class ForeignWrite(LakehouseError):
    """A version of a table that another run wrote between this run's own. Nothing was published. Exit code 1."""

    def __init__(self, table: str, version: int, run_id: str) -> None:
        self.table, self.version, self.run_id = table, version, run_id
        super().__init__(
            f"Version {version} of {table} was written by {run_id}, not by this run: nothing was published; run again."
        )


class NotFound(LakehouseError):
    """A named thing that is not there, with what is. Exit code 2."""

    exit_code = 2

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        self.kind, self.name, self.known = kind, name, known
        there = f" There is: {', '.join(known)}." if known else ""
        super().__init__(f"There is no {kind} {name!r}.{there}")


class Misdeclared(LakehouseError):
    """A line of a declaration that cannot be right. Nothing was changed. Exit code 2."""

    exit_code = 2

    def __init__(self, file: str, line: int, reason: str) -> None:
        self.file, self.line, self.reason = file, line, reason
        super().__init__(f"{file}, line {line}: {reason}. Nothing was changed.")


class OtherCode(LakehouseError):
    """One group alone, upon tables that other code made: they would pass for this code's. Exit code 1."""

    def __init__(self, release_id: int) -> None:
        self.release_id = release_id
        super().__init__(
            f"Release {release_id} was made by other code, and one group alone does not make its tables anew. "
            "Run `lakehouse run` first."
        )


class CodeChanged(LakehouseError):
    """The checkout was changed under a run: what it built is of code that nobody can name. Exit code 1."""

    def __init__(self, loaded: str, now: str) -> None:
        self.loaded, self.now = loaded, now
        super().__init__(
            f"The code was changed while the run was under way: it began with {loaded}, now there is {now}. "
            "Nothing is published. Run again, when nobody updates the code."
        )


class NotKept(LakehouseError):
    """A release that vacuum let go because no rule kept it. Exit code 2."""

    exit_code = 2

    def __init__(self, release_id: int, kept: list[int]) -> None:
        self.release_id, self.kept = release_id, kept
        there = ", ".join(map(str, kept))
        super().__init__(f"Release {release_id} was not kept and cannot be read any more. Choose one of: {there}.")


class Blocked(LakehouseError):
    """Gates that stop a release: a sentence per reason. Nothing was published. Exit code 3."""

    exit_code = 3

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons
        super().__init__("Nothing was published: " + " ".join(reasons))


class GroupFailed(LakehouseError):
    """Groups that failed while the others were published. Exit code 1."""

    def __init__(self, failures: dict[str, str]) -> None:
        self.failures = failures
        said = "; ".join(f"{group}: {reason}" for group, reason in failures.items())
        super().__init__(f"The other groups are published, these are as they were: {said}")


class BrokenContract(LakehouseError):
    """A build gave something else than its table declares. Exit code 1."""

    def __init__(self, table: str, found: str, declared: str) -> None:
        self.table, self.found, self.declared = table, found, declared
        super().__init__(f"{table}: the build gave {found}, the table declares {declared}. Correct one of them.")


class NothingPublished(LakehouseError):
    """A lakehouse without a release. Exit code 1."""

    def __init__(self, root: str, writer: str = "", remedy: str = "`lakehouse run` makes the first.") -> None:
        self.root, self.writer, self.remedy = root, writer, remedy
        told = f"Writing is {writer}." if writer else remedy
        super().__init__(f"There is no release in {root} yet. {told}")


class BuildFailed(LakehouseError):
    """A table whose build the engine could not carry out; `kind` names what a kernel raised. Exit code 1."""

    def __init__(self, table: str, reason: str, kind: str = "") -> None:
        self.table, self.reason, self.kind = table, reason, kind
        super().__init__(f"{table} was not built: {reason}")


class TooManyItemsets(LakehouseError):
    """More itemsets than are kept: of few receipts, or of some that have many products in common. Exit code 1.

    `together` are products that enough receipts hold all of; `baskets` is a sentence about these receipts, `remedy`
    what else helps.
    """

    def __init__(
        self,
        among: str,
        at_least: int,
        most: int,
        together: Collection[int] = (),
        baskets: str = "",
        remedy: str = "",
    ) -> None:
        self.among, self.at_least, self.most, self.together = among, at_least, most, together
        super().__init__(
            f"Among {among} at least {at_least:,} itemsets are frequent, and {most:,} are the most that are kept. "
            f"{baskets}Ask for a smaller --max-itemset-size or a higher --min-support{remedy}."
        )


class TooManyRules(LakehouseError):
    """More rules than are kept; `smaller` is how many there are of itemsets below that size. Exit code 1."""

    def __init__(self, size: int, most: int, smaller: int) -> None:
        self.size, self.most, self.smaller = size, most, smaller
        less = f"--max-itemset-size {size - 1}, with which they are {smaller:,}, or " if size > 2 else ""
        super().__init__(
            f"The itemsets of up to {size} products make more than {most:,} rules, which are the most that are kept. "
            f"Ask for {less}a higher --min-confidence or --min-support."
        )


class InputFailed(LakehouseError):
    """A table that was not built because what it is made of failed. Exit code 1."""

    def __init__(self, table: str, inputs: list[str]) -> None:
        self.table, self.inputs = table, inputs
        super().__init__(f"{table} was not built, because {', '.join(inputs)} failed.")


class BadQuery(LakehouseError):
    """SQL that does not work. Exit code 2."""

    exit_code = 2

    def __init__(self, reason: str) -> None:
        self.reason = " ".join(reason.split())
        super().__init__(f"The query failed: {self.reason} `lakehouse tables` lists the tables.")


class DigestsDiffer(LakehouseError):
    """Tables that are not what was published. Exit code 1."""

    def __init__(self, release_id: int, tables: list[str]) -> None:
        self.release_id, self.tables = release_id, tables
        super().__init__(f"Release {release_id} was published with other digests of: {', '.join(tables)}.")


class RowsLost(LakehouseError):
    """The engine gave other rows, or parts of a table, than arrived. Exit code 1."""

    def __init__(self, what: str, given: int, received: int) -> None:
        self.what, self.given, self.received = what, given, received
        super().__init__(
            f"The engine gave {given} {what} and {received} arrived. Run again, and report it if it stays."
        )
