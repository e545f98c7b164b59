#!/usr/bin/env bash
# molecule.sh [SCENARIO|all|none] [COMMAND ARGUMENTS...]: runs molecule's scenarios, each role's and `cluster`.
# Sets up what it needs in .cache/ansible and, as root on Debian, by apt. Default: all, test.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=$repository/.cache/ansible
packages=(podman runc netavark aardvark-dns iptables mmdebstrap openssh-client python3-venv ca-certificates)

install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query --show --showformat '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  ((${#missing[@]} == 0)) && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

scenarios() {
  local folder
  for folder in "$repository"/roles/*/molecule/default; do
    basename "$(dirname "$(dirname "$folder")")"
  done
  echo cluster
}

run() { # SCENARIO COMMAND...
  local name=default folder=$repository/roles/$1 started=$SECONDS
  if [[ $1 == cluster ]]; then
    name=cluster folder=$repository/ansible
  fi
  if [[ ! -f $folder/molecule/$name/molecule.yml ]]; then
    echo "no scenario $1; there are: $(scenarios | xargs)" >&2
    return 2
  fi
  printf '\n=== molecule %s of %s\n' "$2" "$1"
  (cd "$folder" && molecule --base-config "$repository/.config/molecule/config.yml" "$2" --scenario-name "$name" "${@:3}")
  printf '=== molecule %s of %s: done in %d s\n' "$2" "$1" $((SECONDS - started))
}

scenario=${1:-all}
(($# > 0)) && shift
(($# > 0)) || set -- test
command=$1

# Leaves no process behind: `test` has its hosts removed, also after a failure that kept molecule from it.
clean_up() {
  "$repository/ansible/testbed/disconnect.sh" "$MOLECULE_SOCKETS"
  rm -rf "$MOLECULE_SOCKETS"
  [[ $command != test ]] || "$repository/ansible/testbed/remove-hosts.sh"
}

install_packages
"$repository/ansible/environment.sh"
export PATH=$cache/venv/bin:$PATH
export CONTAINERS_CONF=$repository/ansible/testbed/containers.conf
export ANSIBLE_ROLES_PATH=$repository/roles
# By the environment, which testinfra reads as ansible does; create.yml makes these files.
export MOLECULE_KEYS=$cache/keys
MOLECULE_SOCKETS=$(mktemp -d /tmp/dcron-ssh.XXXXXX) # a socket's path has to be short
export MOLECULE_SOCKETS
ANSIBLE_SSH_COMMON_ARGS="-o IdentityFile=$MOLECULE_KEYS/id_ed25519 -o IdentitiesOnly=yes -o UserKnownHostsFile=$MOLECULE_KEYS/known_hosts"
ANSIBLE_SSH_COMMON_ARGS+=" -o ControlMaster=auto -o ControlPersist=60s -o ControlPath=$MOLECULE_SOCKETS/%C"
export ANSIBLE_SSH_COMMON_ARGS
export MOLECULE_REPOSITORY=$repository
export ANSIBLE_VAULT_PASSWORD_FILE=$repository/inventories/vagrant/vault-password.txt
# A stand-in for CouchDB knows no clusters: one host is enough for it.
MOLECULE_COUCHDB=$([[ -n ${COUCHDB_DEB-} ]] && echo molecule || echo couchdb-1)
export MOLECULE_COUCHDB
export MOLECULE_SHARED=$repository/ansible/molecule/shared
trap clean_up EXIT
"$repository/ansible/testbed/make-image.sh"

if [[ $scenario == none ]]; then
  exit 0 # all is set up
elif [[ $scenario == all ]]; then
  for each in $(scenarios); do
    run "$each" "$@"
  done
else
  run "$scenario" "$@"
fi
