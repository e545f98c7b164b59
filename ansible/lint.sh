#!/usr/bin/env bash
# lint.sh: yamllint, and ansible-lint with its profile "production", over the whole bundle.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
"$repository/ansible/environment.sh"
export PATH=$repository/.cache/ansible/venv/bin:$PATH
export ANSIBLE_VAULT_PASSWORD_FILE=$repository/inventories/vagrant/vault-password.txt
cd "$repository"
yamllint --strict .
ansible-lint
