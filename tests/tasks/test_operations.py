"""Operations: facts in, commands out (operations/MODULE.OPERATION/CASE.json).

Importing pyinfra's test kit patches the standard library with gevent: these tests run in a process
of their own, apart from the runtime's.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    # gevent says that pytest's plugins imported ssl before it; no test here opens a connection.
    warnings.filterwarnings("ignore", message="Monkey-patching ssl")
    from pyinfra_testing.operations import make_operation_tests

# The test kit leaves the case files that it reads to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

_FOLDER = Path(__file__).parent / "operations"

for _cases in sorted(_FOLDER.iterdir()):
    _name = "Test_" + _cases.name.replace(".", "_")
    globals()[_name] = type(_name, (make_operation_tests("tasks", _cases.name, _cases),), {})
del _cases, _name
