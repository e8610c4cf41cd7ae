"""The manifest of docs/scaling.md, against the published schemas and what JAX asks of a cluster."""

import re
import shlex
import signal
import socket
import time
from types import SimpleNamespace

import jax
import pytest
import yaml
from jax._src.clusters.k8s_cluster import K8sCluster

from tests.clusters.documented import ROOT
from vasso_jax.cli.train import fail_in_cluster
from vasso_jax.train.devices.processes import join_cluster
from vasso_jax.train.errors import RESUMABLE, LostProcess

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


@pytest.mark.cluster
@pytest.mark.parametrize("kind", manifest())
def test_each_object_is_valid_in_the_oldest_and_in_the_newest_version(kind):
    import kubernetes_validate as schemas

    oldest = re.search(r"Kubernetes (1\.\d+) or newer", PAGE)[1]
    newest = ".".join(schemas.latest_version().split(".")[:2])
    for version in (oldest, newest):
        assert schemas.validate(manifest()[kind], version, strict=True) == version


@pytest.mark.cluster
def test_an_unknown_field_would_be_found():
    import kubernetes_validate as schemas

    broken = manifest()["Job"]
    broken["spec"]["template"]["spec"]["subdomains"] = "vasso"
    with pytest.raises(schemas.ValidationError, match="subdomains"):
        schemas.validate(broken, schemas.latest_version(), strict=True)


def test_the_pods_run_the_command_of_the_page():
    (slurm,) = re.findall(r"srun --gpu-bind=none (.*?)\nstatus", PAGE, re.DOTALL)
    assert sorted(container()["command"]) == sorted(shlex.split(slurm.replace("\\\n", " ")))


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


@pytest.fixture
def api(monkeypatch):
    """JAX believes that it runs in the last pod."""
    api = Api()
    for name, value in (("_core_api", api), ("_batch_api", api), ("_ApiException", KeyError)):
        monkeypatch.setattr(K8sCluster, name, value, raising=False)
    monkeypatch.setattr(K8sCluster, "_namespace", lambda: "default")
    for remembered in (K8sCluster._pod, K8sCluster._job, K8sCluster._controller):
        remembered.cache_clear()
    monkeypatch.setattr(socket, "gethostbyname", lambda host: "10.0.0.7")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setenv("HOSTNAME", "vasso-3")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    return api


def test_jax_finds_the_processes_with_the_rights_that_are_given(api):
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
    go_on = dict.fromkeys((RESUMABLE, 128 + signal.SIGTERM), "Ignore")
    # All else counts, also 134: so ends what lost another process, but also what always crashes.
    assert actions == {2: "FailJob"} | go_on
    assert job()["backoffLimit"] == 100
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
    assert "/dev/shm" in mounts


def test_a_pod_ends_as_resumable_while_the_first_one_has_no_address(api, monkeypatch, capsys):
    def address_of(host):
        if host.startswith("vasso-0"):
            raise socket.gaierror(-2, "Name or service not known")
        return "10.0.0.7"

    monkeypatch.setattr(socket, "gethostbyname", address_of)
    # The rest of it needs a process in which JAX has not begun.
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda **_: K8sCluster.get_coordinator_address(300, None)
    )
    with pytest.raises(LostProcess) as lost:
        join_cluster()
    with pytest.raises(SystemExit) as end:
        fail_in_cluster(lost.value)
    assert end.value.code == RESUMABLE
    assert "first process of this run cannot be found" in capsys.readouterr().err
