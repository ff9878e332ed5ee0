"""The hosts, and what is true of each. `group_data/all.py` has the defaults and explains them.

Name your rigs here, or in the environment (RIG_HOSTS=rig1.lan,rig2.lan), or with `./rig up HOST`:

    rigs = [
        ("rig1.lan", {
            "ssh_user": "root",
            "models": [{"name": "qwen", "path": "/srv/models/qwen", "context_tokens": 16384}],
        }),
    ]

With no host named, it is the virtual rig on this machine, which `./rig up` brings up.
"""

from __future__ import annotations

import os

import virtual_rig
from tasks.hosts import HostEntry, checked

rigs: list[HostEntry] = [name for name in os.environ.get("RIG_HOSTS", "").split(",") if name]

if not rigs and (_box := virtual_rig.find("rig")):
    _name, _data = _box.pyinfra_host()
    # Two ranks, so that the embedded default shows tensor parallelism.
    _tiny = {
        "name": "tiny",
        "path": "/var/lib/rig-runtime/models/tiny",
        "tiny": True,
        "tensor_parallel_size": 2,
    }
    rigs = [(_name, {**_data, "gateway": {"host": _box.address}, "models": [_tiny]})]

rigs = checked(rigs)
