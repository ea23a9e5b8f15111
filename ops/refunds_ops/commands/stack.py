"""`refunds stack`: the stack that commands work on."""

from __future__ import annotations

import json
from dataclasses import replace

import click

from refunds_ops.errors import NotReadyError, RefusedError
from refunds_ops.json_output import json_option
from refunds_ops.lazy import CommandGroup
from refunds_ops.stack.adoption import adopt as adopt_kept
from refunds_ops.stack.adoption import find_deleted
from refunds_ops.stack.day_index import index_days, pages_without_day
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.terminal import print_json, print_line
from refunds_ops.work_progress import progress_of


@click.group(cls=CommandGroup)
def stack() -> None:
    """Show the stack's outputs, set its key, adopt a deleted stack, or index its days."""


@stack.command()
@click.argument("name", required=False)
@json_option({"…": "each output by its name; only NAME when it is given"})
@click.pass_obj
def outputs(stack_name: str | None, name: str | None, as_json: bool) -> None:
    """Print one output of the stack, or all of them as NAME=value."""
    found = find_stack(stack_name)
    if name is not None and name not in found.outputs:
        raise NotReadyError(
            f"{found.where} has no output {name}.", "To list them: refunds stack outputs"
        )
    if as_json:
        names = [name] if name is not None else sorted(found.outputs)
        print_json({each: found[each] for each in names})
        return
    if name is not None:
        print_line(found[name])
        return
    for each, value in sorted(found.outputs.items()):
        print_line(f"{each}={value}")


@stack.command()
@click.option(
    "--leave",
    multiple=True,
    metavar="LOGICAL_ID",
    help="Leave this resource out. May be given many times.",
)
@click.option("--yes", is_flag=True, help="Do it. Without --yes, only show what would be adopted.")
@json_option(
    {
        "stack_id": "of the deleted stack",
        "kept": "logical_id and physical_id of each resource",
        "adopted": "whether they are the stack's again (with --yes)",
    }
)
@click.pass_obj
def adopt(stack_name: str | None, leave: tuple[str, ...], *, yes: bool, as_json: bool) -> None:
    """Give a deleted stack its data back, before it is deployed again.

    Deleting a stack keeps its tables, buckets, queues, secrets, keys and logs. This creates the
    stack again out of them; `sam deploy` then adds the rest (docs/deploying.md).
    """
    if not stack_name:
        raise click.UsageError("Name the deleted stack: --stack NAME")
    cloudformation = Stack(f"the stack {stack_name}", {}).cloudformation
    deleted = find_deleted(cloudformation, stack_name)
    if unknown := set(leave) - {each.logical_id for each in deleted.kept}:
        raise click.UsageError(f"{stack_name} left no {', '.join(sorted(unknown))} behind.")
    kept = tuple(each for each in deleted.kept if each.logical_id not in leave)
    if not kept:
        raise RefusedError(f"{stack_name} left nothing behind: deploy it as a new one.")
    if not as_json:
        print_line(f"{deleted.stack_id}\nleft behind:")
        for each in kept:
            print_line(f"  {each.logical_id:26} {each.physical_id}")
    if yes:
        adopt_kept(cloudformation, replace(deleted, kept=kept))
    if as_json:
        names = [{"logical_id": each.logical_id, "physical_id": each.physical_id} for each in kept]
        print_json({"stack_id": deleted.stack_id, "kept": names, "adopted": yes})
    elif yes:
        print_line(f"{stack_name} has its data again. Now deploy it: sam build && sam deploy")
    else:
        print_line("Nothing was changed. With --yes they are the stack's again.")


@stack.command("index-days")
@click.option("--dry-run", is_flag=True, help="Only say how many refunds are missing.")
@click.option(
    "--per-second",
    type=click.IntRange(0, 10_000),
    default=100,
    show_default=True,
    help="Write at most this many refunds per second; 0 sets no limit.",
)
@json_option({"missing": "refunds that the index did not have", "indexed": "of them, by this call"})
@click.pass_obj
def index_days_(stack_name: str | None, *, dry_run: bool, per_second: int, as_json: bool) -> None:
    """Put refunds of release 0.1.0 into the index of days.

    That release did not write the index's key, so `refunds list --day`, `totals` and `statement`
    leave its refunds out. Run it once after the update, and after restoring a backup of that
    release. Reads the whole table once. Each refund costs two write units. You can stop and repeat
    it.
    """
    found = find_stack(stack_name)
    missing = sum(len(page) for page in pages_without_day(found))
    written = 0
    if missing and not dry_run:
        with progress_of("indexed", missing) as on_progress:
            written = index_days(found, per_second=per_second, on_progress=on_progress)
    if as_json:
        print_json({"missing": missing, "indexed": written})
    elif not missing:
        print_line("Every refund is in the index of days.")
    elif dry_run:
        print_line(f"Not in the index of days: {missing:,}. Put them there: without --dry-run")
    else:
        print_line(f"Put into the index of days: {written:,} of {missing:,}.")


@stack.command("set-key")
@click.option(
    "--gateway-name", help="A gateway of GatewayRoutes.  [default: the stack's first gateway]"
)
@json_option({"secret": "where the key is stored now"})
@click.pass_obj
def set_key(stack_name: str | None, gateway_name: str | None, *, as_json: bool) -> None:
    """Store a gateway's API key in Secrets Manager.

    Asks for the key without showing it, or reads it from standard input. The key is never an
    argument, so it is in no shell's history. The functions use the new key within five minutes.
    """
    found = find_stack(stack_name)
    if gateway_name and "RoutedGatewaySecretArn" not in found.outputs:
        raise NotReadyError(
            f"{found.where} has one gateway, so there is no key to choose by name.",
            "Leave --gateway-name out, or deploy with GatewayRoutes first (docs/gateways.md).",
        )
    arn = found["RoutedGatewaySecretArn" if gateway_name else "GatewaySecretArn"]
    stdin = click.get_text_stream("stdin")
    given = click.prompt("API key", hide_input=True) if stdin.isatty() else stdin.readline()
    key = str(given).strip()
    if not key or any(character.isspace() for character in key):
        raise RefusedError(
            "That is not a key: a key is one word, on one line.", "Nothing was stored."
        )
    if gateway_name:
        stored = found.secrets.get_secret_value(SecretId=arn)["SecretString"]
        key = json.dumps(_keys_in(stored) | {gateway_name: key})
    found.secrets.put_secret_value(SecretId=arn, SecretString=key)
    if as_json:
        print_json({"secret": arn})
    else:
        print_line(f"Stored in {found.where}. Check it: refunds key check")


def _keys_in(secret: str) -> dict[str, str]:
    try:
        keys = json.loads(secret)
    except ValueError:
        keys = None
    if not isinstance(keys, dict):
        raise RefusedError(
            "The routed secret is not a JSON object, so no key can be added to it.",
            'Put one there by hand: {"stripe": "…"}',
        )
    return keys
