"""The configuration file: every option, its default and its valid values, in one place.

`/etc/rig-runtime/config.toml` is where provisioning and runtime meet. Defaults live here and
nowhere else: the provisioning writes only what an inventory states.
"""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rig_runtime.errors import BadInput, printable
from rig_runtime.files import is_file, read_bounded, why_missing
from rig_runtime.plan_types import EngineName, KvCacheDtype, PowerSupply

DEFAULT_PATH = Path("/etc/rig-runtime/config.toml")

MAX_BYTES = 1 << 20
MOST_PROBLEMS = 10

IN_TOML = {
    "tuple_type": "it must be an array",
    "model_type": "it must be a table",
    "string_type": "it must be a string",
    "path_type": "it must be a string",
}
"""What a value must be, in the words of TOML, by pydantic's type of error."""

Port = Annotated[int, Field(strict=True, ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GatewayConfig(_Section):
    """The one HTTP front."""

    host: str = "127.0.0.1"
    port: Port = 8484
    api_keys_file: Path | None = Field(
        None, description="lines of 'NAME SHA256-HEX'; required unless host is a loopback address"
    )
    control_socket: Path = Path("/run/rig-runtime/control.sock")
    max_body_bytes: int = Field(
        64 << 20, strict=True, ge=1024, description="a request with a larger body is refused"
    )
    queue_limit: int = Field(
        256, strict=True, ge=0, description="requests that may wait for one model to be ready"
    )
    queue_timeout_seconds: float = Field(
        900, strict=True, gt=0, description="how long a request waits for its model to be ready"
    )
    silence_timeout_seconds: float = Field(
        600, strict=True, gt=0, description="an engine that sends nothing for so long is given up"
    )
    drain_timeout_seconds: float = Field(
        20, strict=True, ge=0, description="on stop, how long running answers may take to finish"
    )


class RigConfig(_Section):
    """What the owner says of the cards."""

    exclude: tuple[str, ...] = Field((), description="UUIDs of cards that no model may use")
    margin_bytes: int = Field(
        64 << 20, strict=True, ge=0, description="left free on each card, beyond what is planned"
    )
    power_supplies: tuple[PowerSupply, ...] = Field(
        (), description="supplies and the cards they feed; without any, power is not planned"
    )


class VllmConfig(_Section):
    """Where vLLM is and how it was built."""

    venv: Path = Path("/opt/rig/vllm/current")
    build: Literal["cuda", "cpu"] = "cuda"
    start_timeout_seconds: float = Field(900, strict=True, gt=0)
    stop_timeout_seconds: float = Field(30, strict=True, gt=0)


class EnginesConfig(_Section):
    """One section for each engine that may be used; an absent one is not installed."""

    vllm: VllmConfig | None = None


class ModelConfig(_Section):
    """One model to serve. What is None is the planner's to choose."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")
    path: Path
    engine: EngineName | None = None
    context_tokens: int | None = Field(None, strict=True, ge=1, lt=1 << 31)
    sequences: int = Field(4, strict=True, ge=1, le=1024)
    tensor_parallel_size: int | None = Field(None, strict=True, ge=1, le=8)
    kv_cache_dtype: KvCacheDtype = "auto"
    priority: int = Field(
        0,
        strict=True,
        ge=-1000,
        le=1000,
        description="where not all models fit, those of a higher priority get the cards",
    )


class Config(_Section):
    """The whole file."""

    gateway: GatewayConfig = GatewayConfig()
    rig: RigConfig = RigConfig()
    engines: EnginesConfig = EnginesConfig()
    models: tuple[ModelConfig, ...] = ()
    state_directory: Path = Field(
        Path("/var/lib/rig-runtime"), description="caches, and a directory for each running engine"
    )


def load(path: Path | None = None, *, check_paths: bool = True) -> Config:
    """Read and validate a configuration file; None is the default path.

    With `check_paths` the models and key files that it names must exist on this machine; without,
    the file is taken to be for another one. Raises BadInput that names file, key and value, and
    says what is allowed; all problems of a file are in one error.
    """
    path = path or DEFAULT_PATH
    document = _parse(path)
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        problems = [_explain(detail) for detail in error.errors(include_url=False)]
        raise _bad(path, problems) from error
    problems = [*_contradictions(config), *(_missing_paths(config) if check_paths else ())]
    if problems:
        raise _bad(path, problems)
    return config


def _parse(path: Path) -> dict[str, Any]:
    if why := why_missing(path):
        raise BadInput(
            f"the configuration {path} is missing",
            found=why,
            how="provisioning writes it; name another one with --config FILE",
        )
    try:
        return tomllib.loads(read_bounded(path, MAX_BYTES).decode())
    except (ValueError, RecursionError) as error:  # syntax, and bytes that are not UTF-8
        raise BadInput(f"{path} is not valid TOML", found=str(error)) from error


def _bad(path: Path, problems: list[str]) -> BadInput:
    more = len(problems) - MOST_PROBLEMS
    shown = [*problems[:MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
    return BadInput(f"{path} is not a valid configuration", found="; ".join(shown))


def _explain(detail: Mapping[str, Any]) -> str:
    """One validation error as 'key = value: what is allowed'."""
    place = _key(detail["loc"])
    kind = detail["type"]
    if kind == "extra_forbidden":
        return f"unknown key {place}{_suggestion(detail['loc'])}"
    if kind == "missing":
        return f"{place} is required"
    allowed = IN_TOML.get(kind) or str(detail["msg"]).removeprefix("Value error, ")
    value = detail["input"]
    shown = "" if isinstance(value, dict | list) else f" = {_toml(value)}"
    return f"{place}{shown}: {allowed[:1].lower()}{allowed[1:]}"


def _key(loc: tuple[str | int, ...]) -> str:
    """('models', 0, 'path') -> 'models[0].path'."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return printable(f'"{value}"' if isinstance(value, str) else str(value), 80)


def _suggestion(loc: tuple[str | int, ...]) -> str:
    known = list(_section_fields(loc[:-1]))
    close = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.65)
    return f": did you mean {close[0]}?" if close else f": known are {', '.join(sorted(known))}"


def _section_fields(loc: tuple[str | int, ...]) -> Iterator[str]:
    """The keys that the section at `loc` knows, found by walking the types."""
    section: type[BaseModel] = Config
    for part in loc:
        if isinstance(part, str):
            section = _section_type(section.model_fields[part].annotation) or section
    yield from section.model_fields


def _section_type(annotation: object) -> type[BaseModel] | None:
    """The section inside `Section`, `Section | None` or `tuple[Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_type(part))), None)


def _contradictions(config: Config) -> Iterator[str]:
    """What no single value shows."""
    names = [model.name for model in config.models]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f'models: two models have the name "{name}"; names must differ'
    for number, model in enumerate(config.models):
        place = f'models[{number}].engine = "{model.engine}"'
        if model.engine and model.engine not in EnginesConfig.model_fields:
            served = ", ".join(EnginesConfig.model_fields)
            yield f"{place}: it can be planned for, but serving knows only {served}"
        elif model.engine and getattr(config.engines, model.engine) is None:
            yield (
                f"{place}: there is no section [engines.{model.engine}], so that engine is not "
                "installed"
            )
    if config.gateway.api_keys_file is None and not is_loopback(config.gateway.host):
        yield (
            f'gateway.host = "{config.gateway.host}" is open to the network: set '
            "gateway.api_keys_file, or use a loopback address such as 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _missing_paths(config: Config) -> Iterator[str]:
    for number, model in enumerate(config.models):
        if why := why_missing(model.path):
            yield f"models[{number}].path = {_toml(str(model.path))}: {why}"
    keys = config.gateway.api_keys_file
    if keys is not None and not is_file(keys):
        why = why_missing(keys) or "it is no file"
        yield f"gateway.api_keys_file = {_toml(str(keys))}: {why}"
