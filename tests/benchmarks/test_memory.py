"""The memory benchmark reads peaks that begin anew, and counts the compiler apart."""

import numpy as np
import pytest

from benchmarks import memory

MIB = 2**20


def test_a_peak_is_forgotten_when_its_memory_is_free():
    memory.forget_peak()
    start = memory.peak_bytes()
    block = np.ones(64 * MIB // 8)
    grown = memory.peak_bytes()
    del block
    assert memory.peak_bytes() == pytest.approx(grown, abs=4 * MIB)
    memory.forget_peak()
    assert grown - start > 60 * MIB
    assert memory.peak_bytes() - start < 4 * MIB


def test_what_the_compiler_takes_is_not_counted_to_the_chains(monkeypatch):
    def peaks_of(name, num_chains, width):
        large = width > 8
        found = [10, 20, 90, 40, 45, 50] if large else [10, 10, 60, 8, 9, 10]
        sizes = {"parameters": 2, "data": 5 if large else 1, "program": {}}
        return sizes | {"peaks": [x * MIB for x in found]}

    monkeypatch.setattr(memory, "in_process", peaks_of)
    row = memory.compare(memory.Case("SGLD", None, copies=3), 4, 992)
    assert row["states"] == 4 * 4 * 2 * 3 and row["data"] == 4
    assert row["used"] == 40 * MIB and row["bare"] == 10 * MIB
    assert row["ratio"] == (40 * MIB - 4) / 96
    assert row["compiling"] == (30 * MIB - 4) / 96
