"""A stack on engines, with something that breaks it between its functions and each engine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.aws_errors import ERRORS, ErrorProxy
from tests.chaos.toxics import Proxies
from tests.support.engines import servers
from tests.support.engines.disk import Disk, can_mount, small_disk
from tests.support.engines.stack import EngineStack, engine_stack, engines
from tests.support.engines.worker import CLOCK_FILE

DISK_MIB = {"DYNAMODB": 4096, "S3": 1024}
"""Of memory, and only what is used."""


@dataclass(frozen=True)
class Breakable:
    """``clock_file`` has the seconds by which the functions' clocks are wrong."""

    running: EngineStack
    proxies: Proxies
    errors: Sequence[ErrorProxy]
    disks: Mapping[str, Disk]
    clock_file: Path


@contextmanager
def breakable_stack(*, emulated: bool, parameters: Mapping[str, str]) -> Iterator[Breakable]:
    """``emulated``: MiniStack has the tables. ``parameters``: the template's."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        for name in ("toxiproxy", "sandbox"):
            (folder / name).mkdir()
        disks: dict[str, Disk] = {}

        def mount(service: str, at: Path) -> None:
            # MiniStack's tables are in memory.
            in_memory = emulated and service == "DYNAMODB"
            if service in DISK_MIB and can_mount() and not in_memory:
                disks[service] = stack.enter_context(small_disk(at, DISK_MIB[service]))

        urls = stack.enter_context(engines(folder, emulated=emulated, mount=mount))
        api = stack.enter_context(servers.toxiproxy(folder / "toxiproxy"))
        sandbox_url = stack.enter_context(servers.sandbox_gateway(folder / "sandbox"))
        errors = [ErrorProxy(name, urls[name]) for name in ERRORS]
        for proxy in errors:
            stack.callback(proxy.close)
        proxies = Proxies(api, {**urls, "GATEWAY": sandbox_url})
        worker_urls = {name: url for name, url in proxies.urls.items() if name != "GATEWAY"}
        clock_file = folder / "clock"
        running = stack.enter_context(
            engine_stack(
                urls,
                folder,
                sandbox_url=sandbox_url,
                worker_urls=worker_urls,
                gateway_url=proxies.urls["GATEWAY"],
                worker_variables={CLOCK_FILE: str(clock_file)},
                parameters=parameters,
            )
        )
        yield Breakable(running, proxies, errors, disks, clock_file)
