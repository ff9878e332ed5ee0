"""What the inventory wants of a host, checked. `group_data/all.py` explains each value.

Defaults of what the runtime does are not here but in the runtime: only what an inventory states is
written into its configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.generations import Flavour
from tasks.problems import Problem

VllmBuild = Literal["cpu", "cuda"]
WebAddress = Field(None, pattern=r"^https?://[^\s]+$")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class ModelWish(_Section):
    """One model; whatever else it says goes into the runtime's configuration as it is.

    `tiny` asks for a random model of a few megabytes to be made at the path: it proves the
    installation without a download.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    name: str
    path: str
    tiny: bool = False

    def configuration(self) -> dict[str, Any]:
        """What the runtime's configuration gets."""
        return self.model_dump(exclude={"tiny"})


class DriverSourceWish(_Section):
    """Where the driver's packages come from; `address` is a mirror's."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    kind: Literal["nvidia", "mirror", "distribution"]
    address: str | None = WebAddress
    branch: int | None = None


class Wishes(_Section):
    """One host's data. None means: decided from the host's facts."""

    driver_source: DriverSourceWish | None = None
    driver_flavour: Flavour | None = None
    headless: bool = True
    mirror_url: str | None = WebAddress
    vllm_build: Literal["cpu", "cuda", "none"] | None = None
    gateway: dict[str, Any] = {}
    rig: dict[str, Any] = {}
    vllm: dict[str, Any] = {}
    models: list[ModelWish] = []
    virtual: bool = False

    def source(self) -> DriverSourceWish:
        """The source that was named; else the mirror, where there is one; else NVIDIA's."""
        if self.driver_source:
            return self.driver_source
        if self.mirror_url:
            return DriverSourceWish(kind="mirror", address=self.mirror_url)
        return DriverSourceWish(kind="nvidia")


def read_wishes(data: Mapping[str, Any]) -> Wishes | list[Problem]:
    """The wishes in a host's data, or a problem for every value that is not what it must be."""
    stated = {key: data[key] for key in Wishes.model_fields if data.get(key) is not None}
    try:
        return Wishes.model_validate(stated)
    except ValidationError as error:
        return [
            Problem(
                f"{'.'.join(str(part) for part in detail['loc'])} in the inventory is not valid",
                found=f"{detail['input']!r}: {detail['msg'][:1].lower()}{detail['msg'][1:]}",
                how="change it in inventory.py; group_data/all.py says what is allowed",
            )
            for detail in error.errors(include_url=False)
        ]
