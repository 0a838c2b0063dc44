"""What moto leaves out about launch templates: further pages of their versions, SSM's filter by data type, and what
instances take from them."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.instances import InstanceBackend, MetadataOptions
from moto.ec2.responses import EC2Response
from moto.ec2.utils import filter_iam_instance_profiles
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
    """Put the corrections of the parameters' filter and of launches into moto's back ends."""
    moto_describe = SimpleSystemManagerBackend.describe_parameters

    def describe_parameters(self: Any, filters: Any, parameter_filters: Any) -> list[Any]:
        """moto does not know the filter `DataType`."""
        kinds = [entry for entry in parameter_filters or [] if entry["Key"] == "DataType"]
        others = [entry for entry in parameter_filters or [] if entry["Key"] != "DataType"]
        found = moto_describe(self, filters, others)
        return [one for one in found if all(one.data_type in entry["Values"] for entry in kinds)]

    SimpleSystemManagerBackend.describe_parameters = describe_parameters
    moto_run = InstanceBackend.run_instances

    def run_instances(self: Any, image_id: str, *args: Any, **given: Any) -> Any:
        """moto takes neither the profile nor the metadata options from the template, nor the latter from the image."""
        chosen = given.get("launch_template")
        template = self._get_template_from_args(chosen).data if chosen else {}
        reservation = moto_run(self, image_id, *args, **given)
        profile = template.get("IamInstanceProfile")
        for instance in reservation.instances:
            image = self.amis.get(instance.image_id)
            of_image = {"HttpTokens": "required"} if getattr(image, "imds_support", None) == "v2.0" else {}
            asked = given.get("metadata_options") or {}
            instance.metadata_options = MetadataOptions(of_image | template.get("MetadataOptions", {}) | asked)
            if profile and not instance.iam_instance_profile:
                named = (profile.get("Arn"), profile.get("Name"))
                found = filter_iam_instance_profiles(self.account_id, self.partition, *named)
                instance.iam_instance_profile = {"Arn": found.arn, "Id": found.id}
        return reservation

    InstanceBackend.run_instances = run_instances


ACTIONS = (describe_launch_template_versions,)
