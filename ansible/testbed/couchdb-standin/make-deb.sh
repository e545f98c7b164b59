#!/usr/bin/env bash
# make-deb.sh DEB: packs npm's pouchdb-server as a stand-in for Apache's package of CouchDB, for tests alone.
# Does nothing where the package is newer than what it is made of: hosts may just be installing it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
repository=$(cd "$here/../../.." && pwd -P)
target=$1
program=$(cd "$repository" && python3 -c 'from tests.couchdb_server import couch_server_program as p; print(p())')
if [[ -e $target && -z $(find "$here" "$program" -newer "$target" -print -quit) ]]; then
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work"/{DEBIAN,opt/couchdb/{bin,etc/{default.d,local.d},standin},var/{lib,log}/couchdb,lib/systemd/system}
chmod 0755 "$work"
cp "$here/couchdb" "$work/opt/couchdb/bin/couchdb"
cp -R "${program%/pouchdb-server/bin/pouchdb-server}" "$work/opt/couchdb/standin/node_modules"
printf '; a stand-in for CouchDB\n' >"$work/opt/couchdb/etc/default.ini"
cat >"$work/lib/systemd/system/couchdb.service" <<'UNIT'
[Unit]
Description=A stand-in for CouchDB (pouchdb-server)
[Service]
User=couchdb
Group=couchdb
ExecStart=/opt/couchdb/bin/couchdb
Restart=always
[Install]
WantedBy=multi-user.target
UNIT
cat >"$work/DEBIAN/control" <<'CONTROL'
Package: couchdb
Version: 3.5.0~standin
Architecture: all
Maintainer: The dcron project <dcron@example.org>
Depends: adduser, nodejs
Description: A stand-in for CouchDB (pouchdb-server), for tests alone
CONTROL
cat >"$work/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
getent passwd couchdb >/dev/null || adduser --system --quiet --home /opt/couchdb --no-create-home --group couchdb
chown -R couchdb:couchdb /opt/couchdb/etc /var/lib/couchdb /var/log/couchdb
POSTINST
chmod 0755 "$work/DEBIAN/postinst"
dpkg-deb --root-owner-group -Zgzip --build "$work" "$target.part" >/dev/null
mv "$target.part" "$target"
