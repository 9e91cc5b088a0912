"""Work that is done faster by one thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_ALONE = threading.RLock()  # torch's number of threads is one for all threads of the process


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: with small tensors, several wait for each other longer than they work.

    Python threads that ask for it work one after the other; otherwise one could keep another's 1 for good.
    """
    with _ALONE:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
