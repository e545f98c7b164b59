#!/usr/bin/env bash
# molecule.sh [SCENARIO|all|none] [COMMAND ARGUMENTS...]: runs molecule's scenarios, each role's and `cluster`.
# Sets up what it needs in .cache/ansible and, as root on Debian, by apt. Default: all, test.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=$repository/.cache/ansible
packages=(podman runc netavark aardvark-dns iptables mmdebstrap openssh-client python3-venv ca-certificates)
at_once=2 # scenarios: each keeps about one core busy

install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query --show --showformat '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  ((${#missing[@]} == 0)) && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# The longest first.
scenarios() {
  local folder
  echo cluster
  for folder in "$repository"/roles/*/molecule/default; do
    basename "$(dirname "$(dirname "$folder")")"
  done
}

# One of several at a time: what it prints comes in one piece, once it has ended.
run_beside_others() { # SCENARIO COMMAND...
  local log=$logs/$1.log ended=0
  "$MOLECULE_REPOSITORY/ansible/molecule/scenario.sh" "$@" >"$log" 2>&1 || ended=$?
  flock "$logs" cat "$log"
  rm "$log"
  return "$ended"
}

scenario=${1:-all}
(($# > 0)) && shift
(($# > 0)) || set -- test
command=$1

# Leaves no process behind: `test` has its hosts removed, also after a failure that kept molecule from it.
clean_up() {
  trap '' HUP INT TERM # one that comes twice, by a group and by make, is not to end this
  local log
  for log in "$logs"/*.log; do
    printf '\n=== cut off: %s\n' "$log"
    tail --lines 100 "$log"
  done
  rm -rf "$logs"
  [[ $command != test ]] || "$repository/ansible/testbed/remove-hosts.sh"
}

if [[ $scenario != all && $scenario != none ]] && ! scenarios | grep -xF -- "$scenario" >/dev/null; then
  echo "no scenario $scenario; there are: $(scenarios | xargs)" >&2
  exit 2
fi

install_packages
"$repository/ansible/environment.sh"
export PATH=$cache/venv/bin:$PATH
export CONTAINERS_CONF=$repository/ansible/testbed/containers.conf
export ANSIBLE_ROLES_PATH=$repository/roles
export MOLECULE_REPOSITORY=$repository
export ANSIBLE_VAULT_PASSWORD_FILE=$repository/inventories/vagrant/vault-password.txt
# A stand-in for CouchDB knows no clusters: one host is enough for it.
MOLECULE_COUCHDB=$([[ -n ${COUCHDB_DEB-} ]] && echo molecule || echo couchdb-1)
export MOLECULE_COUCHDB
export MOLECULE_SHARED=$repository/ansible/molecule/shared
shopt -s nullglob
logs=$(mktemp -d)
export logs
trap clean_up EXIT
"$repository/ansible/testbed/make-image.sh"
ANSIBLE_LOCALHOST_WARNING=false ANSIBLE_INVENTORY_UNPARSED_WARNING=false \
  ansible-playbook "$MOLECULE_SHARED"/{wheelhouse,couchdb_package}.yml

if [[ $scenario == none ]]; then
  exit 0 # all is set up
elif [[ $scenario == all ]]; then
  export -f run_beside_others
  scenarios | xargs --max-procs "$at_once" --replace bash -c 'run_beside_others "$@"' - '{}' "$@"
else
  "$repository/ansible/molecule/scenario.sh" "$scenario" "$@"
fi
