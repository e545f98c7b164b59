"""site.yml has made a cluster: who listens where, who is let in, and that a job goes through it."""

import pytest
from conftest import IS_COUCHDB_REAL, IS_MINIO_REAL, NODES, STORES, on, playbook

SSH = {"0.0.0.0:22", "[::]:22"}


@pytest.mark.parametrize("name", NODES)
def test_each_node_runs_and_starts_at_boot(name):
    service = on(name).service("dcron")
    assert service.is_running
    assert service.is_enabled


@pytest.mark.parametrize("name", NODES)
def test_a_node_listens_on_its_own_address_and_nowhere_else(name):
    lines = on(name).check_output("ss --no-header --listening --tcp --numeric").splitlines()
    found = {line.split()[3] for line in lines} - SSH
    # gRPC listens by IPv6's form of an IPv4 address.
    assert found == {f"[::ffff:{NODES[name]}]:7420"}


def test_the_stores_listen_where_they_should():
    lines = on("stores").check_output("ss --no-header --listening --tcp --numeric").splitlines()
    beyond = {line.split()[3] for line in lines if not line.split()[3].startswith(("127.0.0.1:", "[::1]:"))}
    expected = {f"{STORES}:5984", f"{STORES}:9000"}
    expected |= {f"{STORES}:6984"} if IS_COUCHDB_REAL else set()
    expected |= {f"{STORES}:9001"} if IS_MINIO_REAL else set()
    assert beyond - SSH == expected


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize(
    ("path", "user", "mode"),
    [
        ("/etc/dcron/node.toml", "root", 0o640),
        ("/etc/dcron/credentials/store-password", "root", 0o600),
        ("/etc/dcron/credentials/s3", "root", 0o600),
        ("/etc/dcron/tls/key.pem", "dcron", 0o600),
    ],
)
def test_what_is_secret_is_for_its_owner_alone(name, path, user, mode):
    file = on(name).file(path)
    assert (file.user, file.mode) == (user, mode)


@pytest.mark.parametrize("name", NODES)
def test_no_secret_is_in_the_settings_or_the_unit(name):
    host = on(name)
    text = host.file("/etc/dcron/node.toml").content_string + host.check_output("systemctl cat dcron")
    assert "vagrant-" not in text
    environment = host.check_output("tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID dcron)/environ")
    assert "vagrant-" not in environment


def test_all_nodes_are_there_and_one_leads(client):
    states = {node["id"]: node for node in client.ask("cluster status")["nodes"]}
    assert states.keys() == NODES.keys()
    assert [node["leading"] for node in states.values()].count(True) == 1


def test_a_job_registered_through_one_node_runs_on_another_and_is_read_through_the_third(client):
    one, other, third = NODES
    script = f"/tmp/{one}.sh"
    client.host.check_output(f"echo 'echo ran on $DCRON_NODE' > {script}")
    through = [f"{NODES[name]}:7420" for name in (one, other, third)]
    options = f"--context vagrant --server {through[0]}"
    label = f"host={other}"
    job = "through-three"
    client.run(f"job delete {job} --yes")
    client.check(
        f"job create {job} --interpreter sh --schedule '0 0 1 1 *' --timeout 60s --label {label} {script}",
        options,
    )
    execution = client.check(f"job run {job}", options)
    log = client.check(f"execution log --follow {execution}", f"--context vagrant --server {through[2]}")
    assert log == f"ran on {other}"


@pytest.mark.parametrize(
    ("tag", "secret", "says"),
    [
        ("pki", "vault_dcron_pki_ca_passphrase", "dcron_pki_ca_passphrase is not set"),
        ("couchdb", "vault_couchdb_cookie", "couchdb_cookie is not set"),
        ("dcron", "vault_couchdb_dcron_password", "dcron_node_store_password is not set"),
    ],
)
def test_a_secret_that_is_missing_stops_the_play_with_its_name(tag, secret, says):
    assert says in playbook("site.yml", "--tags", tag, "-e", f"{secret}=", fails=True)


def test_a_viewer_may_look_and_no_more(client):
    options = " ".join(
        f"--{option} /etc/dcron/viewer/{file}.pem"
        for option, file in (("ca", "ca"), ("cert", "certificate"), ("key", "key"))
    )
    client.check("job list", options)
    refused = client.run("cluster freeze", options)
    assert refused.rc != 0
    assert "needs role admin" in refused.stderr


def test_a_certificate_of_another_ca_is_refused(client):
    folder = "/tmp/other"
    client.host.check_output(
        f"mkdir -p {folder} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
        f" -subj /CN=mallory/OU=dcron-admin -keyout {folder}/key.pem -out {folder}/certificate.pem 2>&1"
    )
    files = f"--ca /etc/dcron/client/ca.pem --cert {folder}/certificate.pem --key {folder}/key.pem"
    assert client.run("job list", files).rc != 0


def test_without_a_certificate_nobody_is_let_in(client):
    assert client.run("job list", f"--server {NODES['node1']}:7420").rc != 0


@pytest.mark.skipif(not IS_COUCHDB_REAL, reason="a stand-in for CouchDB cannot do this: set COUCHDB_DEB")
@pytest.mark.parametrize(
    ("path", "method"), [("/mine", "PUT"), ("/_users/_all_docs", "GET"), ("/dcron-jobs", "DELETE")]
)
def test_couchdb_refuses_dcrons_user_anything_else(path, method):
    host = on("node1")
    status = host.check_output(
        "curl --silent --output /dev/null --write-out '%%{http_code}' --cacert /etc/dcron/tls/ca.pem -X %s"
        ' --user "dcron:$(cat /etc/dcron/credentials/store-password)" %s',
        method,
        f"https://{STORES}:6984{path}",
    )
    assert status in {"401", "403"}


@pytest.mark.skipif(not IS_MINIO_REAL, reason="a stand-in for S3 cannot do this: set MINIO_BINARY")
@pytest.mark.parametrize("act", ["create_bucket(Bucket='mine')", "delete_bucket(Bucket='dcron')"])
def test_minio_refuses_dcrons_user_anything_else(act):
    program = f"""
import boto3
s3 = boto3.client(
    "s3", endpoint_url="https://{STORES}:9000", region_name="us-east-1", verify="/etc/dcron/tls/ca.pem"
)
try:
    print(s3.{act})
except s3.exceptions.ClientError as error:
    print(error.response["Error"]["Code"])
"""
    keys = "AWS_SHARED_CREDENTIALS_FILE=/etc/dcron/credentials/s3"
    said = on("node1").check_output(f"{keys} /opt/dcron/current/bin/python -c %s", program)
    assert said == "AccessDenied"
