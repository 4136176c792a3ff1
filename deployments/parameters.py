"""The parameters of a flow as a JSON Schema: types from its signature, limits and meaning from the lakehouse's own."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jsonschema_rs

from lakehouse.parameters import Parameters

if TYPE_CHECKING:
    from prefect import Flow

Schema = dict[str, Any]
LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "description")


def schema_of(flow: "Flow[..., Any]") -> Schema:
    """Describe a flow's parameters; Prefect's server and its pages hold what is asked to it."""
    from prefect.utilities.callables import parameter_schema

    schema: Schema = parameter_schema(flow).model_dump_for_openapi()
    known = Parameters.model_json_schema()["properties"]
    for name, described in schema["properties"].items():
        described.update({k: v for k, v in known.get(name, {}).items() if k in LIMITS})
    return schema


def wrong_parameters(schema: Schema, given: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Give each parameter that may not be asked so, and why."""
    known = schema.get("properties", {})
    for name in given:
        if name not in known:
            there = ", ".join(known) if known else "none"
            yield name, f"there is no parameter {name}; there is {there}"
    for error in jsonschema_rs.validator_for(schema).iter_errors(dict(given)):
        name = str(error.instance_path[0]) if error.instance_path else ""
        yield name, f"the parameter {name}: {error.message}" if name else error.message
