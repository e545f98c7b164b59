#!/usr/bin/env bash
# molecule.sh [SCENARIO|all|none|list] [COMMAND ARGUMENTS...]: runs molecule's scenarios, each role's and `cluster`.
# Sets up what it needs in .cache/ansible and, as root on Debian, by apt. Default: all, test.
# In a run of CI roles take turns: DCRON_TEST_SHARE=1, 2 or 3 leaves out of `all` those of the other two.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=$repository/.cache/ansible
packages=(podman runc netavark aardvark-dns iptables mmdebstrap openssh-client python3-venv ca-certificates)
at_once=2 # scenarios: each keeps about one core busy
declare -A share_of=([couchdb]=1 [minio]=2 [dcron_client]=3 [dcron_node]=3 [dcron_pki]=3)

# The longest first.
scenarios() {
  local folder
  echo cluster
  for folder in "$repository"/roles/*/molecule/default; do
    basename "$(dirname "$(dirname "$folder")")"
  done
}

# Those whose turn it is; all where no share is asked for, and each time one that no share has.
scenarios_in_turn() {
  local name share=${DCRON_TEST_SHARE-}
  for name in $(scenarios); do
    [[ -n $share && ${share_of[$name]-$share} != "$share" ]] || echo "$name"
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
if [[ $scenario == list ]]; then
  scenarios_in_turn
  exit 0
fi
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
  [[ $command != test ]] || "$repository/ansible/testbed/remove-hosts.sh" molecule
}

if [[ $scenario != all && $scenario != none ]] && ! scenarios | grep -xF -- "$scenario" >/dev/null; then
  echo "no scenario $scenario; there are: $(scenarios | xargs)" >&2
  exit 2
fi

"$repository/ansible/packages.sh" "${packages[@]}"
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
# What all scenarios share is made by one at a time; others find it done.
exec 9>"$cache/shared.lock"
flock 9
"$repository/ansible/testbed/make-image.sh"
ANSIBLE_LOCALHOST_WARNING=false ANSIBLE_INVENTORY_UNPARSED_WARNING=false \
  ansible-playbook "$MOLECULE_SHARED"/{wheelhouse,couchdb_package}.yml
exec 9>&-

if [[ $scenario == none ]]; then
  exit 0 # all is set up
elif [[ $scenario == all ]]; then
  export -f run_beside_others
  scenarios_in_turn | xargs --max-procs "$at_once" --replace bash -c 'run_beside_others "$@"' - '{}' "$@"
else
  "$repository/ansible/molecule/scenario.sh" "$scenario" "$@"
fi
