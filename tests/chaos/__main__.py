"""Chaos and soak on the engines. Exit status 1 when an invariant does not hold.

python -m tests.chaos --seconds 60 --seed 7
python -m tests.chaos --seconds 3600 --refunds 100000 --fault-rate 0.1 --plot .local/soak.png
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.aws_errors import ERRORS, ErrorProxy
from tests.chaos.run import Result, Run
from tests.chaos.toxics import Proxies
from tests.support.engines import servers
from tests.support.engines.stack import engine_stack, engines
from tests.support.engines.tools import MissingToolchainError
from tests.support.engines.worker import CLOCK_FILE

from refunds_devkit.sandbox.server import SandboxGateway


def main() -> int:
    asked = _arguments()
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    try:
        result = _run(seed, asked)
    except MissingToolchainError as missing:
        print(missing, file=sys.stderr)
        return 3
    _print(result)
    if asked.plot:
        _plot(result, asked.plot)
    if result.violations:
        print(f"Run the plan again: make chaos SEED={seed}", file=sys.stderr)
    return 1 if result.violations else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--refunds", type=int)
    parser.add_argument("--fault-rate", type=float, default=0.5)
    parser.add_argument("--plot", type=Path)
    parser.add_argument(
        "--emulated-dynamodb",
        action="store_true",
        help="MiniStack's tables instead of dynoxide's, which takes minutes to compile",
    )
    return parser.parse_args()


def _run(seed: int, asked: argparse.Namespace) -> Result:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        proxy_folder = folder / "toxiproxy"
        proxy_folder.mkdir()
        urls = stack.enter_context(engines(folder, emulated=asked.emulated_dynamodb))
        api = stack.enter_context(servers.toxiproxy(proxy_folder))
        gateway = stack.enter_context(SandboxGateway())
        errors = {name: ErrorProxy(name, urls[name]) for name in ERRORS}
        for proxy in errors.values():
            stack.callback(proxy.close)
        behind = {**urls, **{name: proxy.url for name, proxy in errors.items()}}
        proxies = Proxies(api, {**behind, "GATEWAY": gateway.url})
        clock_file = folder / "clock"
        worker_urls = {name: url for name, url in proxies.urls.items() if name != "GATEWAY"}
        running = stack.enter_context(
            engine_stack(
                urls,
                folder,
                gateway=gateway,
                worker_urls=worker_urls,
                gateway_url=proxies.urls["GATEWAY"],
                worker_variables={CLOCK_FILE: str(clock_file)},
            )
        )
        run = Run(running, proxies, seed, list(errors.values()), clock_file)
        return run.run(asked.seconds, asked.refunds, asked.fault_rate)


def _print(result: Result) -> None:
    count = len(result.requested)
    rate = count / max(result.seconds, 1)
    print(f"{count} refunds in {result.seconds:.0f} s ({rate:.1f}/s), settled included")
    print("statuses: " + ", ".join(f"{k} {n}" for k, n in sorted(result.statuses.items())))
    print(f"faults: {sum(result.faults.values())}")
    for fault, times in sorted(result.faults.items()):
        print(f"  {times:>5} {fault}")
    if result.samples:
        peak = max(sample.memory_mb for sample in result.samples)
        print(f"memory of all workers: at most {peak:.0f} MB")
    print(f"violations: {len(result.violations)}")
    for violation in result.violations[:50]:
        print(f"  {violation}")


def _plot(result: Result, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    seconds = [sample.seconds for sample in result.samples]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    left.plot(seconds, [sample.settled for sample in result.samples])
    left.set(title="Refunds settled", xlabel="seconds")
    right.plot(seconds, [sample.memory_mb for sample in result.samples])
    right.set(title="Memory of all workers, MB", xlabel="seconds", ylim=(0, None))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"plots: {path}")


if __name__ == "__main__":
    sys.exit(main())
