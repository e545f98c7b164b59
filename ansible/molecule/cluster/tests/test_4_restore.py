"""backup.yml, everything wiped, restore.yml: what was is there again, and nothing is started for the past."""

from datetime import UTC, datetime

from conftest import NODES, on, playbook, wait_for

JOB = "restored"
RESUMES_SECONDS = 180.0
"""What ran while the backup was made has no outcome in it: the job waits for its timeout first."""
WIPE = """
set -e
read -r user </etc/couchdb-dcron-admin
password=$(sed -n 2p /etc/couchdb-dcron-admin)
ask() { curl --silent --fail --user "$user:$password" "$@"; }
url=http://172.30.84.10:5984
for name in $(ask $url/_all_dbs | tr -d '[]"' | tr , ' '); do
  case $name in dcron-*) ask -X DELETE $url/$name ;; esac
done
if [ -e /etc/minio ]; then
  systemctl stop minio
  find /var/lib/minio/drive1 -mindepth 1 -delete
  systemctl start minio
fi
systemctl stop s3-standin
find /opt/s3-standin/data -mindepth 1 -maxdepth 1 ! -name ports.json -exec rm -r {} +
systemctl start s3-standin
"""


def test_what_was_backed_up_is_restored_and_nothing_fires_for_the_past(client, tmp_path):
    # It runs while the backup is made.
    client.create(JOB, "echo as before; sleep 0.9", "--schedule", "* * * * * *", "--timeout", "20s")
    try:
        before = wait_for(
            "an execution", lambda: client.ask(f"execution list --job {JOB} --state succeeded")["executions"]
        )[0]["id"]
        playbook("backup.yml", "-e", f"backup_folder={tmp_path}")
        for name in NODES:
            on(name).check_output("systemctl stop dcron")
        done = on("stores").run("bash -c %s", WIPE)
        assert done.rc == 0, done.stderr
        playbook("site.yml", "--tags", "couchdb,minio")
        began_at = datetime.now(UTC)
        playbook("restore.yml", "-e", f"backup_folder={tmp_path}")

        for name in ("stores", *NODES):
            assert on(name).check_output("find /var/tmp -name 'dcron-*'") == "", "it left files on the host"
        assert client.check(f"execution log {before}") == "as before"
        later = f"{began_at:%Y-%m-%dT%H:%M:%S}"
        runs = wait_for(
            "the schedule",
            lambda: [
                each
                for each in client.ask(f"execution list --job {JOB} --state succeeded --limit 1000")[
                    "executions"
                ]
                if each["startedAt"] > later
            ],
            RESUMES_SECONDS,
        )
        assert min(each["scheduledAt"] for each in runs) > later, "something was started for the past"
    finally:
        client.run(f"job delete {JOB} --yes")
