"""Keeps the configured models served, each on its own and beside the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from rig_runtime.config import ModelConfig
from rig_runtime.errors import RigError
from rig_runtime.fleet import by_priority
from rig_runtime.lifecycle import Phase
from rig_runtime.plan_types import Plan
from rig_runtime.served import Effects, Limits, Refused, ServedModel


class Scheduler:
    """All served models of one service."""

    def __init__(self, models: Sequence[ModelConfig], effects: Effects, limits: Limits) -> None:
        self.models: Mapping[str, ServedModel] = {
            model.name: ServedModel(model, effects, limits, self._others(model.name))
            for model in models
        }
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Plan every model by priority, then start the engines.

        A model without a plan fails alone; where none has one, its error is raised.
        """
        errors = []
        served = list(self.models.values())
        for position in by_priority([model.config.priority for model in served]):
            model = served[position]
            try:
                await model.prepare()
            except RigError as error:
                errors.append(error)
        if errors and len(errors) == len(self.models):
            raise errors[0]
        self._tasks = {model.start() for model in self.models.values()}

    def model(self, name: str) -> ServedModel:
        """Raises Refused where no such model is configured."""
        if name not in self.models:
            raise Refused(
                "unknown_model",
                f"The model {name!r} does not exist here.",
                found=f"Served are: {', '.join(self.models) or 'none'}.",
            )
        return self.models[name]

    async def watch(self) -> None:
        """Ends only with an error of the scheduler itself, which it raises."""
        if self._tasks:
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Drain and end all models at once."""
        await asyncio.gather(*(model.stop() for model in self.models.values()))

    def _others(self, name: str) -> Callable[[], list[Plan]]:
        def plans() -> list[Plan]:
            return [
                model.plan
                for other, model in self.models.items()
                if other != name and model.plan is not None and model.life.phase is not Phase.FAILED
            ]

        return plans
