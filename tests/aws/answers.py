"""Answers in XML, written by writers that are made once for each shape. moto's own takes 4 ms for each instance."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

from botocore.model import Shape
from moto.core.responses import ActionContext, ActionResult

Writer = Callable[[Any], str]
# (service, shape) -> its writer; shapes of one service have one name each.
WRITERS: dict[tuple[str, str], Writer] = {}
# Any valid one does: nobody looks a request up.
REQUEST_ID = "00000000-0000-4000-8000-000000000000"


class Answer(ActionResult):
    """A result made of dictionaries and lists, with the members' names as botocore's model has them."""

    def execute_result(self, context: ActionContext) -> Any:
        """The status, the headers and the XML."""
        service, operation = context.service_model, context.operation_model
        space = service.metadata.get("xmlNamespace", "http://ec2.amazonaws.com/doc/2016-11-15/")
        shape, inner = operation.output_shape, ""
        if shape is not None:
            inner = writer(service.service_name, shape)(self.result)
        if service.metadata["protocol"] == "ec2":
            inner = f"<requestId>{REQUEST_ID}</requestId>{inner}"
        else:
            if shape is not None and "resultWrapper" in shape.serialization:
                wrapper = shape.serialization["resultWrapper"]
                inner = f"<{wrapper}>{inner}</{wrapper}>"
            inner += f"<ResponseMetadata><RequestId>{REQUEST_ID}</RequestId></ResponseMetadata>"
        name = f"{operation.name}Response"
        body = f'<?xml version="1.0" encoding="UTF-8"?><{name} xmlns="{space}">{inner}</{name}>'
        return 200, {"Content-Type": "text/xml"}, body


def writer(service: str, shape: Shape) -> Writer:
    """The writer of a shape."""
    key = (service, shape.name)
    if key not in WRITERS:
        # A shape may contain itself: whoever asks meanwhile gets one that looks it up when it is used.
        WRITERS[key] = lambda value: WRITERS[key](value)
        WRITERS[key] = made(service, shape)
    return WRITERS[key]


def made(service: str, shape: Shape) -> Writer:
    """A new writer."""
    kind = shape.type_name
    if kind == "structure":
        members = {
            name: (member.serialization.get("name", name), writer(service, member))
            for name, member in shape.members.items()
        }
        return lambda value: structure(members, value)
    if kind == "list":
        tag, item = shape.member.serialization.get("name", "member"), writer(service, shape.member)
        return lambda value: "".join([f"<{tag}>{item(one)}</{tag}>" for one in value])
    if kind == "boolean":
        return lambda value: "true" if value else "false"
    if kind == "timestamp":
        return timestamp
    if kind == "blob":
        return lambda value: base64.b64encode(value).decode()
    return lambda value: escape(str(value))


def structure(members: dict[str, tuple[str, Writer]], value: dict[str, Any]) -> str:
    """The members that have a value. One that the model does not know is a mistake of the corrections."""
    parts = []
    for name, given in value.items():
        if given is not None:
            tag, write = members[name]
            parts.append(f"<{tag}>{write(given)}</{tag}>")
    return "".join(parts)


def timestamp(value: datetime) -> str:
    """A time in UTC, to the millisecond."""
    return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
