"""One way to run something on the server: pulumi-command's defaults are not what this program needs."""

from collections.abc import Sequence

import pulumi
from pulumi_command import remote


def command(
    name: str,
    create: str,
    stdin: pulumi.Input[str] | None,
    *,
    connection: remote.ConnectionArgs,
    parent: pulumi.Resource,
    after: pulumi.Resource | None = None,
    secret: bool = False,
    once_for: Sequence[pulumi.Input[str]] | None = None,
    unless: pulumi.Output[bool] | None = None,
) -> remote.Command:
    """Run `create` on the server again whenever an input changes; with `once_for`, only when one of these does.

    Where `unless` is true, it is not run again, whatever has changed.

    The output of a `secret` command is neither logged nor kept in clear. There is never a `delete`: after a
    replacement it would run against the new server.
    """
    return remote.Command(
        name,
        connection=connection,
        create=create,
        stdin=stdin,
        triggers=list(once_for) if once_for else None,
        logging=remote.Logging.NONE if secret else None,
        # sshd would have to accept two variables that nothing here reads.
        add_previous_output_in_env=False,
        opts=pulumi.ResourceOptions(
            parent=parent,
            depends_on=[after] if after else [],
            additional_secret_outputs=["stdout", "stderr"] if secret else [],
            ignore_changes=["connection", "stdin"] if once_for else [],
            transforms=[_kept_if(unless)] if unless else [],
        ),
    )


def _kept_if(condition: pulumi.Output[bool]) -> pulumi.ResourceTransform:
    """Ignores all changes of a resource where the condition, which only an Output knows, is true."""

    async def keep(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
        if not await condition.future():
            return None
        ignored = pulumi.ResourceOptions(ignore_changes=["connection", "create", "stdin", "triggers"])
        return pulumi.ResourceTransformResult(args.props, pulumi.ResourceOptions.merge(args.opts, ignored))

    return keep
