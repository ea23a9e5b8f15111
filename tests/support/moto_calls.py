"""Calls of DynamoDB in moto without the detour of an HTTP request: half of the CPU time.

Importing this makes every client created afterwards hand its request straight to moto, while moto
is on. Botocore still validates the parameters, serializes the request and parses the response, and
event handlers (``before-call``, ``before-parse``) still run. What is left out: signing, user
agents, URL matching and retries. Handlers that a test registers for ``before-call`` come first.
"""

from __future__ import annotations

import re
from functools import cache
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import botocore.handlers
from botocore.awsrequest import HeadersDict
from botocore.handlers import REGISTER_LAST
from botocore.parsers import create_parser
from moto.core import responses
from moto.core.models import DEFAULT_ACCOUNT_ID, botocore_stubber
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.utils import method_names_from_class
from moto.dynamodb.responses import DynamoHandler
from tests.support import moto_partiql as moto_partiql  # corrects moto

# Moto inspects the class of the service at each call.
vars(responses)["method_names_from_class"] = cache(method_names_from_class)

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
