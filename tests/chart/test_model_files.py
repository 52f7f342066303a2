"""Where a model's files come from and where they are kept."""

from __future__ import annotations

import pytest

from tests.chart.release import (
    Release,
    Values,
    container,
    environment,
    one_model,
    pod_spec,
    rendered,
)


def test_a_token_is_a_file_of_an_existing_secret() -> None:
    worker = rendered("private-model").worker("gated")
    assert environment(worker)["HF_TOKEN_PATH"] == "/var/run/secrets/sluice/hf-token/token"
    volume = next(each for each in pod_spec(worker)["volumes"] if each["name"] == "hf-token")
    assert volume["secret"]["secretName"] == "hub-token"
    assert volume["secret"]["items"] == [{"key": "HF_TOKEN", "path": "token"}]
    mount = next(each for each in container(worker)["volumeMounts"] if each["name"] == "hf-token")
    assert mount == {
        "name": "hf-token",
        "mountPath": "/var/run/secrets/sluice/hf-token",
        "readOnly": True,
    }


@pytest.mark.parametrize(
    ("cache", "volume"),
    [
        ({}, {"emptyDir": {}}),
        ({"sizeLimit": "5Gi"}, {"emptyDir": {"sizeLimit": "5Gi"}}),
        ({"type": "pvc"}, {"persistentVolumeClaim": {"claimName": "sluice-worker-m-cache"}}),
        (
            {"type": "existingClaim", "claimName": "c"},
            {"persistentVolumeClaim": {"claimName": "c"}},
        ),
    ],
)
def test_the_cache_is_where_hf_home_points(cache: Values, volume: Values) -> None:
    worker = one_model(cache=cache).worker("m")
    mount = next(each for each in container(worker)["volumeMounts"] if each["name"] == "cache")
    assert mount["mountPath"] == environment(worker)["HF_HOME"] == "/cache"
    assert {"name": "cache", **volume} in pod_spec(worker)["volumes"]


def test_a_claim_is_kept_unless_told_otherwise() -> None:
    claim = one_model(cache={"type": "pvc", "size": "7Gi"}).one("PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["resources"] == {"requests": {"storage": "7Gi"}}
    assert "storageClassName" not in claim["spec"]
    lost = rendered("private-model").one("PersistentVolumeClaim")
    assert lost["metadata"]["annotations"] == {"example.com/backup": "never"}


def test_a_pvc_source_is_mounted_where_the_worker_looks_for_it() -> None:
    worker = rendered("pvc-source").worker("shared")
    found = environment(worker)
    assert (found["MODEL_ID"], found["MODELS_DIR"]) == ("pvc://shared.models/qwen", "/models")
    mount = next(each for each in container(worker)["volumeMounts"] if each["name"] == "source")
    assert mount == {"name": "source", "mountPath": "/models/shared.models", "readOnly": True}
    volume = next(each for each in pod_spec(worker)["volumes"] if each["name"] == "source")
    assert volume["persistentVolumeClaim"] == {"claimName": "shared.models", "readOnly": True}


def test_a_job_downloads_with_the_same_cache_token_and_revision() -> None:
    release = rendered("private-model")
    job, worker = release.one("Job"), release.worker("gated")
    (only,) = job["spec"]["template"]["spec"]["containers"]
    assert only["args"] == ["download"]
    told = {variable["name"]: variable["value"] for variable in only["env"]}
    assert told.items() <= environment(worker).items()
    assert {"MODEL_ID", "MODEL_REVISION", "HF_HOME", "HF_TOKEN_PATH", "HF_ENDPOINT"} <= set(told)
    mounts = only["volumeMounts"]
    assert [each for each in container(worker)["volumeMounts"] if each in mounts] == mounts


def test_a_changed_job_is_another_job_for_jobs_cannot_be_changed() -> None:
    def name(release: Release) -> str:
        found: str = release.one("Job")["metadata"]["name"]
        return found

    cache = {"type": "pvc", "accessModes": ["ReadWriteMany"]}
    download = {"enabled": True}
    first = one_model(cache=cache, download=download)
    assert name(first) == name(one_model(cache=cache, download=download, replicas=3))
    assert name(first) != name(one_model(cache=cache, download=download, revision="v2"))


def test_the_job_of_a_gpu_model_takes_the_small_image_and_no_gpu() -> None:
    release = one_model(device="cuda", cache={"type": "pvc"}, download={"enabled": True})
    (only,) = release.one("Job")["spec"]["template"]["spec"]["containers"]
    assert only["image"].startswith("sluice-worker-cpu:")
    assert "nvidia.com/gpu" not in only["resources"]["limits"]
    spec = release.one("Job")["spec"]["template"]["spec"]
    assert spec["tolerations"] == pod_spec(release.worker("m"))["tolerations"]


def test_a_claim_for_a_volume_made_by_hand_asks_for_no_class() -> None:
    claim = one_model(cache={"type": "pvc", "storageClassName": "-"}).one("PersistentVolumeClaim")
    assert claim["spec"]["storageClassName"] == ""
