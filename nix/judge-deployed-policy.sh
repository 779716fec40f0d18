# judge-deployed-policy PREVIOUS SYSTEM: whether headscale takes the policy of SYSTEM. headscale of PREVIOUS, which runs, knows
# the users and nodes that the policy's tests are about.

before=$1/etc/headscale/policy-with-tests.hujson
after=$2/etc/headscale/policy-with-tests.hujson

# For reload-policy.sh.
cmp -s /etc/headscale/policy.hujson "$1/etc/headscale/policy.hujson" || touch /run/headscale-policy.replaced

systemctl is-active --quiet headscale.service || exit 0
status=0
words=$(PATH=$1/sw/bin:$PATH sh /etc/nixos/remote/judge-policy.sh "$after") || status=$?
case $status in
0) ;;
1)
  cmp -s "$before" "$after" || {
    echo "headscale refuses the policy: $words"
    exit 1
  }
  echo "warning: headscale refuses the policy that it serves by now: $words"
  ;;
2) echo "warning: the policy names what is not there yet, and is not tested: $words" ;;
*) echo "warning: headscale gave no verdict on the policy: $words" ;;
esac
