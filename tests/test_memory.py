"""Freed memory: kept on request, and given back on request; what may be used, and errors of too little."""

import subprocess
import sys

import pytest

from trackbench import memory

CODE = """
from contextlib import nullcontext
import numpy as np
from trackbench.memory import keep_free_memory, resident_mb
first = resident_mb()
with {context}:
    np.ones(10**7)
    freed = resident_mb()
returned = resident_mb()
np.ones(10**7)
print(freed - first, returned - first, resident_mb() - first)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
@pytest.mark.parametrize("context", ["nullcontext()", "keep_free_memory()"])
def test_freed_memory_is_kept_for_the_time_it_is_asked_for(context):
    """80 MB in a process of its own: outside of the block they go back at once."""
    code = CODE.format(context=context)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, returned, later = map(float, done.stdout.split())
    assert (kept > 60) == (context != "nullcontext()") and returned < 30 and later < 30


def test_what_may_be_used_is_what_there_is_up_to_the_limit(monkeypatch):
    monkeypatch.setattr(memory, "available_mb", lambda: 500.0)
    assert [memory.free_mb(limit) for limit in (0.0, 100.0, 900.0)] == [500.0, 100.0, 500.0]


def test_errors_of_too_little_memory():
    assert memory.ran_out(MemoryError()) and memory.ran_out(RuntimeError("CUDA out of memory. Tried to allocate"))
    assert not memory.ran_out(RuntimeError("no code for this"))
