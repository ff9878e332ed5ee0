"""The order of the tasks. Run it with `pyinfra inventory.py deploy.py`; `./rig up` does.

Everything is decided from the host's facts before the first change; each task then acts only on
what it finds when its turn comes, so that any run mends what an interrupted one left.
"""

from tasks.decide import become_root, decide
from tasks.driver import nvidia_driver, packages_ready
from tasks.headless import headless
from tasks.reboot import reboot_if_needed
from tasks.runtime import engines, runtime
from tasks.verify import verify

become_root()
decision = decide()
packages_ready()
nvidia_driver(source=decision.source, choice=decision.choice)
headless(wanted=decision.wishes.headless, choice=decision.choice)
reboot_if_needed(headless=decision.wishes.headless, choice=decision.choice)
engines(installation=decision.installation)
runtime(installation=decision.installation)
verify(
    choice=decision.choice,
    headless=decision.wishes.headless,
    memory_before=decision.memory_before,
    service_digest=decision.service_digest,
)
