"""How much of what could be tried is tried: all in continuous integration, a twelfth elsewhere."""

import os

WHOLE = 200
HISTORIES = int(os.environ.get("LAKEHOUSE_HISTORIES", "16"))
APART = max(1, WHOLE // max(1, HISTORIES))  # of the steps at which a storage fails, one of so many is tried
