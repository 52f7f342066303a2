"""The chart's release, run by podman as a cluster runs it.

Environment, commands, mounts, users and rights are those of the rendered manifests, and the probes
and waits are done as the kubelet does them. All containers share a network that nothing else is on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import hub
from tests.chart.release import Object, Release, component, render
from tests.images.conftest import Container, container, image, podman, wait_for

DEMO = Path(__file__).parents[2] / "services/worker/sluice_worker/demo_model"
_ASK = """
import sys, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
with grpc.insecure_channel("127.0.0.1:" + sys.argv[1]) as channel:
    asked = health_pb2.HealthCheckRequest(service=sys.argv[2])
    answer = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=float(sys.argv[3]))
    sys.exit(answer.status != health_pb2.HealthCheckResponse.SERVING)
"""
_GET = """
import sys, urllib.request
urllib.request.urlopen("http://127.0.0.1:" + sys.argv[1] + sys.argv[2], timeout=float(sys.argv[3]))
"""


@dataclass
class Cluster:
    """A release's containers, by component."""

    release: Release
    hosts: Path
    worker: Container
    gateway: Container

    def probe(self, each: Object, name: str) -> bool:
        """Whether a probe of a Deployment's container succeeds."""
        (only,) = each["spec"]["template"]["spec"]["containers"]
        asked, ports = only[name], {port["name"]: port["containerPort"] for port in only["ports"]}
        seconds = str(asked["timeoutSeconds"])
        if "grpc" in asked:
            grpc = asked["grpc"]
            return self.worker.exec(
                "python3", "-c", _ASK, str(grpc["port"]), grpc["service"], seconds
            )
        http = asked["httpGet"]
        return self.gateway.exec(
            "python3", "-c", _GET, str(ports[http["port"]]), http["path"], seconds
        )


def local(reference: str) -> str:
    """The image built here of a manifest's image."""
    return image(reference.partition(":")[0].removeprefix("sluice-"))


def as_podman_has_it(spec: Object, folder: Path) -> list[str]:
    """Of a pod: who it is, what it may, sees and is told. Claims and Secrets are in a folder."""
    (only,) = spec["containers"]
    pod, own = spec["securityContext"], only["securityContext"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    user, group, shared = pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]
    options = ["--read-only", "--read-only-tmpfs=false"]
    options += ["--cap-drop", "all", "--security-opt", "no-new-privileges"]
    options += ["--user", f"{user}:{group}", "--group-add", f"{shared}"]
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for mount in only.get("volumeMounts", []):
        if "emptyDir" in volumes[mount["name"]]:
            options += ["--tmpfs", mount["mountPath"]]
        else:
            path = volume_of(volumes[mount["name"]], shared, folder)
            how = "ro" if mount.get("readOnly") else "rw"
            options += ["-v", f"{path}:{mount['mountPath']}:{how}"]
    for variable in only["env"]:
        options += ["-e", f"{variable['name']}={variable['value']}"]
    return options


def volume_of(volume: Object, group: int, folder: Path) -> Path:
    """What a claim or a Secret is on the node, with the owner that fsGroup gives it."""
    if "persistentVolumeClaim" in volume:
        path = folder / volume["persistentVolumeClaim"]["claimName"]
        path.mkdir(exist_ok=True)
        os.chown(path, 0, group)
        path.chmod(0o2775)
        return path
    secret = volume["secret"]
    path = folder / f"mounted-{secret['secretName']}"
    path.mkdir(exist_ok=True)
    for item in secret["items"]:
        file = path / item["path"]
        file.write_bytes((folder / secret["secretName"] / item["key"]).read_bytes())
        os.chown(file, 0, group)
        file.chmod(secret["defaultMode"])
    return path


@contextmanager
def cluster(values: Object, folder: Path) -> Iterator[Cluster]:
    """A worker and a gateway of the release of these values."""
    release = render(values)
    names = [each["metadata"]["name"] for each in release.all("Service")]
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"127.0.0.1 {name}\n" for name in names))
    dns = ("-v", f"{hosts}:/etc/hosts:ro")
    specs = {
        component(each): each["spec"]["template"]["spec"] for each in release.all("Deployment")
    }
    back, front = specs["worker"], specs["gateway"]
    named = [local(spec["containers"][0]["image"]) for spec in (back, front)]
    with (
        container(named[0], "--network", "none", *dns, *as_podman_has_it(back, folder)) as worker,
        container(
            named[1],
            "--network",
            f"container:{worker.name}",
            *dns,
            *as_podman_has_it(front, folder),
        ) as gateway,
    ):
        yield Cluster(release, hosts, worker, gateway)


@pytest.mark.parametrize("address", ["0.0.0.0", "[::]"])
def test_the_default_release_becomes_ready_passes_helms_test_and_ends_in_its_grace_period(
    address: str, tmp_path: Path
) -> None:
    values = {"bindAddress": address, "kubeVersion": "1.28.0"}
    with cluster(values, tmp_path) as started:
        release = started.release
        for each in (release.worker(), release.gateway()):
            wait_for(lambda each=each: started.probe(each, "startupProbe"), "it starts")
            assert started.probe(each, "livenessProbe")
            wait_for(lambda each=each: started.probe(each, "readinessProbe"), "it is ready")

        assert '"completion_tokens": 1' in helms_test(started, tmp_path)

        for each, ran in ((release.gateway(), started.gateway), (release.worker(), started.worker)):
            pod = each["spec"]["template"]["spec"]
            (only,) = pod["containers"]
            assert ran.exec(*only["lifecycle"]["preStop"]["exec"]["command"])
            assert ran.stop(pod["terminationGracePeriodSeconds"]) == 0, ran.logs()


def helms_test(started: Cluster, folder: Path) -> str:
    """What the pod of `helm test` prints when it passes."""
    spec = started.release.one("Pod")["spec"]
    (test,) = spec["containers"]
    joined = ("--network", f"container:{started.worker.name}", "--entrypoint", "")
    hosts = ("-v", f"{started.hosts}:/etc/hosts:ro")
    options = (*joined, *hosts, *as_podman_has_it(spec, folder))
    with container(local(test["image"]), *options, arguments=tuple(test["command"])) as asking:
        podman("wait", asking.name)
        assert asking.exit_status() == 0, asking.logs()
        return asking.logs()


def test_a_private_model_comes_by_its_job_and_is_served_to_holders_of_a_key(tmp_path: Path) -> None:
    for name, key, text in (("hub-token", "token", "hf_abc\n"), ("keys", "keys", "# ours\nsk-1\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / key).write_text(text)
    with hub.serving({"org/tiny": DEMO}) as served:
        served.faults.token = "hf_abc"
        private = {
            "source": "org/tiny",
            "revision": hub.COMMIT,
            "hfToken": {"existingSecret": "hub-token"},
            "cache": {"type": "pvc"},
            "download": {"enabled": True},
            "extraEnv": [{"name": "HF_ENDPOINT", "value": served.url}],
        }
        values = {
            "models": {"demo": {"enabled": False}, "private": private},
            "gateway": {"apiKeys": {"existingSecret": "keys"}},
        }
        spec = render(values).one("Job")["spec"]["template"]["spec"]
        (only,) = spec["containers"]
        options = ("--network", "host", *as_podman_has_it(spec, tmp_path))
        with container(local(only["image"]), *options, arguments=tuple(only["args"])) as job:
            podman("wait", job.name)
            assert job.exit_status() == 0, job.logs()
    # The hub is gone: all that a pinned model needs is on the claim.
    with cluster(values, tmp_path) as started:
        each = started.release.worker("private")
        wait_for(lambda: started.probe(each, "readinessProbe"), "it is ready")
        printed = helms_test(started, tmp_path)
    assert "org/tiny is ready" in printed
    assert '"completion_tokens": 1' in printed
