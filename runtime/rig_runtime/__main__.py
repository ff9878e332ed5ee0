"""`python -m rig_runtime`: the same as the console script."""

from __future__ import annotations

import sys

from rig_runtime.cli import main

sys.exit(main())
