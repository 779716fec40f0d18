#!/usr/bin/env bash
# Moves the pins by scripts/update and keeps one pull request with what has moved, from the branch `update`.
# Needs nix, and gh with GH_TOKEN and GH_REPO.
set -eu
said=$(mktemp)
scripts/update >"$said"
cat "$said"
git diff --quiet -- nix || {
  git switch --quiet --force-create update
  git -c user.name=update -c user.email=update@users.noreply.github.com commit --quiet -m "Move to newer versions" -- nix
  gh auth setup-git
  git push --quiet --force origin update
  gh pr create --head update --title "Move to newer versions" --body-file "$said" ||
    gh pr edit update --body-file "$said"
}
