#!/usr/bin/env bash
# make-image.sh [IMAGE]: builds the test host, Debian 12 with systemd and sshd, and imports it into podman.
# Does nothing where the image was built by this very script. Needs root and what molecule.sh installs.
set -euo pipefail

image=${1:-localhost/dcron-test-host:latest}
made_by=$(sha256sum "${BASH_SOURCE[0]}" | cut -d' ' -f1)
label=dcron.made_by

if [[ $(podman image inspect --format "{{index .Labels \"$label\"}}" "$image" 2>/dev/null) == "$made_by" ]]; then
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
extra=$work/extra
mkdir -p "$extra/usr/local/share/ca-certificates" "$extra/etc/apt/apt.conf.d" "$extra/etc/systemd/system"

# Certificates that this machine trusts beyond Debian's own, as those of a mirror: downloads inside need them too.
python3 - "$extra/usr/local/share/ca-certificates" <<'PYTHON'
import pathlib
import re
import sys

target = pathlib.Path(sys.argv[1])
pattern = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def bare(certificate):
    return "".join(certificate.split())


debian = {
    bare(certificate)
    for path in pathlib.Path("/usr/share/ca-certificates").rglob("*.crt")
    for certificate in pattern.findall(path.read_text())
}
trusted = pattern.findall(pathlib.Path("/etc/ssl/certs/ca-certificates.crt").read_text())
own = [certificate for certificate in trusted if bare(certificate) not in debian]
for number, certificate in enumerate(own):
    (target / f"test-host-{number}.crt").write_text(certificate + "\n")
PYTHON

printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$extra/etc/pip.conf"
printf 'Acquire::Languages "none";\nAPT::Install-Recommends "false";\n' >"$extra/etc/apt/apt.conf.d/90test-host"
cat >"$extra/etc/systemd/system/ssh-hostkeys.service" <<'UNIT'
[Unit]
Before=ssh.service
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
[Install]
WantedBy=multi-user.target
UNIT
# On a host of its own systemd shares all mounts with the units; in a container it leaves that to the container's
# manager, which does not. Without it credentials do not reach the units.
cat >"$extra/etc/systemd/system/shared-mounts.service" <<'UNIT'
[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/mount --make-rshared /
[Install]
WantedBy=sysinit.target
UNIT

packages=systemd,systemd-sysv,libpam-systemd,dbus,python3,python3-apt,python3-venv,sudo,iproute2,procps
packages+=,ca-certificates,curl,openssh-server,nodejs
# What has no meaning in a container, or would start by itself while a test runs.
masked=(systemd-sysctl.service systemd-modules-load.service systemd-udevd.service systemd-binfmt.service
  proc-sys-fs-binfmt_misc.automount console-getty.service apt-daily.timer apt-daily-upgrade.timer)

# With package lists, which are valid for a day: not each host is to fetch them.
mmdebstrap --quiet --variant=minbase --include="$packages" --skip=cleanup/apt/lists \
  --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --customize-hook="sync-in $extra /" \
  --customize-hook='chroot "$1" update-ca-certificates' \
  --customize-hook="chroot \"\$1\" systemctl mask ${masked[*]}" \
  --customize-hook='chroot "$1" systemctl set-default multi-user.target' \
  --customize-hook='rm -f "$1"/etc/ssh/ssh_host_*; mkdir -p -m700 "$1/root/.ssh"' \
  --customize-hook='chroot "$1" systemctl enable ssh-hostkeys.service ssh.service shared-mounts.service' \
  bookworm "$work/root.tar"
podman import --quiet --change 'CMD ["/sbin/init"]' --change 'STOPSIGNAL SIGRTMIN+3' --change 'ENV container=podman' \
  --change "LABEL $label=$made_by" "$work/root.tar" "$image"
