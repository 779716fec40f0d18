"""Run something on the server by pulumi-command, with other defaults than its own."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi_command import remote


def command(
    name: str,
    create: str,
    stdin: pulumi.Input[str] | None,
    *,
    purpose: str,
    connection: remote.ConnectionArgs,
    parent: pulumi.Resource,
    after: pulumi.Resource | None = None,
    secret: bool = False,
    triggers: Sequence[pulumi.Input[str]] | None = None,
    unless: pulumi.Output[bool] | None = None,
) -> remote.Command:
    """Run `create` on the server again whenever an input changes; with `triggers`, only when one of these does.

    A preview in which it is to run says its `purpose`: what it does, and how long that takes.
    Where `unless` is true it is not run again, even if inputs have changed. The output of a `secret` command is neither
    logged nor kept in clear. A command never has a `delete`: after a replacement it would run against the new server.
    """
    resource = remote.Command(
        name,
        connection=connection,
        create=create,
        stdin=stdin,
        triggers=list(triggers) if triggers else None,
        logging=remote.Logging.NONE if secret else None,
        # sshd would have to accept two variables that nothing here reads.
        add_previous_output_in_env=False,
        opts=pulumi.ResourceOptions(
            parent=parent,
            depends_on=[after] if after else [],
            additional_secret_outputs=["stdout", "stderr"] if secret else [],
            ignore_changes=["connection", "stdin"] if triggers else [],
            transforms=[_kept_if(unless)] if unless else [],
        ),
    )
    if pulumi.runtime.is_dry_run():
        _: pulumi.Output[None] = pulumi.Output.from_input(_say(purpose, resource))
    return resource


async def _say(purpose: str, resource: remote.Command) -> None:
    if not await resource.stdout.is_known():
        pulumi.log.info(purpose, resource)


def answer(command: remote.Command) -> pulumi.Output[dict[str, Any]]:
    """The JSON that a command printed; its values are empty where the operator's `--target` left it out."""
    return command.stdout.apply(lambda text: defaultdict(str, json.loads(text or "{}")))


def _kept_if(condition: pulumi.Output[bool]) -> pulumi.ResourceTransform:
    """A transform that ignores all changes of a resource where the condition, known at run time only, is true."""

    async def keep(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
        if not await condition.future():
            return None
        ignored = pulumi.ResourceOptions(ignore_changes=["connection", "create", "stdin", "triggers"])
        return pulumi.ResourceTransformResult(args.props, pulumi.ResourceOptions.merge(args.opts, ignored))

    return keep
