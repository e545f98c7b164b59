"""rotate_certificates.yml gives all hosts new keys and certificates, and nodes take them up as they run."""

import pytest
from conftest import IS_MINIO_REAL, NODES, STORES, on, playbook, wait_for

SERVED = (
    "openssl s_client -connect {address} -alpn h2 -CAfile /etc/dcron/client/ca.pem"
    " -cert /etc/dcron/client/certificate.pem -key /etc/dcron/client/key.pem </dev/null 2>/dev/null"
    " | openssl x509 -noout -serial"
)


def served(client, name):
    return client.host.check_output(SERVED.format(address=f"{NODES[name]}:7420"))


def daemons():
    return {name: on(name).check_output("systemctl show --property MainPID --value dcron") for name in NODES}


def test_nodes_serve_with_new_certificates_without_a_restart(client):
    before, running = {name: served(client, name) for name in NODES}, daemons()
    playbook("rotate_certificates.yml", "--tags", "pki,couchdb,minio")
    for name in NODES:
        wait_for(f"the new certificate of {name}", lambda name=name: served(client, name) != before[name])
    assert daemons() == running
    assert client.check("cluster status")
    client.create("after-rotation", "true", "--schedule", "0 0 1 1 *", "--timeout", "60s")
    try:
        log = client.run('execution log --follow "$(dcron job run after-rotation)"')
        assert log.rc == 0, log.stderr
    finally:
        client.run("job delete after-rotation --yes")


@pytest.mark.skipif(not IS_MINIO_REAL, reason="a stand-in for S3 has no TLS: set MINIO_BINARY")
def test_minio_serves_with_its_new_certificate(client):
    file = client.host.check_output("openssl x509 -noout -serial -in /etc/minio-tls/certificate.pem")
    address = f"{STORES}:9000"
    wait_for(
        "MinIO's new certificate",
        lambda: client.host.check_output(SERVED.format(address=address)) == file,
    )
