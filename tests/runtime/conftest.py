"""Settings of the runtime's tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("runtime", deadline=None)
settings.load_profile("runtime")
"""Without a deadline for one example: it would measure what else the machine does."""
