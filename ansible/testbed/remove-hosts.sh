#!/usr/bin/env bash
# remove-hosts.sh [molecule|vagrant]: removes the podman hosts that tests of this checkout have left, or those of one.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
export CONTAINERS_CONF=$repository/ansible/testbed/containers.conf

command -v podman >/dev/null || exit 0
filters=(--filter "label=dcron.test=$repository")
(($# == 0)) || filters+=(--filter "label=dcron.test.by=$1")
podman ps --all --quiet "${filters[@]}" |
  xargs --no-run-if-empty podman rm --force --volumes --time 1 >/dev/null
