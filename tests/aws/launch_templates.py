"""EC2's actions on launch templates, which moto does half: versions that are built on others or deleted, client tokens,
further pages, and errors for templates that are not there. And SSM's filter by data type, which goes with them."""

from __future__ import annotations

import json
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidLaunchTemplateIdNotFound, InvalidLaunchTemplateVersionNotFound
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.utils import parse_user_data
from moto.ssm.models import SimpleSystemManagerBackend

from answers import Answer
from timeline import date, moment
from world import WORLD, AwsError, matches, remembered, specified_tags, tag_filter, tag_list, tags_of

# AWS has up to 200 on a page; a client that reads only the first one is to be caught.
PAGE = 2
# The kinds of version that are asked for by a word.
WORDS = ("$Latest", "$Default")


def find_template(backend: Any, given: dict[str, Any]) -> Any:
    """The template that is named by its id or its name, one of the two."""
    template, name = given.get("LaunchTemplateId"), given.get("LaunchTemplateName")
    if template and name or not template and not name:
        raise AwsError("InvalidParameterCombination", "Either the launch template's ID or its name is needed")
    return backend.get_launch_template(template) if template else backend.get_launch_template_by_name(name)


def live_versions(template: Any) -> list[Any]:
    """The versions that are not deleted. Numbers are not used again, so moto's list keeps the others."""
    return [version for version in template.versions if not getattr(version, "deleted", False)]


def find_version(template: Any, asked: str) -> Any:
    """A version by its number or by a word."""
    wanted = {"$latest": live_versions(template)[-1].number, "$default": template.default_version_number}
    number = str(wanted.get(str(asked).lower(), asked))
    for version in live_versions(template):
        if str(version.number) == number:
            return version
    raise InvalidLaunchTemplateVersionNotFound(template_id=template.id, version=asked)


def resolved(backend: Any, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str], Any]:
    """What a specification of a template launches now: its data, the instances' tags, and the version itself."""
    template = find_template(backend, given)
    version = find_version(template, given.get("Version") or "$Default")
    data = {name: value for name, value in version.data.items() if name != "TagSpecifications"}
    of_template = {"aws:ec2launchtemplate:id": template.id, "aws:ec2launchtemplate:version": str(version.number)}
    return data, version.instance_tags | of_template, version


def shown(backend: Any, template: Any) -> dict[str, Any]:
    """A template as answers have it."""
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "CreateTime": template.create_time,
        "CreatedBy": f"arn:aws:iam::{backend.account_id}:root",
        "DefaultVersionNumber": template.default_version_number,
        "LatestVersionNumber": live_versions(template)[-1].number,
        "Tags": tag_list(backend, template.id),
    }


def shown_version(backend: Any, version: Any) -> dict[str, Any]:
    """A version as answers have it."""
    return {
        "LaunchTemplateId": version.template.id,
        "LaunchTemplateName": version.template.name,
        "VersionNumber": version.number,
        "VersionDescription": version.description,
        "CreateTime": version.create_time,
        "CreatedBy": f"arn:aws:iam::{backend.account_id}:root",
        "DefaultVersion": version.number == version.template.default_version_number,
        "LaunchTemplateData": {name: value for name, value in version.data.items() if value is not None},
    }


def given_data(given: dict[str, Any]) -> dict[str, Any]:
    """The data of a request, with the user data checked."""
    data = dict(given.get("LaunchTemplateData") or {})
    if "UserData" in data:
        data["UserData"] = parse_user_data(data["UserData"])
    return data


def once(self: Any, action: str, make: Any) -> Any:
    """What a request makes; the same again for a client token that was used before."""
    backend, given = self.ec2_backend, dict(self.params)
    token = given.pop("ClientToken", None)
    key = (action, backend.account_id, backend.region_name, token or "")
    parameters = json.dumps(given, sort_keys=True, default=str)
    mismatch = AwsError("IdempotentParameterMismatch", "The client token was used with other parameters")
    made = remembered(key, parameters, mismatch) if token else None
    if made is None:
        made = make(backend, given)
        made.create_time = date(moment())
        if token:
            WORLD.tokens[key] = (parameters, made)
    return made


def create_launch_template(self: Any) -> ActionResult:
    """CreateLaunchTemplate."""
    self.error_on_dryrun()

    def make(backend: Any, given: dict[str, Any]) -> Any:
        tags = specified_tags(given.get("TagSpecifications"), {"launch-template"})
        name, description = given["LaunchTemplateName"], given.get("VersionDescription")
        return backend.create_launch_template(name, description, given_data(given), tags)

    template = once(self, "create-launch-template", make)
    return Answer({"LaunchTemplate": shown(self.ec2_backend, template)})


def create_launch_template_version(self: Any) -> ActionResult:
    """CreateLaunchTemplateVersion: what is not said comes from the source version, where one is named."""
    self.error_on_dryrun()

    def make(backend: Any, given: dict[str, Any]) -> Any:
        template, source = find_template(backend, given), given.get("SourceVersion")
        inherited = find_version(template, source).data if source else {}
        return template.create_version(inherited | given_data(given), given.get("VersionDescription"))

    version = once(self, "create-launch-template-version", make)
    return Answer({"LaunchTemplateVersion": shown_version(self.ec2_backend, version)})


def delete_launch_template_versions(self: Any) -> ActionResult:
    """DeleteLaunchTemplateVersions: each for itself, and never the default one."""
    self.error_on_dryrun()
    template = find_template(self.ec2_backend, self.params)
    common = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name}
    deleted, kept = [], []
    for number in self._get_param("Versions") or []:
        version = next((one for one in live_versions(template) if str(one.number) == str(number)), None)
        entry = common | {"VersionNumber": int(number)}
        if version is None:
            error = {"Code": "launchTemplateVersionDoesNotExist", "Message": f"There is no version {number}."}
            kept.append(entry | {"ResponseError": error})
        elif version.number == template.default_version_number:
            error = {"Code": "unexpectedError", "Message": "The default version cannot be deleted."}
            kept.append(entry | {"ResponseError": error})
        else:
            version.deleted = True
            deleted.append(entry)
    return Answer(
        {
            "SuccessfullyDeletedLaunchTemplateVersions": deleted,
            "UnsuccessfullyDeletedLaunchTemplateVersions": kept,
        }
    )


def modify_launch_template(self: Any) -> ActionResult:
    """ModifyLaunchTemplate: another default version."""
    self.error_on_dryrun()
    template = find_template(self.ec2_backend, self.params)
    wanted = self._get_param("DefaultVersion")
    if wanted is not None:
        template.default_version_number = find_version(template, wanted).number
    return Answer({"LaunchTemplate": shown(self.ec2_backend, template)})


def describe_launch_templates(self: Any) -> ActionResult:
    """DescribeLaunchTemplates."""
    self.error_on_dryrun()
    backend = self.ec2_backend
    ids, names = self._get_param("LaunchTemplateIds") or [], self._get_param("LaunchTemplateNames") or []
    for template in ids:
        if template not in backend.launch_templates:
            raise InvalidLaunchTemplateIdNotFound(template)
    for name in names:
        backend.get_launch_template_by_name(name)
    found = [
        template
        for template in backend.launch_templates.values()
        if (not ids or template.id in ids) and (not names or template.name in names)
    ]
    for name, patterns in self._filters_from_querystring().items():
        found = [one for one in found if matches(patterns, filter_values(backend, one, name))]
    start, size = int(self._get_param("NextToken") or 0), self._get_param("MaxResults") or 200
    result: dict[str, Any] = {"LaunchTemplates": [shown(backend, one) for one in found[start : start + size]]}
    if start + size < len(found):
        result["NextToken"] = str(start + size)
    return Answer(result)


def filter_values(backend: Any, template: Any, name: str) -> list[str]:
    """What a filter looks at."""
    if (values := tag_filter(name, tags_of(backend, template.id))) is not None:
        return values
    if name == "launch-template-name":
        return [template.name]
    raise AwsError("InvalidParameterValue", f"The filter '{name}' is invalid")


def describe_launch_template_versions(self: Any) -> ActionResult:
    """DescribeLaunchTemplateVersions: of one template, or the latest and default ones of all."""
    self.error_on_dryrun()
    backend, asked = self.ec2_backend, self._get_param("Versions") or []
    if self._get_param("LaunchTemplateId") or self._get_param("LaunchTemplateName"):
        template = find_template(backend, self.params)
        least, most = self._get_param("MinVersion"), self._get_param("MaxVersion")
        if asked:
            found = [find_version(template, version) for version in asked]
        else:
            found = [
                version
                for version in live_versions(template)
                if version.number >= int(least or 0) and (most is None or version.number <= int(most))
            ]
    elif not asked:
        raise AwsError("MissingParameter", "The launch template or the versions $Latest and $Default are needed")
    elif not set(asked) <= set(WORDS):
        raise AwsError("InvalidParameterValue", "Without a launch template only $Latest and $Default can be asked for")
    else:
        templates = backend.launch_templates.values()
        found = [find_version(template, word) for template in templates for word in WORDS if word in asked]
    start = int(self._get_param("NextToken") or 0)
    shown_ones = [shown_version(backend, version) for version in found[start : start + PAGE]]
    result: dict[str, Any] = {"LaunchTemplateVersions": shown_ones}
    if start + PAGE < len(found):
        result["NextToken"] = str(start + PAGE)
    return Answer(result)


def state_of_templates(backend: Any) -> list[dict[str, Any]]:
    """The templates and their versions, as the tests see them."""
    return [
        {
            "id": template.id,
            "name": template.name,
            "region": backend.region_name,
            "default": template.default_version_number,
            "versions": [{"number": one.number, "image": one.image_id} for one in live_versions(template)],
        }
        for template in backend.launch_templates.values()
    ]


def install() -> None:
    """Put the corrections of versions and of the parameters' filter into moto's back ends."""
    moto_describe = SimpleSystemManagerBackend.describe_parameters

    def describe_parameters(self: Any, filters: Any, parameter_filters: Any) -> list[Any]:
        """moto does not know the filter `DataType`."""
        kinds = [entry for entry in parameter_filters or [] if entry["Key"] == "DataType"]
        others = [entry for entry in parameter_filters or [] if entry["Key"] != "DataType"]
        found = moto_describe(self, filters, others)
        return [one for one in found if all(one.data_type in entry["Values"] for entry in kinds)]

    SimpleSystemManagerBackend.describe_parameters = describe_parameters
    LaunchTemplate.get_version = find_version
    LaunchTemplate.latest_version = lambda self: find_version(self, "$Latest")


ACTIONS = (
    create_launch_template,
    create_launch_template_version,
    delete_launch_template_versions,
    modify_launch_template,
    describe_launch_templates,
    describe_launch_template_versions,
)
