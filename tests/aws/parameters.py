"""SSM parameters of the data type `aws:ec2:image`, which AWS validates after it has answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moto.ssm.models import Parameter, SimpleSystemManagerBackend

from world import WORLD, backend_of

IMAGE = "aws:ec2:image"


@dataclass
class Pending:
    """A version which was accepted, but is not validated yet."""

    parameter: Parameter
    looks_left: int


def validate(backend: Any, pending: Pending) -> None:
    """Store the version if its image exists; otherwise it never appears, and nobody is told."""
    images = backend_of(backend.account_id, backend.region_name).amis
    image = images.get(pending.parameter.value)
    if image is None or image.state != "available":
        return
    versions = backend._parameters[pending.parameter.name]
    pending.parameter.version = versions[-1].version + 1 if versions else 1
    versions.append(pending.parameter)


def look(backend: Any, names: list[str]) -> None:
    """A look at parameters brings their pending versions nearer to be seen."""
    key = (backend.account_id, backend.region_name)
    plain = {backend._strip_parameter_arn(name).split(":")[0] for name in names}
    still = []
    for pending in WORLD.parameters.get(key, []):
        if pending.parameter.name in plain:
            if pending.looks_left == 0:
                validate(backend, pending)
                continue
            pending.looks_left -= 1
        still.append(pending)
    WORLD.parameters[key] = still


def install() -> None:
    """Put the corrections into moto's back end."""
    model = SimpleSystemManagerBackend
    moto_put, moto_get = model.put_parameter, model.get_parameter
    moto_get_many, moto_history = model.get_parameters, model.get_parameter_history

    def put_parameter(self: Any, name: str, *args: Any, **kwargs: Any) -> Parameter:
        parameter = moto_put(self, name, *args, **kwargs)
        if parameter.data_type == IMAGE:
            versions = self._parameters[name]
            versions.pop()
            if not versions:
                # moto reads the last version of each name it knows.
                del self._parameters[name]
            key = (self.account_id, self.region_name)
            queue = WORLD.parameters.setdefault(key, [])
            parameter.version += sum(pending.parameter.name == name for pending in queue)
            queue.append(Pending(parameter, WORLD.looks))
        return parameter

    def get_parameter(self: Any, name: str) -> Parameter | None:
        look(self, [name])
        return moto_get(self, name)

    def get_parameters(self: Any, names: list[str]) -> dict[str, Parameter]:
        # moto reads each of them by get_parameter, but only those it knows already.
        look(self, [name for name in names if self._strip_parameter_arn(name).split(":")[0] not in self._parameters])
        return moto_get_many(self, names)

    def get_parameter_history(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        look(self, [name])
        return moto_history(self, name, *args, **kwargs)

    model.put_parameter, model.get_parameter = put_parameter, get_parameter
    model.get_parameters, model.get_parameter_history = get_parameters, get_parameter_history


def state_of_parameters(backend: Any) -> list[dict[str, Any]]:
    """All parameters of a back end that tests have put, pending ones included."""
    key = (backend.account_id, backend.region_name)
    stored = [(version, False) for versions in backend._parameters.values() for version in versions]
    waiting = [(pending.parameter, True) for pending in WORLD.parameters.get(key, [])]
    return [
        {
            "account": backend.account_id,
            "region": backend.region_name,
            "name": parameter.name,
            "value": parameter.value,
            "version": parameter.version,
            "data_type": parameter.data_type,
            "pending": pending,
        }
        for parameter, pending in stored + waiting
        if not parameter.name.startswith("/aws/")
    ]
