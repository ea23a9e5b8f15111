"""AWS clients at a third of the CPU time: once a process, what depends on the service alone.

Nearly every test creates clients. For each, botocore resolves its service's shapes, methods,
endpoint rules and event names; for each session it parses the model, megabytes of JSON. Importing
this makes all clients of the process share these. Each client keeps its own configuration and its
own event handlers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from inspect import CO_VARKEYWORDS
from typing import Any

import botocore.session
from botocore import hooks, httpsession, regions, useragent
from botocore.client import ClientCreator
from botocore.hooks import EventAliaser, NodeList
from botocore.utils import EVENT_ALIASES


def replace(owner: Any, name: str) -> Callable[[Callable[..., Any]], None]:
    """Let the decorated function stand for an attribute; it is given the original first."""

    def decorate(function: Callable[..., Any]) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            return function(original, *args, **kwargs)

        setattr(owner, name, replacement)

    return decorate


# One loader, so a model is the same object whenever it is loaded.
botocore.session.create_loader = cache(botocore.session.create_loader)

# The parts of the user agent are the same for each request.
vars(useragent)["sanitize_user_agent_string_component"] = cache(
    useragent.sanitize_user_agent_string_component
)

# Every client makes its own, alike, and hardly one opens a TLS connection.
vars(httpsession)["create_urllib3_context"] = cache(httpsession.create_urllib3_context)

_service_models: dict[str, Any] = {}
_methods: dict[str, dict[str, Any]] = {}
_endpoint_providers: dict[int, tuple[Any, Any]] = {}
_event_names: dict[str, str] = {}


@replace(ClientCreator, "_load_service_model")
def _service_model(original: Any, creator: Any, service_name: str, api_version: Any = None) -> Any:
    assert api_version is None, "Nothing here asks for an older version of an API."
    if service_name not in _service_models:
        _service_models[service_name] = original(creator, service_name)
    return _service_models[service_name]


@replace(ClientCreator, "_create_methods")
def _client_methods(original: Any, creator: Any, service_model: Any) -> dict[str, Any]:
    name = service_model.service_name
    if name not in _methods:
        _methods[name] = original(creator, service_model)
    return dict(_methods[name])


@replace(regions, "EndpointProvider")
def _endpoint_provider(original: Any, ruleset_data: Any, **more: Any) -> Any:
    key = id(ruleset_data)
    if key not in _endpoint_providers:
        # The rules are kept too: their id must not become another object's.
        _endpoint_providers[key] = ruleset_data, original(ruleset_data, **more)
    return _endpoint_providers[key][1]


@replace(EventAliaser, "__init__")
def _share_event_names(original: Any, aliaser: Any, emitter: Any, aliases: Any = None) -> None:
    original(aliaser, emitter, aliases)
    if aliaser._event_aliases is EVENT_ALIASES:
        aliaser._alias_name_cache = _event_names


@replace(EventAliaser, "__copy__")
def _copy_aliaser(original: Any, aliaser: Any) -> Any:
    """Without a copy of the table of aliases, which nobody changes."""
    copied = original(aliaser)
    if aliaser._event_aliases is EVENT_ALIASES:
        copied._event_aliases = EVENT_ALIASES
        copied._alias_name_cache = _event_names
    return copied


@replace(hooks, "accepts_kwargs")
def _accepts_kwargs(original: Any, function: Any) -> Any:
    """Each of a session's hundred handlers is asked. Its whole signature need not be read."""
    code = getattr(function, "__code__", None)
    return code.co_flags & CO_VARKEYWORDS if code else original(function)


@replace(NodeList, "__copy__")
def _copy_handlers(_: Any, handlers: Any) -> Any:
    return type(handlers)(handlers.first[:], handlers.middle[:], handlers.last[:])
