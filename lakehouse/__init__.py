"""A medallion lakehouse for receipts. Who reads what it publishes needs one name of it: `lakehouse.open`."""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakehouse.releases.reader import ReleaseReader


def open(root: str | PathLike[str] | None = None, release: int | None = None) -> "ReleaseReader":
    """Open a release for reading, the newest one without a number; no engine is started and nothing is changed.

    `root` is the folder of the tables or their address, s3://bucket/prefix, by default what the settings say:
    LAKEHOUSE_ROOT, or `tables` in LAKEHOUSE_HOME. Where a store is and who asks are settings too (MINIO_ENDPOINT, ...).
    Where MINIO_* are set they are handed on as AWS_* variables of this process: one process reads one store.
    What is opened stays that release, also while runs publish others; several can be open side by side.

    >>> import lakehouse
    >>> with lakehouse.open() as sales:
    ...     top = sales.pandas("gold.product_sales").nlargest(3, "units")

    Errors: NothingPublished where there is no release yet; NotFound and NotKept for one that never was or that expired;
    WrongUse, StorageFailed, ServiceDown.
    """
    from lakehouse.releases.reader import open_release  # whoever imports a table need not load the engines' libraries

    return open_release(root, release)
