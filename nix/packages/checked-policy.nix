# The policy, checked by headscale: one that it refuses fails the build, before anything is activated.
{
  headscale,
  runCommand,
  configFile,
  policy,
}:
runCommand "policy.hujson" { nativeBuildInputs = [ headscale ]; } ''
  export HEADSCALE_NOISE_PRIVATE_KEY_PATH=$PWD/noise_private.key
  export HEADSCALE_DATABASE_SQLITE_PATH=$PWD/db.sqlite
  # headscale 0.30 has another name for it than 0.29.
  without_server=$(headscale policy check --help | grep -o -m 1 -e '--bypass-[a-z-]*')
  headscale --config ${configFile} policy check --file ${policy} --force "$without_server" >verdict 2>&1 ||
    # There are no users here: a policy that names one is judged on the server.
    grep 'user not found' verdict || { cat verdict >&2; exit 1; }
  cp ${policy} $out
''
