# The policy, once headscale has read it: one that it refuses fails the build, before anything is activated.
{
  headscale,
  runCommand,
  configFile,
  policy,
}:
runCommand "policy.hujson" { nativeBuildInputs = [ headscale ]; } ''
  export HEADSCALE_NOISE_PRIVATE_KEY_PATH=$PWD/noise_private.key
  export HEADSCALE_DATABASE_SQLITE_PATH=$PWD/db.sqlite
  headscale --config ${configFile} policy check --file ${policy} \
    --force --bypass-grpc-and-access-database-directly
  cp ${policy} $out
''
