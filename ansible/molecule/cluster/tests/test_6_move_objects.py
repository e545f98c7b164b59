"""move_objects.yml brings scripts and logs into another store, and the nodes on to it: nothing is lost."""

from conftest import IS_MINIO_REAL, OTHER_OBJECTS, missing, on, playbook, wait_for

JOB = "through-the-move"


def test_objects_move_to_another_store_and_no_occurrence_is_lost(client):
    client.create(JOB, "echo $DCRON_SCHEDULED_AT", "--schedule", "* * * * * *", "--timeout", "20s")
    try:
        old = wait_for(
            "an execution", lambda: client.ask(f"execution list --job {JOB} --state succeeded")["executions"]
        )[-1]
        playbook("move_objects.yml", *OTHER_OBJECTS)
        if IS_MINIO_REAL:
            on("stores").check_output("systemctl stop minio")
        assert client.check(f"execution log {old['id']}") == old["scheduledAt"]
        if IS_MINIO_REAL:
            on("stores").check_output("systemctl start minio")
        later = client.check(f"job run {JOB}")
        assert client.check(f"execution log --follow {later}")
        client.check(f"job pause {JOB}")
        wait_for(
            "the last ones",
            lambda: not client.ask(f"execution list --job {JOB} --state running")["executions"],
        )
        records = client.ask(f"execution list --job {JOB} --limit 1000")["executions"]
        records = [each for each in records if each["id"] != later]
        assert {each["state"] for each in records} <= {
            "EXECUTION_STATE_SUCCEEDED",
            "EXECUTION_STATE_SKIPPED",
            "EXECUTION_STATE_NOT_STARTED",
        }
        assert not missing(records), "an occurrence has neither an execution nor a record that says why"
    finally:
        client.run(f"job delete {JOB} --yes")


def test_what_is_there_already_is_not_moved_again():
    again = playbook("move_objects.yml", *OTHER_OBJECTS, fails=True)
    assert "do not run site.yml before this" in again
