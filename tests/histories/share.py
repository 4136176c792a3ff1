"""How much of what could be tried is tried: all by `make test-long`, some of it always."""

import os

ALL = int(os.environ.get("LAKEHOUSE_HISTORIES", "200"))  # histories
FEW = 24
SEEDS = 8
APART = 12  # of the steps at which a storage fails, one of so many is always tried
