"""rotate_certificates.yml gives all hosts new keys and certificates, and nodes take them up as they run."""

from conftest import NODES, on, playbook, wait_for

SERVED = (
    "openssl s_client -connect {address}:7420 -alpn h2 -CAfile /etc/dcron/client/ca.pem"
    " -cert /etc/dcron/client/certificate.pem -key /etc/dcron/client/key.pem </dev/null 2>/dev/null"
    " | openssl x509 -noout -serial"
)


def served(client, name):
    return client.host.check_output(SERVED.format(address=NODES[name]))


def daemons():
    return {name: on(name).check_output("systemctl show --property MainPID --value dcron") for name in NODES}


def test_nodes_serve_with_new_certificates_without_a_restart(client):
    before, running = {name: served(client, name) for name in NODES}, daemons()
    playbook("rotate_certificates.yml", "--tags", "pki,couchdb")
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
