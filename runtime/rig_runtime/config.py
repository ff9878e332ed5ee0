"""The configuration file: every option, its default and its valid values, in one place.

`/etc/rig-runtime/config.toml` is where provisioning and runtime meet. Defaults live here and
nowhere else: the provisioning writes only what an inventory states.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_PATH = Path("/etc/rig-runtime/config.toml")

Port = Annotated[int, Field(ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GatewayConfig(_Section):
    """The one HTTP front."""

    host: str = "127.0.0.1"
    port: Port = 8484
    api_keys_file: Path | None = Field(
        None, description="lines of 'NAME SHA256-HEX'; required unless host is a loopback address"
    )
    control_socket: Path = Path("/run/rig-runtime/control.sock")


class RigConfig(_Section):
    """What the owner says of the cards."""

    exclude: tuple[str, ...] = Field((), description="UUIDs of cards that no model may use")
    margin_bytes: int = Field(
        64 << 20, ge=0, description="left free on each card, beyond what is planned"
    )


class VllmConfig(_Section):
    """Where vLLM is and how it was built."""

    venv: Path = Path("/opt/rig/vllm/current")
    build: Literal["cuda", "cpu"] = "cuda"
    start_timeout_seconds: float = Field(900, gt=0)
    stop_timeout_seconds: float = Field(30, gt=0)


class EnginesConfig(_Section):
    """One section for each engine that may be used; an absent one is not installed."""

    vllm: VllmConfig | None = None


class ModelConfig(_Section):
    """One model to serve. What is None is the planner's to choose."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")
    path: Path
    engine: Literal["vllm"] | None = None
    context_tokens: int | None = Field(None, ge=1)
    sequences: int = Field(4, ge=1, le=1024)
    tensor_parallel_size: int | None = Field(None, ge=1, le=8)
    kv_cache_dtype: str = "auto"


class Config(_Section):
    """The whole file."""

    gateway: GatewayConfig = GatewayConfig()
    rig: RigConfig = RigConfig()
    engines: EnginesConfig = EnginesConfig()
    models: tuple[ModelConfig, ...] = ()
    state_directory: Path = Path("/var/lib/rig-runtime")
    runtime_directory: Path = Path("/run/rig-runtime")
