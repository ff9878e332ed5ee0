"""The defaults of every host: what `inventory.py` may say of one, and what it means.

A value of None is decided from the host's own facts. What the runtime does by default (ports,
timeouts, margins) is in rig_runtime/config.py; what is stated here goes into its configuration.
"""

# Where the driver's packages come from:
#   {"kind": "nvidia"}                             NVIDIA's repository for the distribution
#   {"kind": "nvidia", "branch": 580}              … at another driver branch than the default
#   {"kind": "mirror", "address": "http://…"}      a copy of it that the rig reaches: ADDRESS/apt/
#   {"kind": "distribution"}                       what Debian itself packages (older branches)
# None: the mirror below, if there is one, else NVIDIA's.
driver_source = None

# "open" or "proprietary" kernel modules; None: open where all cards run with them. On cards of
# 10 GB or less "proprietary" leaves a little more memory free (branch 580).
driver_flavour = None

# No desktop, no console framebuffer on the cards: their memory is for models.
headless = True

# An address with Python wheels (and driver packages) for rigs without internet: ADDRESS/wheels/.
mirror_url = None

# "cuda" or "cpu"; None: cuda where there are cards, else cpu. "none": no engine, only the driver
# and the runtime's commands.
vllm_build = None

# Sections of the runtime's configuration, as docs/configuration.md has them. The gateway listens on
# the rig's loopback; {"host": "0.0.0.0"} lets others in, with the API key that the deploy makes.
gateway = {}
rig = {}
vllm = {}

# The models to serve. "tiny": True makes a random one of a few megabytes at that path: it says
# nothing sensible, and proves the whole installation without a download.
models = [{"name": "tiny", "path": "/var/lib/rig-runtime/models/tiny", "tiny": True}]
