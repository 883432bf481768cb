import json

from sparseconv.backends import native_available
from sparseconv.bench.machine import describe_machine


def test_machine_is_described_without_its_name():
    import socket

    found = describe_machine()
    assert found["processor"] and found["cores"] >= 1
    assert found["backend"] == ("cpu" if native_available() else "reference")
    host = socket.gethostname()
    assert host not in json.dumps(found)
