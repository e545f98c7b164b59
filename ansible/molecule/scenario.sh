#!/usr/bin/env bash
# scenario.sh SCENARIO COMMAND [ARGUMENTS...]: has molecule do a command on one scenario, with ssh keys and connections
# of its own. Called by molecule.sh, which has set up what it needs.
set -euo pipefail

repository=$MOLECULE_REPOSITORY
name=default folder=$repository/roles/$1 started=$SECONDS
settings=(--base-config "$repository/.config/molecule/config.yml")
if [[ $1 == cluster ]]; then
  name=cluster folder=$repository/ansible
  # Of what site.yml is to stand, each share of CI's runs tries a part; the first has make vagrant-check besides.
  case ${DCRON_TEST_SHARE-} in
    1) steps='converge' ;;
    2) steps='converge, idempotence' ;;
    3) steps='check, converge, check' ;;
    *) steps='check, converge, idempotence, check' ;;
  esac
  sequence="[destroy, create, prepare, $steps, side_effect, verify, destroy]"
  printf 'scenario: { test_sequence: %s }\n' "$sequence" >"$repository/.cache/ansible/cluster-sequence.yml"
  settings+=(--base-config "$repository/.cache/ansible/cluster-sequence.yml")
fi

clean_up() {
  trap '' HUP INT TERM # one that comes twice, by a group and by make, is not to end this
  "$repository/ansible/testbed/disconnect.sh" "$MOLECULE_SOCKETS"
  rm -rf "$MOLECULE_SOCKETS"
}

# By the environment, which testinfra reads as ansible does; create.yml makes these files.
export MOLECULE_KEYS=$repository/.cache/ansible/keys/$1
MOLECULE_SOCKETS=$(mktemp -d /tmp/dcron-ssh.XXXXXX) # a socket's path has to be short
export MOLECULE_SOCKETS
trap clean_up EXIT
ANSIBLE_SSH_COMMON_ARGS="-o IdentityFile=$MOLECULE_KEYS/id_ed25519 -o IdentitiesOnly=yes -o UserKnownHostsFile=$MOLECULE_KEYS/known_hosts"
ANSIBLE_SSH_COMMON_ARGS+=" -o ControlMaster=auto -o ControlPersist=60s -o ControlPath=$MOLECULE_SOCKETS/%C"
export ANSIBLE_SSH_COMMON_ARGS
# CI gathers from these reports which tests took longest.
[[ -z ${DCRON_TEST_REPORTS-} ]] || export PYTEST_ADDOPTS="--junitxml=$DCRON_TEST_REPORTS/molecule-$1.xml"
export PYTHONUNBUFFERED=1 # what is cut off is to show how far it came

printf '\n=== molecule %s of %s\n' "$2" "$1"
cd "$folder"
molecule "${settings[@]}" "$2" --scenario-name "$name" "${@:3}"
printf '=== molecule %s of %s: done in %d s\n' "$2" "$1" $((SECONDS - started))
