"""Memory between steps that each copy a whole model several times."""

import ctypes
import gc


def give_back_memory() -> None:
    """Return what is free to the system. glibc keeps it, and would add the next step's copies on top of it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
    if trim is not None:
        trim(0)
