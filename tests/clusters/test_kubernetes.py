"""The manifest of docs/scaling.md, against the published schemas and what JAX asks of a cluster."""

import json
import re
import shlex
import socket
from types import SimpleNamespace

import kubernetes_validate
import pytest
import yaml
from jax._src.clusters.k8s_cluster import K8sCluster

from tests.clusters.documented import ROOT
from vasso_jax.train.errors import RESUMABLE

PAGE = (ROOT / "docs" / "scaling.md").read_text()


def manifest():
    """The objects of the page, by their kinds."""
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    return {thing["kind"]: thing for thing in yaml.safe_load_all(text)}


def job():
    return manifest()["Job"]["spec"]


def pod():
    return job()["template"]["spec"]


def container():
    (only,) = pod()["containers"]
    return only


def versions():
    """The oldest version that the page names, and all newer ones that have a schema."""
    oldest = re.search(r"Kubernetes (1\.\d+) or newer", PAGE)[1]
    every = [".".join(version.split(".")[:2]) for version in kubernetes_validate.all_versions()]
    return every[every.index(oldest) :]


@pytest.mark.parametrize("kind", manifest())
def test_each_object_is_valid_in_every_version_that_the_page_names(kind):
    assert len(versions()) > 5
    for version in versions():
        assert kubernetes_validate.validate(manifest()[kind], version, strict=True) == version


def test_an_unknown_field_would_be_found():
    broken = manifest()["Job"]
    broken["spec"]["template"]["spec"]["subdomains"] = "vasso"
    with pytest.raises(kubernetes_validate.ValidationError, match="subdomains"):
        kubernetes_validate.validate(broken, versions()[-1], strict=True)


def test_the_pods_run_the_command_of_the_page():
    (slurm,) = re.findall(r"srun --gpu-bind=none (.*?)\nstatus", PAGE, re.DOTALL)
    assert sorted(container()["command"]) == sorted(shlex.split(slurm))


class Api:
    """Answers as the API of a cluster does that has applied the manifest; notes what is asked."""

    def __init__(self):
        self.asked = set()

    def list_namespaced_pod(self, namespace, field_selector):
        assert field_selector == "status.podIP=10.0.0.7"
        self.asked.add(("", "pods", "list"))
        # The controller of jobs labels its pods, and owns them.
        metadata = SimpleNamespace(
            name="vasso-3-x7k2p",
            labels={"job-name": manifest()["Job"]["metadata"]["name"]},
            owner_references=[SimpleNamespace(kind="Job", controller=True)],
        )
        found = SimpleNamespace(
            metadata=metadata, spec=SimpleNamespace(subdomain=pod().get("subdomain"))
        )
        return SimpleNamespace(items=[found])

    def read_namespaced_job(self, name, namespace):
        metadata = manifest()["Job"]["metadata"]
        assert name == metadata["name"]
        self.asked.add(("batch", "jobs", "get"))
        return SimpleNamespace(
            metadata=SimpleNamespace(name=name, labels=metadata.get("labels")),
            spec=SimpleNamespace(parallelism=job()["parallelism"]),
        )


def test_jax_finds_the_processes_with_the_rights_that_are_given(monkeypatch):
    api = Api()
    for name, value in (("_core_api", api), ("_batch_api", api), ("_ApiException", KeyError)):
        monkeypatch.setattr(K8sCluster, name, value, raising=False)
    monkeypatch.setattr(K8sCluster, "_namespace", lambda: "default")
    monkeypatch.setattr(socket, "gethostbyname", lambda host: "10.0.0.7")
    monkeypatch.setenv("HOSTNAME", "vasso-3")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    address = K8sCluster.get_coordinator_address(timeout_secs=5, override_coordinator_port="1234")

    service = manifest()["Service"]
    assert address == f"vasso-0.{service['metadata']['name']}:1234"
    assert K8sCluster.get_process_count() == job()["completions"] == 4
    assert K8sCluster.get_process_id() == 3
    # Every pod has a name of its own in the network, before it is ready.
    assert job()["completionMode"] == "Indexed"
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"] == {"job-name": manifest()["Job"]["metadata"]["name"]}

    rules = manifest()["Role"]["rules"]
    granted = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == api.asked


def test_the_role_is_that_of_the_pods():
    account = manifest()["ServiceAccount"]["metadata"]["name"]
    assert pod()["serviceAccountName"] == account
    (subject,) = manifest()["RoleBinding"]["subjects"]
    # The API refuses an account without its namespace, which no schema says.
    assert subject == {"kind": "ServiceAccount", "name": account, "namespace": "default"}
    assert manifest()["RoleBinding"]["roleRef"]["name"] == manifest()["Role"]["metadata"]["name"]


def test_what_can_go_on_is_started_again_and_wrong_input_is_not():
    actions = {}
    for rule in job()["podFailurePolicy"]["rules"]:
        for status in rule.get("onExitCodes", {}).get("values", []):
            actions[status] = rule["action"]
    assert actions == {2: "FailJob", RESUMABLE: "Ignore", 128 + 15: "Ignore"}
    assert pod()["restartPolicy"] == "Never"  # the API takes a podFailurePolicy with no other one
    assert pod()["terminationGracePeriodSeconds"] >= 60


def test_what_is_kept_lies_on_the_shared_disk():
    claims = {volume["name"] for volume in pod()["volumes"] if "persistentVolumeClaim" in volume}
    mounts = {mount["mountPath"]: mount["name"] for mount in container()["volumeMounts"]}
    for flag in ("--workdir=", "--config.data.dir="):
        (path,) = (word for word in container()["command"] if word.startswith(flag))
        (root,) = (m for m in mounts if path.removeprefix(flag).startswith(f"{m}/"))
        assert mounts[root] in claims
    assert {*mounts.values()} == {volume["name"] for volume in pod()["volumes"]}
    assert json.dumps(mounts).count("/dev/shm") == 1
