"""A decoder with a bug: with this folder on PYTHONPATH, `Image.open` ends its process where the bytes say so.

The interpreter imports this file as it starts, so every process of a run is poisoned. Write the bytes by
`tests/support/corpus.py`'s `poisoned`.
"""

import os
import signal
import time
from typing import Any

from PIL import Image

MARKER = b"POISON:"

_open = Image.open


def _open_or_die(fp: Any, *args: Any, **kwargs: Any) -> Image.Image:
    data = fp.getvalue() if hasattr(fp, "getvalue") else b""
    at = data.rfind(MARKER)
    if at >= 0:
        how = data[at + len(MARKER) : at + len(MARKER) + 4]
        if how == b"HANG":
            while True:
                time.sleep(60)
        if how == b"EXIT":
            os._exit(7)
        os.kill(os.getpid(), {b"SEGV": signal.SIGSEGV, b"KILL": signal.SIGKILL, b"ABRT": signal.SIGABRT}[how])
    return _open(fp, *args, **kwargs)


Image.open = _open_or_die  # type: ignore[assignment]
