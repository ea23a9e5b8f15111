"""Calls of AWS in moto at half the CPU time.

Importing this makes every client created afterwards hand DynamoDB's requests straight to moto,
while moto is on. Botocore still validates the parameters, serializes the request and parses the
response, and event handlers (``before-call``, ``before-parse``) still run. What is left out:
signing, user agents, URL matching and retries. Handlers that a test registers for ``before-call``
come first.

Other services' requests stay requests, with botocore's checksums and retries. They aren't signed,
since moto ignores signatures.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from http import HTTPStatus
from itertools import count
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import botocore.handlers
from botocore.auth import STREAMING_UNSIGNED_PAYLOAD_TRAILER
from botocore.awsrequest import HeadersDict
from botocore.handlers import REGISTER_LAST
from botocore.httpchecksum import AwsChunkedWrapper
from botocore.parsers import create_parser
from botocore.signers import RequestSigner
from moto.core import responses, utils
from moto.core.base_backend import BaseBackend
from moto.core.models import DEFAULT_ACCOUNT_ID, botocore_stubber
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.serialize import BaseJSONSerializer, XFormedAttributePicker
from moto.core.utils import camelcase_to_underscores, method_names_from_class
from moto.dynamodb.responses import DynamoHandler
from moto.sqs import models as sqs_models
from tests.support import moto_partiql as moto_partiql  # corrects moto
from tests.support.quick_clients import replace

# At each call, moto inspects the class of the service, works its URLs out, and draws 52 letters.
vars(responses)["method_names_from_class"] = cache(method_names_from_class)
vars(responses)["camelcase_to_underscores"] = cache(camelcase_to_underscores)
vars(sqs_models)["camelcase_to_underscores"] = cache(camelcase_to_underscores)
# Each look at a message works out when 1970 began.
vars(utils)["utcfromtimestamp"] = lru_cache(maxsize=16)(utils.utcfromtimestamp)
_request_numbers = count(1)


def _number_request(headers: dict[str, Any]) -> str:
    headers["x-amzn-requestid"] = request_id = f"{next(_request_numbers):052}"
    return request_id


vars(responses)["gen_amzn_requestid_long"] = _number_request

_find_urls: Any = BaseBackend.urls
_urls: dict[type[BaseBackend], Any] = {}


def _urls_of(backend: BaseBackend) -> Any:
    service = type(backend)
    if service not in _urls:
        _urls[service] = _find_urls.fget(backend)
    return _urls[service]


BaseBackend.urls = property(_urls_of)  # type: ignore[method-assign, assignment]

_HOST = re.compile(r"dynamodb\.[a-z0-9-]+\.amazonaws\.com")
_parser = create_parser("json")


def _call_moto(model: Any, params: Any, context: Any, request_signer: Any, **_: Any) -> Any:
    """Botocore takes what a ``before-call`` handler returns for the response."""
    if not botocore_stubber.enabled or not _HOST.fullmatch(urlsplit(params["url"]).netloc):
        return None
    service = DynamoHandler()
    service.headers = params["headers"]
    service.response_headers = {"server": "amazon.com"}
    service.querystring, service.uri_match = {}, {}
    service.region, service.partition = context["client_region"], "aws"
    service.current_account = DEFAULT_ACCOUNT_ID
    request: Any = {"body": params["body"], "headers": params["headers"]}
    service.params = PROTOCOL_PARSERS["json"](
        model, map_type=DynamoHandler.PROTOCOL_PARSER_MAP_TYPE
    ).parse(request)
    status, headers, body = service.call_action()
    content = body.encode() if isinstance(body, str) else body
    response = {"status_code": status, "headers": HeadersDict(headers), "body": content}
    return SimpleNamespace(status_code=status), _parsed(model, response, request_signer)


def _parsed(model: Any, response: dict[str, Any], request_signer: Any) -> Any:
    """As botocore's Endpoint does, with the event by which backups take the lines of a scan."""
    customized: dict[str, Any] = {}
    request_signer._event_emitter.emit(
        f"before-parse.dynamodb.{model.name}",
        operation_model=model,
        response_dict=response,
        customized_response_dict=customized,
    )
    parsed = _parser.parse(response, model.output_shape) | customized
    if response["status_code"] >= HTTPStatus.MULTIPLE_CHOICES:
        code = parsed.get("Error", {}).get("Code")
        if (shape := model.service_model.shape_for_error_code(code)) is not None:
            parsed |= _parser.parse(response, shape)
    return parsed


botocore.handlers.BUILTIN_HANDLERS.append(("before-call.dynamodb", _call_moto, REGISTER_LAST))


@replace(RequestSigner, "handler")
def _name_signer(original: Any, signer: Any, operation_name: Any = None, **more: Any) -> Any:
    """Signing takes as long as moto's answer. Moto only looks whose signature there is."""
    request, credentials = more["request"], signer._credentials
    host = urlsplit(request.url).netloc
    if not (botocore_stubber.enabled and credentials and host.endswith(".amazonaws.com")):
        return original(signer, operation_name, **more)
    scope = f"20260101/{signer._region_name}/{signer._signing_name}/aws4_request"
    request.headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}"
    )
    if isinstance(request.data, AwsChunkedWrapper):
        request.headers["X-Amz-Content-SHA256"] = STREAMING_UNSIGNED_PAYLOAD_TRAILER
    return None


_possible_keys: dict[tuple[type, int, str], tuple[Any, tuple[str, ...]]] = {}


@replace(XFormedAttributePicker, "get_possible_keys")
def _find_possible_keys(original: Any, picker: Any, context: Any) -> tuple[str, ...]:
    """The dozen names under which moto looks for a value are those of its class and its shape."""
    key = type(context.obj), id(context.shape), context.key
    if key not in _possible_keys:
        # The shape is kept too: its id must not become another object's.
        _possible_keys[key] = context.shape, tuple(original(picker, context))
    return _possible_keys[key][1]


@replace(BaseJSONSerializer, "_serialize_type_map")
def _serialize_map(original: Any, serializer: Any, serialized: Any, value: Any, *at: Any) -> None:
    """Rows are JSON already. Moto would look in each attribute for each of the ten types."""
    shape, _ = at
    if shape.value.name == "AttributeValue" and _is_wire(value):
        serializer._default_serialize(serialized, value, *at)
    else:
        original(serializer, serialized, value, *at)


def _is_wire(attributes: Any) -> bool:
    """If they are JSON already, as DynamoDB sends it: all but binary values."""
    return type(attributes) is dict and all(map(_is_wire_value, attributes.values()))


def _is_wire_value(value: Any) -> bool:
    if type(value) is not dict or len(value) != 1:
        return False
    ((kind, content),) = value.items()
    match kind:
        case "S" | "N":
            return type(content) is str
        case "BOOL" | "NULL":
            return type(content) is bool
        case "M":
            return _is_wire(content)
        case "L":
            return type(content) is list and all(map(_is_wire_value, content))
        case _:
            return False
