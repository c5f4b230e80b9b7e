"""The manifest says what Kubernetes and the training have to agree on."""

from dataclasses import replace

import pytest
import yaml

from loomax.runtime.launch.jobset import JobSetConfig, as_yaml, manifest

COMMAND = ["train", "--config", "pi0-tabletop", "--name", "x", "--resume", "--runs", "/runs"]
CONFIG = JobSetConfig("pi0", "v5e:4x4", "registry/loomax:1")


def pod_of(config):
    job = manifest(config, COMMAND)["spec"]["replicatedJobs"][0]["template"]["spec"]
    return job, job["template"]["spec"]


@pytest.mark.parametrize(
    "topology, accelerator, hosts, chips",
    [
        ("v5e:4x4", "tpu-v5-lite-podslice", 4, 4),
        ("v5e:2x4", "tpu-v5-lite-podslice", 1, 8),
        ("v5e:1x1", "tpu-v5-lite-podslice", 1, 1),
        ("v6e:16x16", "tpu-v6e-slice", 64, 4),
        ("v5p:4x8x8", "tpu-v5p-slice", 64, 4),
        ("v4:2x2x1", "tpu-v4-podslice", 1, 4),
    ],
)
def test_a_pod_for_each_host_of_the_slice(topology, accelerator, hosts, chips):
    job, pod = pod_of(replace(CONFIG, topology=topology))
    assert job["parallelism"] == job["completions"] == hosts
    container = pod["containers"][0]
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert container["resources"]["limits"] == {"google.com/tpu": chips}
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": accelerator,
        "cloud.google.com/gke-tpu-topology": topology.partition(":")[2],
    }
    assert container["command"] == ["loomax", *COMMAND]


def test_failed_pods_start_again_together():
    found = manifest(replace(CONFIG, restarts=7, slices=2), COMMAND)
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert found["spec"]["failurePolicy"] == {"maxRestarts": 7}
    assert found["spec"]["replicatedJobs"][0]["replicas"] == 2
    job, pod = pod_of(CONFIG)
    assert job["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] == CONFIG.grace_s


def test_runs_lie_on_a_claim_or_in_a_bucket():
    _, pod = pod_of(CONFIG)
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "loomax-runs"}
    job, pod = pod_of(replace(CONFIG, runs="gs://mine"))
    assert pod["volumes"][0]["csi"]["volumeAttributes"]["bucketName"] == "mine"
    assert job["template"]["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}


def test_the_text_is_the_manifest():
    assert yaml.safe_load(as_yaml(CONFIG, COMMAND)) == manifest(CONFIG, COMMAND)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"name": "Big_Run"}, "--name is 'Big_Run': use small letters"),
        ({"topology": "v9:4x4"}, "unknown topology 'v9:4x4'"),
        ({"topology": "v5p:4x4"}, "a v5p slice has 3 sides, such as v5p:2x2x4"),
        ({"topology": "v5e:4x0"}, "a v5e slice has 2 sides"),
        ({"topology": "v5e:3x3"}, "'v5e:3x3': no such slice; v5e has 1x1, 2x2, 2x4, 4x4, 4x8"),
        ({"topology": "v5e:4x2"}, "no such slice"),
        ({"topology": "v6e:32x16"}, "no such slice"),
        ({"topology": "v5p:4x4x2"}, "in rising order"),
        ({"topology": "v5p:2x2x3"}, "no such slice"),
        ({"topology": "v5p:4x4x6"}, "multiples of 4"),
        ({"topology": "v4:16x16x20"}, "up to 4096 chips"),
        ({"runs": "gs://"}, "--volume is 'gs://': give the name of a volume claim, or gs://BUCKET"),
        ({"runs": "gs://A B"}, "--volume is 'gs://A B'"),
        ({"runs": ""}, "--volume is ''"),
        ({"slices": 0}, "--slices is 0: give at least 1"),
        ({"restarts": -1}, "--restarts is -1"),
    ],
)
def test_what_the_cluster_would_refuse_is_refused_here(changes, message):
    with pytest.raises(ValueError, match=message):
        manifest(replace(CONFIG, **changes), COMMAND)


@pytest.mark.parametrize("topology", ["v5p:2x2x2", "v5p:4x4x4", "v5p:8x16x16", "v4:2x2x4"])
def test_slices_of_three_dimensions(topology):
    replace(CONFIG, topology=topology).validate()
