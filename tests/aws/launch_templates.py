"""EC2's listing of launch template versions, page by page, and SSM's filter by data type."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.responses import EC2Response
from moto.ssm.models import SimpleSystemManagerBackend

# AWS has up to 200 on a page; a client that reads only the first one is to be caught.
PAGE = 2

moto_describe_versions = EC2Response.describe_launch_template_versions


def describe_launch_template_versions(self: Any) -> ActionResult:
    """DescribeLaunchTemplateVersions: moto has one page, of 15, and no others."""
    asked = int(self._get_param("NextToken") or 0)
    size, self._get_int_param = PAGE, lambda name, default=None: 10_000 if name == "MaxResults" else default
    found = moto_describe_versions(self).result["LaunchTemplateVersions"]
    result: dict[str, Any] = {"LaunchTemplateVersions": found[asked : asked + size]}
    if asked + size < len(found):
        result["NextToken"] = str(asked + size)
    return ActionResult(result)


def install() -> None:
    """Put the correction of the parameters' filter into moto's back end."""
    moto_describe = SimpleSystemManagerBackend.describe_parameters

    def describe_parameters(self: Any, filters: Any, parameter_filters: Any) -> list[Any]:
        """moto does not know the filter `DataType`."""
        kinds = [entry for entry in parameter_filters or [] if entry["Key"] == "DataType"]
        others = [entry for entry in parameter_filters or [] if entry["Key"] != "DataType"]
        found = moto_describe(self, filters, others)
        return [one for one in found if all(one.data_type in entry["Values"] for entry in kinds)]

    SimpleSystemManagerBackend.describe_parameters = describe_parameters


ACTIONS = (describe_launch_template_versions,)
