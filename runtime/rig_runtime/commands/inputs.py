"""What the commands share: the rig, the configuration and the model that the arguments name."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rig_runtime import config as configuration
from rig_runtime.config import Config
from rig_runtime.errors import BadInput
from rig_runtime.files import why_missing
from rig_runtime.fleet import Member, request_of
from rig_runtime.gpus import Rig, load_rig
from rig_runtime.models import read_shape
from rig_runtime.models.gguf_shape import read_gguf_shape
from rig_runtime.models.ollama_store import find_blob
from rig_runtime.plan import PlanRequest


def rig_of(arguments: argparse.Namespace) -> Rig:
    """The snapshot that `--rig` names, or this machine's cards."""
    if arguments.rig:
        return load_rig(arguments.rig)
    from rig_runtime import nvml  # a quarter of a plan's start-up: not for a snapshot

    return nvml.read_rig()


def config_of(arguments: argparse.Namespace) -> Config | None:
    """The configuration that `--config` names or the default one; None where there is none.

    Models that it names may be missing: each command reads only those that it needs.
    """
    if arguments.config is None and not configuration.DEFAULT_PATH.exists():
        return None
    return configuration.load(arguments.config, check_paths=False)


def model_of(word: str, config: Config | None) -> Member:
    """A model by its name in the configuration, its path, or its tag in Ollama's store.

    Raises BadInput.
    """
    settings = config or Config()
    configured = next((model for model in settings.models if model.name == word), None)
    if configured is not None:
        shape = replace(read_shape(configured.path), name=configured.name)
        request = request_of(configured, settings)
        return Member(configured.name, shape, request, configured.priority)
    named = not why_missing(Path(word))
    path = Path(word) if named else find_blob(word)
    if path is None:
        names = ", ".join(model.name for model in settings.models)
        configured_names = f", or one of {names}" if names else ""
        raise BadInput(
            f"there is no model {word}",
            works=f"a model's path, a tag in Ollama's store{configured_names}",
        )
    shape = read_shape(path) if named else replace(read_gguf_shape(path), name=word)
    request = PlanRequest(
        exclude=frozenset(settings.rig.exclude),
        power_supplies=settings.rig.power_supplies,
        margin_bytes=settings.rig.margin_bytes,
    )
    return Member(shape.name, shape, request)


def models_of(config: Config | None) -> list[Member]:
    """All configured models. Raises BadInput where there are none."""
    if config is None or not config.models:
        where = configuration.DEFAULT_PATH if config is None else "the configuration"
        raise BadInput(
            "there is no model to look at",
            found=f"{where} lists none" if config else f"{where} is missing",
            works="a directory with a config.json as argument, or --config FILE",
        )
    return [model_of(model.name, config) for model in config.models]
