# headscale-drift SYSTEM: prints a line for each change of headscale by hand since SYSTEM was deployed.

cmp -s /etc/headscale/policy.hujson "$1/etc/headscale/policy.hujson" ||
  echo "/etc/headscale/policy.hujson is not the policy that was deployed"
