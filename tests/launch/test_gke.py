"""launch/gke.sh: its manifests are valid, and say how the processes meet."""

import os
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.launch.scripts import run

TPU = {"TPU": "tpu-v5-lite-podslice", "TOPOLOGY": "4x4"}
GPU = {"GPU": "nvidia-h100-80gb", "GPUS": "8", "HOSTS": "2"}
ODD = r"""--config.corpus.source=text:/runs/it's "a" \n $NAME: [x] #1 é.txt"""


def manifest(kind, device, *flags, workdir="gs://bucket/run", **variables):
    variables = {"NAME": "bert", "IMAGE": "example.org/bert:1"} | device | variables
    flags = ("--config=configs/bert.py:large", *flags, f"--workdir={workdir}")
    return yaml.safe_load(run("launch/gke.sh", "--dry-run", kind, *flags, **variables))


def job_of(jobset):
    [replicated] = jobset["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def container_of(jobset):
    [container] = job_of(jobset)["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("device", [TPU, GPU], ids=["tpu", "gpu"])
def test_the_job_of_a_jobset_is_valid_kubernetes(device):
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "bert"},
        "spec": job_of(manifest("jobset", device, CLAIM="runs", workdir="/runs/bert")),
    }
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(job, version, strict=True)
    job["spec"]["podFailurePolicy"]["rules"][0]["onExitCode"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="onExitCode"):
        kubernetes_validate.validate(job, version, strict=True)


def without_unknown_fields(schema):
    """The API server refuses fields that the schema does not have; JSON Schema allows them."""
    if isinstance(schema, list):
        return [without_unknown_fields(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: without_unknown_fields(value) for name, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        schema["type"] = ["integer", "string"]
    return schema


@pytest.mark.skipif(
    "CUSTOM_RESOURCES" not in os.environ,
    reason="CUSTOM_RESOURCES is not set to a directory with jobset.yaml and trainjob.yaml, the "
    "published definitions (docs/clusters.md)",
)
@pytest.mark.parametrize("kind", ["jobset", "trainjob"])
@pytest.mark.parametrize("device", [TPU, GPU], ids=["tpu", "gpu"])
def test_a_manifest_is_valid_by_the_published_definition(kind, device):
    path = Path(os.environ["CUSTOM_RESOURCES"]) / f"{kind}.yaml"
    found = manifest(kind, device, CLAIM="runs", QUEUE="queue", workdir="/runs/bert")
    definition = yaml.safe_load(path.read_text())
    [version] = [
        version
        for version in definition["spec"]["versions"]
        if found["apiVersion"] == f"{definition['spec']['group']}/{version['name']}"
    ]
    schema = without_unknown_fields(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(found, schema)
    found["spec"]["unknown"] = 1
    with pytest.raises(jsonschema.ValidationError, match="unknown"):
        jsonschema.validate(found, schema)


@pytest.mark.parametrize("kind", ["jobset", "trainjob"])
def test_flags_reach_the_train_command_as_they_are(kind):
    found = manifest(kind, GPU, ODD)
    trainer = container_of(found) if kind == "jobset" else found["spec"]["trainer"]
    assert trainer["args"][1] == ODD


def test_gpu_pods_are_told_where_to_meet_and_tpu_pods_know():
    [address, count, index] = container_of(manifest("jobset", GPU))["env"][-3:]
    assert address["value"] == "bert-host-0-0.bert:8476"
    assert count["value"] == "2"
    assert "job-completion-index" in index["valueFrom"]["fieldRef"]["fieldPath"]
    names = [variable["name"] for variable in container_of(manifest("jobset", TPU))["env"]]
    assert names == ["LIBTPU_INIT_ARGS"]


def test_a_slice_has_as_many_pods_as_hosts():
    assert job_of(manifest("jobset", TPU, TOPOLOGY="4x4x8"))["parallelism"] == 32
    assert job_of(manifest("jobset", TPU, TOPOLOGY="2x4", CHIPS="8"))["parallelism"] == 1


@pytest.mark.parametrize(
    ("variables", "workdir", "message"),
    [
        (TPU | {"TOPOLOGY": "2x3"}, "gs://b/run", "6 chips, not a multiple of CHIPS=4"),
        (GPU, "runs/mine", "inside the pod and lost with it"),
        (GPU, "/runs/mine", "set CLAIM"),
        (GPU | {"NAME": "Bert_1"}, "gs://b/run", "lower-case"),
        ({}, "gs://b/run", "set TPU and TOPOLOGY, or GPU"),
    ],
)
def test_what_cannot_work_is_refused(variables, workdir, message):
    variables = {"NAME": "bert", "IMAGE": "i"} | variables
    said = run("launch/gke.sh", "jobset", f"--workdir={workdir}", expect=2, **variables)
    assert message in said
