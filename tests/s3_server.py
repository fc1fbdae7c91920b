"""moto's S3 server, as a process with its own packages: they need older ones than Assay's."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from serving import free_port

START_S = 60.0
PYTHON = Path(sys.prefix) / "s3-server" / "bin" / "python"
# One request at a time: conditional writes are atomic on S3, and moto looks first, then writes.
PROGRAM = """
import sys, threading
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

moto, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

def answer(environ, start_response):
    with lock:
        return list(moto(environ, start_response))

run_simple("127.0.0.1", int(sys.argv[1]), answer, threaded=True)
"""


class S3Server:
    """Buckets in memory, on a free port."""

    def __init__(self) -> None:
        self.port = free_port()
        assert PYTHON.exists(), f"{PYTHON} is missing: make install"
        self._process = subprocess.Popen(
            [PYTHON, "-c", PROGRAM, str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment holds to reach it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "anyone",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_REGION": "us-east-1",
        }

    def create_bucket(self, name: str) -> None:
        """Make a bucket."""
        self._ask("PUT", name)

    def stop(self) -> None:
        """End it; its buckets are gone."""
        self._process.terminate()
        self._process.wait(START_S)

    def _wait(self) -> None:
        deadline_s = time.monotonic() + START_S
        while True:
            try:
                self._ask("GET", "")
            except urllib.error.URLError:
                assert self._process.poll() is None, "the S3 server has ended"
                assert time.monotonic() < deadline_s, "the S3 server did not start"
                time.sleep(0.05)
            else:
                return

    def _ask(self, method: str, path: str) -> None:
        url = f"http://127.0.0.1:{self.port}/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10):
            pass
