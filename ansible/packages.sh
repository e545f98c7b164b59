#!/usr/bin/env bash
# packages.sh PACKAGE...: installs those Debian packages that are missing. Of several that ask, one at a time.
set -euo pipefail

cache=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)/.cache/ansible
mkdir -p "$cache"
exec 9>"$cache/packages.lock"
flock 9

missing=()
for package in "$@"; do
  dpkg-query --show --showformat '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
((${#missing[@]} > 0)) || exit 0
# Without the lock: what a package starts would keep it.
apt-get update -qq 9>&-
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" 9>&-
