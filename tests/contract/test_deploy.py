"""docker-compose.yml and deploy/: they follow their schemas, and name what really exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

import assay
from assay.settings import ClientSettings
from deploy_files import (
    DEPLOY,
    KEYS,
    ROOT,
    Stage,
    alerts,
    compose,
    dashboard,
    dockerfile,
    manifests,
    queries,
    selected,
)
from ppo_worker.settings import PPOSettings
from reward_server.cluster import COMMON
from reward_server.metrics import ServerMetrics
from reward_server.settings import ServerSettings
from reward_trainer.online.metrics import TrainerMetrics
from reward_trainer.online.settings import TrainerSettings

SETTINGS = {
    "reward_server": {*ServerSettings.model_fields},
    "trainer": {*TrainerSettings.model_fields},
    "ppo_worker": {*PPOSettings.model_fields, *ClientSettings.model_fields},
}
OWN = tuple(f"{name}{suffix}" for name in SETTINGS for suffix in ("", "_gpu"))
MONITORING = ["monitoring"]
JOBS = {"ppo_worker", "ppo_worker_gpu"}
IMAGES = {"assay-reward-server": "reward_server", "assay-trainer": "trainer"}
NOT_OURS = {"HOME", "USER", "PIP_NO_CACHE_DIR", "PIP_ROOT_USER_ACTION", "HF_TOKEN"}
CPU_TORCH = {"PIP_EXTRA_INDEX_URL": "https://download.pytorch.org/whl/cpu"}


@cache
def services() -> dict[str, Any]:
    found: dict[str, Any] = compose(KEYS)["services"]
    return found


def are_settings(names: set[str], service: str) -> bool:
    """Whether each is a variable that the service reads."""
    known = {f"ASSAY_{name.upper()}" for name in SETTINGS[service.removesuffix("_gpu")]}
    return names <= known


# The compose file


def test_the_compose_file_follows_the_specification() -> None:
    command = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    program = str(Path(sys.executable).with_name(command[0]))
    done = subprocess.run(
        [program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("missing", sorted(KEYS))
def test_without_keys_nothing_starts(missing: str) -> None:
    with pytest.raises(KeyError, match=missing):
        compose({name: value for name, value in KEYS.items() if name != missing})


def test_only_loopback_is_published() -> None:
    ports = [port for service in services().values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_is_published_is_the_api_unless_more_is_asked_for() -> None:
    published = {name for name, service in services().items() if "ports" in service}
    asked = {name for name, service in services().items() if service.get("profiles") == MONITORING}
    assert asked == {"prometheus", "grafana"}
    assert published - asked == {"reward_server", "reward_server_gpu"}


def test_redis_shares_its_network_with_server_and_trainer_alone() -> None:
    sharing = {
        name for name, service in services().items() if "storage" in service.get("networks", ())
    }
    assert sharing == {"redis", "reward_server", "reward_server_gpu", "trainer", "trainer_gpu"}
    assert "default" not in services()["redis"]["networks"]
    assert compose(KEYS)["networks"]["storage"] == {"internal": True}


def test_no_service_has_rights_that_it_does_without() -> None:
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_every_service_has_limits_and_what_stays_up_is_watched() -> None:
    for name, service in services().items():
        assert service["logging"]["driver"] == "local", name  # the default one keeps everything
        assert service["deploy"]["resources"]["limits"], name
        assert ("healthcheck" in service) == (name not in JOBS), name
        assert service["restart"] == ("on-failure:5" if name in JOBS else "unless-stopped")


def test_services_mount_declared_volumes_and_files_of_the_repository() -> None:
    declared = set(compose(KEYS)["volumes"])
    given = {"preferences", "prompts"}  # folders of whoever runs it
    mounts = [mount for service in services().values() for mount in service.get("volumes", ())]
    for source in (mount.partition(":")[0] for mount in mounts):
        named = not source.startswith(".")
        assert source in declared if named else source[2:] in given or (ROOT / source).is_dir()


def test_compose_names_real_settings() -> None:
    own = {name: service for name, service in services().items() if "build" in service}
    assert set(OWN) == set(own)
    for name, service in own.items():
        assert are_settings(set(service["environment"]) - NOT_OURS, name), name


@pytest.mark.parametrize("name", OWN)
def test_a_service_runs_the_command_of_its_image(name: str) -> None:
    service = services()[name]
    target = name.removesuffix("_gpu")
    assert service["build"]["target"] == target
    assert service["command"] == dockerfile()[target].command
    version = assay.__version__ if name.endswith("_gpu") else f"{assay.__version__}-cpu"
    assert service["image"] == f"assay-{target.replace('_', '-')}:{version}"


@pytest.mark.parametrize("name", OWN)
def test_only_images_for_gpus_have_torch_for_them(name: str) -> None:
    arguments = services()[name]["build"].get("args", {})
    assert arguments == ({} if name.endswith("_gpu") else CPU_TORCH)
    assert set(CPU_TORCH) == set(dockerfile()["base"].arguments)


# The Dockerfile


def built() -> dict[str, Stage]:
    return {name: stage for name, stage in dockerfile().items() if name != "base"}


def commands_of_ci(extras: str) -> set[str]:
    """What `make install` runs, which CI begins with; there with the extra `dev`."""
    shown = subprocess.run(
        ["make", "--dry-run", "--always-make", "install", f"EXTRAS={extras}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.replace(".venv/bin/", "") for line in shown.stdout.splitlines()}


@pytest.mark.parametrize("name", sorted(built()))
def test_an_image_is_made_by_commands_that_ci_runs(name: str, tmp_path: Path) -> None:
    extras = re.findall(r"'\.\[(.+)\]'", " ".join(built()[name].runs))
    assert len(extras) == 1
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras[0].split(",")) <= set(project["optional-dependencies"])
    known = commands_of_ci(extras[0])
    (folder,) = set(built()[name].runs) - known
    here = folder.replace("/state", f"{tmp_path}/state").replace("=10001", f"={os.getuid()}")
    subprocess.run(shlex.split(here), check=True)
    assert (tmp_path / "state").is_dir()


def test_images_run_as_a_user_without_rights_and_name_real_settings() -> None:
    for name, stage in built().items():
        assert stage.user == "10001:10001"
        variables = set(stage.environment) - NOT_OURS
        assert are_settings(variables, name), name


def test_images_are_made_of_files_that_the_build_may_see() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    for source in {source for stage in built().values() for source in stage.copies}:
        assert (ROOT / source).exists()
        assert f"!{source.partition('/')[0]}" in ignored


def test_a_change_of_code_builds_no_package_anew() -> None:
    for stage in built().values():
        assert {"shared", "services"} <= set(stage.copies_after_runs)


# Prometheus and Grafana


def metrics() -> set[str]:
    """Every name on the two /metrics pages, and the one that Prometheus makes itself."""
    registry = CollectorRegistry()
    ServerMetrics(registry, "replica", "toy@1")
    TrainerMetrics(registry)
    names = {"up"}
    for family in registry.collect():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        names |= {family.name + ending for ending in endings.get(family.type, [""])}
    return {f"{name}_info" if name == "reward_server_replica" else name for name in names}


def test_every_metric_of_alerts_and_dashboard_exists() -> None:
    assert len(queries()) > 20
    for query in queries():
        assert selected(query) <= metrics(), query


def test_every_metric_of_server_and_trainer_is_on_the_dashboard() -> None:
    shown = set[str]().union(*map(selected, queries()))
    endings = re.compile(r"_(bucket|sum|count)$")
    assert {endings.sub("", name) for name in metrics()} <= {
        endings.sub("", name) for name in shown
    }


def test_the_first_warning_of_a_kind_is_an_increase() -> None:
    registry = CollectorRegistry()
    TrainerMetrics(registry)
    for kind in ("meta_gradient_unstable", "score_inflation", "drift"):
        # For Prometheus, a counter that begins at 1 has never increased.
        assert registry.get_sample_value("reward_trainer_warnings_total", {"kind": kind}) == 0


def test_alerts_are_about_jobs_that_are_scraped() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    scraped = {job["job_name"] for job in config["scrape_configs"]}
    asked = set(re.findall(r'job="(\w+)"', " ".join(rule["expr"] for rule in alerts())))
    assert asked == scraped
    hosts = {
        job["static_configs"][0]["targets"][0].partition(":")[0] for job in config["scrape_configs"]
    }
    assert hosts <= set(services())


def test_prometheus_and_grafana_find_their_files() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (rules,) = config["rule_files"]
    assert (DEPLOY / "prometheus" / Path(rules).name).exists()
    secret = config["scrape_configs"][0]["authorization"]["credentials_file"]
    assert Path(secret).name in services()["prometheus"]["secrets"]
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (DEPLOY / "grafana" / "dashboards" / Path(home).name).exists()
    provisioning = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())
    used = re.findall(r'"uid": "(.+)"', json.dumps(dashboard()["panels"], indent=1))
    assert set(used) == {source["datasources"][0]["uid"]}


# Kubernetes


@cache
def kubernetes() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(
        (ROOT / "tests" / "schemas" / "kubernetes-1.34.json").read_text()
    )
    return loaded


def check(item: Any, definition: str) -> None:
    """Validate against one definition of the Kubernetes API; unknown fields are refused."""
    schema = {**kubernetes(), "$ref": f"#/$defs/io.k8s.api.{definition}"}
    jsonschema.Draft202012Validator(schema).validate(item)


GROUPS = {"v1": "core.v1", "apps/v1": "apps.v1", "policy/v1": "policy.v1"} | {
    "networking.k8s.io/v1": "networking.v1"
}


def ray_service() -> dict[str, Any]:
    (found,) = (item for item in manifests() if item["kind"] == "RayService")
    return found


def pods() -> list[dict[str, Any]]:
    """The pod templates of all manifests."""
    ray = ray_service()["spec"]["rayClusterConfig"]
    templates = [ray["headGroupSpec"]["template"], ray["workerGroupSpecs"][0]["template"]]
    kinds = ("Deployment", "StatefulSet")
    return templates + [item["spec"]["template"] for item in manifests() if item["kind"] in kinds]


def test_manifests_follow_the_kubernetes_api() -> None:
    plain = [item for item in manifests() if item["kind"] != "RayService"]
    assert len(plain) == 8
    for item in plain:
        check(item, f"{GROUPS[item['apiVersion']]}.{item['kind']}")
    for pod in pods():
        check(pod, "core.v1.PodTemplateSpec")
    service = ray_service()["spec"]["serveService"]
    check({"apiVersion": "v1", "kind": "Service", **service}, "core.v1.Service")


def test_a_wrong_field_is_found() -> None:
    with pytest.raises(jsonschema.ValidationError, match="restartPolice"):
        check({"spec": {"containers": [], "restartPolice": "Always"}}, "core.v1.PodTemplateSpec")


def test_the_ray_service_has_the_fields_of_its_type() -> None:
    # KubeRay's own schema is in no package registry: these are the fields of ray.io/v1.
    spec = ray_service()["spec"]
    assert set(spec) <= {"serveService", "serveConfigV2", "rayClusterConfig"}
    ray = spec["rayClusterConfig"]
    assert set(ray) <= {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert ray["authOptions"] == {"mode": "token"}
    assert set(ray["headGroupSpec"]) == {"rayStartParams", "template"}
    (group,) = ray["workerGroupSpecs"]
    sizes = {"replicas", "minReplicas", "maxReplicas"}
    assert set(group) == {"groupName", "rayStartParams", "template", *sizes}
    parameters = {**ray["headGroupSpec"]["rayStartParams"], **group["rayStartParams"]}
    assert all(isinstance(value, str) for value in parameters.values())
    assert f"ray=={ray['rayVersion']}" in (ROOT / "constraints.txt").read_text().split()


# In a process of its own: Ray reads its variables when it is imported.
BUILD = """
import os, sys, yaml
from ray._common.utils import import_attr
from ray.serve.schema import ServeDeploySchema
from assay.errors import StartupError

config = ServeDeploySchema.model_validate(yaml.safe_load(sys.stdin))
(application,) = config.applications
build = import_attr(application.import_path)
try:
    build(application.args)
except StartupError as error:
    print(error.detail)
os.environ["ASSAY_KEYS"] = "secret"
print(type(build(application.args)).__name__, application.name, config.http_options.port)
"""


def test_ray_builds_the_application_of_the_serve_config_by_its_environment(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUILD],
        cwd=tmp_path,
        env={**os.environ, "ASSAY_HOME": str(tmp_path), "ASSAY_SHARED_STORE": "true"},  # noqa: TID251 - a child's
        input=ray_service()["spec"]["serveConfigV2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused, built = done.stdout.splitlines()
    assert "ASSAY_KEYS" in refused
    assert built == "Application assay 8000"


def test_pods_have_no_rights_and_limits_and_are_probed() -> None:
    for pod in pods():
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert "livenessProbe" in container


def test_manifests_name_real_settings_and_hold_no_secret() -> None:
    (shared,) = (item for item in manifests() if item["metadata"]["name"] == "assay-settings")
    for pod in pods():
        (container,) = pod["spec"]["containers"]
        name, _, version = container["image"].partition(":")
        if name not in IMAGES:
            continue
        assert version == assay.__version__
        assert are_settings(
            {*shared["data"], *(each["name"] for each in container["env"])}, IMAGES[name]
        )
        for each in container["env"]:
            assert ("valueFrom" in each) == (each["name"] == "ASSAY_KEYS")
    assert not [item for item in manifests() if item["kind"] == "Secret"]


# Ray on several nodes


def shell(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **variables}  # noqa: TID251 - a child's
    return subprocess.run(
        ["bash", "-c", script],
        cwd=DEPLOY / "ray",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def ray_variables(**variables: str) -> dict[str, str]:
    """What `environment.sh` sets."""
    done = shell(". ./environment.sh && env", RAY_AUTH_TOKEN="secret", **variables)
    pairs = dict(line.split("=", 1) for line in done.stdout.splitlines() if line[:4] == "RAY_")
    assert pairs.pop("RAY_AUTH_TOKEN") == "secret"
    return pairs


def test_nodes_have_what_a_server_of_its_own_gives_its_cluster() -> None:
    variables = ray_variables()
    assert COMMON.items() <= variables.items()
    assert variables["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert variables["RAY_AUTH_MODE"] == "token"
    deadline_s = ServerSettings.model_fields["request_timeout_s"].default
    assert float(variables["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]) >= deadline_s


def test_nodes_in_kubernetes_have_the_same_variables() -> None:
    (settings,) = (item for item in manifests() if item["metadata"]["name"] == "assay-ray")
    assert settings["data"] | {"RAY_AUTH_MODE": "token"} == ray_variables()


def test_variables_of_serve_exist() -> None:
    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    known = (Path(spec.origin).parent / "serve" / "_private" / "constants.py").read_text()
    names = [name for name in ray_variables() if name.startswith("RAY_SERVE_")]
    assert [name for name in names if f'"{name}"' not in known] == []


def test_what_an_operator_has_set_stays_but_authentication() -> None:
    variables = ray_variables(RAY_SERVE_HAPROXY_NBTHREAD="8", RAY_AUTH_MODE="disabled")
    assert variables["RAY_SERVE_HAPROXY_NBTHREAD"] == "8"
    assert variables["RAY_AUTH_MODE"] == "token"


def test_a_node_without_a_token_does_not_start() -> None:
    done = shell("./start.sh head")
    assert (done.returncode, done.stdout) == (2, "")
    assert "RAY_AUTH_TOKEN" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("head --block", "start --head --port=6379 --include-dashboard=false --block"),
        ("node-0:6379 --num-gpus=8", "start --address=node-0:6379 --num-gpus=8"),
    ],
)
def test_nodes_start_ray(arguments: str, command: str, tmp_path: Path) -> None:
    ray = tmp_path / "ray"
    ray.write_text('#!/bin/sh\necho "$@" "$RAY_SERVE_ENABLE_HA_PROXY"\n')
    ray.chmod(0o755)
    done = shell(f"PATH={tmp_path}:$PATH ./start.sh {arguments}", RAY_AUTH_TOKEN="secret")
    assert done.stdout == f"{command} 1\n", done.stderr
