#!/usr/bin/env bash
# vagrant_check.sh: the Vagrantfile on Vagrant's docker provider, with podman in docker's place: validate, up,
# provision, provision again without a change, a job, destroy. S3 is a stand-in, and CouchDB too unless COUCHDB_DEB
# names a real package.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=$repository/.cache/ansible
image=localhost/dcron-test-host-vagrant:latest
network=dcron-vagrant

command -v vagrant >/dev/null || "$repository/ansible/packages.sh" vagrant
"$repository/ansible/molecule.sh" none # what both need

keys=$cache/keys/vagrant
mkdir -p "$cache/shim" "$keys" "$cache/vagrant"
ln -sf "$(command -v podman)" "$cache/shim/docker"
[[ -e $keys/id_ed25519 ]] || ssh-keygen -q -t ed25519 -N '' -f "$keys/id_ed25519"

export PATH=$cache/shim:$cache/venv/bin:$PATH
export CONTAINERS_CONF=$repository/ansible/testbed/containers.conf
export VAGRANT_DEFAULT_PROVIDER=docker VAGRANT_DOTFILE_PATH=$cache/vagrant
export DCRON_VAGRANT_USER=root DCRON_VAGRANT_KEY=$keys/id_ed25519
export DCRON_VAGRANT_IMAGE=$image DCRON_VAGRANT_NETWORK=$network
export MOLECULE_REPOSITORY=$repository
ANSIBLE_SSH_CONTROL_PATH_DIR=$(mktemp -d /tmp/dcron-ssh.XXXXXX) # a socket's path has to be short
export ANSIBLE_SSH_CONTROL_PATH_DIR
export ANSIBLE_VAULT_PASSWORD_FILE=$repository/inventories/vagrant/vault-password.txt
given=(-e "@$repository/ansible/testbed/vagrant-standins.yml" -e "dcron_node_wheelhouse=$cache/wheelhouse")
[[ -n ${COUCHDB_DEB-} ]] || given+=(-e "@$repository/ansible/testbed/vagrant-couchdb-standin.yml")
export DCRON_VAGRANT_ARGUMENTS="${given[*]} --skip-tags minio"

cd "$repository"
clean_up() {
  "$repository/ansible/testbed/disconnect.sh" "$ANSIBLE_SSH_CONTROL_PATH_DIR"
  vagrant destroy --force >/dev/null || true
  "$repository/ansible/testbed/remove-hosts.sh" vagrant
  podman network rm --force "$network" >/dev/null || true
}
# A signal that comes twice, by a group and by make, is not to end this.
trap 'trap "" HUP INT TERM; clean_up; rm -rf "$ANSIBLE_SSH_CONTROL_PATH_DIR"' EXIT
clean_up

vagrant validate
podman build --quiet --tag "$image" --file - "$keys" <<IMAGE
FROM localhost/dcron-test-host:latest
COPY id_ed25519.pub /root/.ssh/authorized_keys
RUN chmod 0600 /root/.ssh/authorized_keys
IMAGE
podman network create --subnet 192.168.56.0/24 "$network" >/dev/null
vagrant up --no-provision

ansible-playbook -i inventories/vagrant -i ansible/testbed/vagrant-s3.yml "${given[@]}" \
  ansible/molecule/shared/s3_standin.yml
export COUCHDB_DEB=$cache/couchdb.deb
COUCHDB_DEB_CHECKSUM=$(<"$cache/couchdb.deb.sha256")
export COUCHDB_DEB_CHECKSUM

vagrant provision
vagrant provision | tee "$cache/second-provision.log"
if grep -E 'changed=[1-9]' "$cache/second-provision.log"; then
  echo 'the second provision changed something' >&2
  exit 1
fi

vagrant ssh node2 -c "echo 'echo ran on \$DCRON_NODE' | dcron job create first --interpreter sh --schedule '@daily' --timeout 1m -"
vagrant ssh node3 -c 'dcron execution log --follow "$(dcron job run first)"' | tee /dev/stderr | grep -q 'ran on node'
vagrant destroy --force
