# A SOPS file and the age key that opens it, for this check only: anyone may read them in the store.
mkdir "$out"
age-keygen -o "$out/key.txt"
digits=$(printf '%064d' 1)
cat >plain.yaml <<YAML
headscale_noise_private_key: privkey:$digits
headscale_api_key: hskey-api-000000000001-$digits
YAML
sops encrypt --age "$(age-keygen -y "$out/key.txt")" plain.yaml >"$out/secrets.yaml"
