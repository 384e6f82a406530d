"""A file system that refuses a write."""

import errno
import importlib
import os


def fail_write(monkeypatch, at, *, call="os.fsync", number=errno.ENOSPC):
    """Lets the `at`-th call of a function of the system fail, and all after it."""
    module, _, name = call.rpartition(".")
    allowed, count = getattr(importlib.import_module(module), name), [0]

    def failing(*args, **kwargs):
        count[0] += 1
        if count[0] >= at:
            raise OSError(number, os.strerror(number))
        return allowed(*args, **kwargs)

    monkeypatch.setattr(call, failing)
