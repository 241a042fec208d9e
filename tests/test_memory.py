"""Freed memory: kept on request, and given back on request."""

import subprocess
import sys

import pytest

CODE = """
import numpy as np
from trackbench.memory import keep_free_memory, resident_mb, return_free_memory
{call}
first = resident_mb()
np.ones(10**7)
freed = resident_mb()
return_free_memory()
print(freed - first, resident_mb() - first)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
@pytest.mark.parametrize("call", ["", "keep_free_memory()"])
def test_freed_memory_is_kept_until_it_is_asked_for(call):
    """80 MB in a process of its own: without the call they go back at once, with it only when asked to."""
    done = subprocess.run([sys.executable, "-c", CODE.format(call=call)], capture_output=True, text=True, check=True)
    kept, returned = map(float, done.stdout.split())
    assert (kept > 60) == bool(call) and returned < 30
