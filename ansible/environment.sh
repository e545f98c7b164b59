#!/usr/bin/env bash
# environment.sh: makes the Python environment of the Ansible bundle and its tests, .cache/ansible/venv.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=$repository/.cache/ansible
pins=("$repository"/ansible/requirements{,-test}.txt)

mkdir -p "$cache"
exec 9>"$cache/environment.lock"
flock 9 # one at a time makes it, and others wait

# .pins is written last, so that an installation that was interrupted is made again.
if ! cmp -s <(cat "${pins[@]}") "$cache/venv/.pins"; then
  python3 -m venv --clear "$cache/venv"
  "$cache/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "${pins[1]}"
  cat "${pins[@]}" >"$cache/venv/.pins"
fi
