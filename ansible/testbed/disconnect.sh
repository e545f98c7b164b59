#!/usr/bin/env bash
# disconnect.sh FOLDER: ends the ssh connections that are kept open by sockets in a folder.
set -euo pipefail
shopt -s nullglob

for socket in "${1:?a folder}"/*; do
  # One that has just ended by itself is no error.
  ssh -o ControlPath="$socket" -O exit unused 2>/dev/null || true
done
