#!/usr/bin/env bash
# remove-hosts.sh: removes the podman hosts that tests of this checkout have left.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
export CONTAINERS_CONF=$repository/ansible/testbed/containers.conf

command -v podman >/dev/null || exit 0
podman ps --all --quiet --filter "label=dcron.test=$repository" |
  xargs --no-run-if-empty podman rm --force --volumes --time 1 >/dev/null
