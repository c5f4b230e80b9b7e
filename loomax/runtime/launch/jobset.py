"""A JobSet for GKE: one pod for each host of a TPU slice, started again together when one fails.

Names are those of Google Kubernetes Engine's TPU node pools and of the JobSet API (v1alpha2).
"""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from loomax.runtime.config import unknown

# generation -> (node pool's accelerator, chips of a host in slices of several hosts)
ACCELERATORS = {
    "v4": ("tpu-v4-podslice", 4),
    "v5e": ("tpu-v5-lite-podslice", 4),
    "v5p": ("tpu-v5p-slice", 4),
    "v6e": ("tpu-v6e-slice", 4),
}
# Slices of up to eight chips of these lie in one host.
ONE_HOST = {"v5e": 8, "v6e": 8, "v4": 4, "v5p": 4}
COORDINATOR_PORT, TPU_PORT = 8476, 8471


@dataclass(frozen=True)
class JobSetConfig:
    """What is run, and where.

    Args:
        name: of the JobSet, as Kubernetes allows it.
        topology: generation and shape of a slice, such as "v5e:4x4".
        image: container with loomax installed.
        slices: how many such slices train together.
        runs: volume claim or "gs://BUCKET" that is mounted at /runs.
        restarts: times that all pods are started again when one fails.
        grace_s: seconds between SIGTERM and SIGKILL, for the last checkpoint.
        service_account: of Kubernetes, for access to the bucket.
    """

    name: str
    topology: str
    image: str
    slices: int = 1
    runs: str = "loomax-runs"
    restarts: int = 100
    grace_s: int = 120
    service_account: str = "default"

    def validate(self) -> None:
        """Refuses what Kubernetes or GKE would refuse.

        Raises:
            ValueError: naming the value and what is allowed.
        """
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,37}[a-z0-9])?", self.name):
            raise ValueError(
                f"--name is {self.name!r}: use small letters, digits and '-', at most 39, and "
                "begin with a letter"
            )
        generation, _, shape = self.topology.partition(":")
        if generation not in ACCELERATORS:
            raise ValueError(unknown("topology", self.topology, [f"{g}:..." for g in ACCELERATORS]))
        axes = 3 if generation in ("v4", "v5p") else 2
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)" + f"{{{axes - 1}}}", shape):
            example = "2x2x4" if axes == 3 else "4x4"
            raise ValueError(
                f"--topology is {self.topology!r}: a {generation} slice has {axes} sides, such as "
                f"{generation}:{example}"
            )
        for name, value in (("slices", self.slices), ("grace_s", self.grace_s)):
            if value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {value}: give at least 1")
        if self.restarts < 0:
            raise ValueError(f"--restarts is {self.restarts}: give 0 or more")

    @property
    def chips(self) -> int:
        """Chips of one slice."""
        return math.prod(int(side) for side in self.topology.partition(":")[2].split("x"))

    @property
    def hosts(self) -> int:
        """Hosts of one slice."""
        return self.chips // self.chips_per_host

    @property
    def chips_per_host(self) -> int:
        """Chips of a host; a small slice lies in one."""
        generation = self.topology.partition(":")[0]
        return self.chips if self.chips <= ONE_HOST[generation] else ACCELERATORS[generation][1]


def manifest(config: JobSetConfig, command: Sequence[str]) -> dict[str, Any]:
    """The JobSet that runs `loomax COMMAND` on every host.

    Raises:
        ValueError: the configuration is wrong, or the command does not go on with its run.
    """
    config.validate()
    if "--resume" not in command or "--name" not in command:
        raise ValueError(
            f"the command is {shlex.join(command)!r}: add --name RUN --resume --runs /runs, so "
            "that a restarted pod goes on with the same run"
        )
    job = {
        "parallelism": config.hosts,
        "completions": config.hosts,
        "backoffLimit": 0,
        "template": {
            "metadata": {"annotations": _annotations(config)},
            "spec": _pod(config, command),
        },
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": config.name,
            # All pods of a slice get one node pool, and no other job's.
            "annotations": {
                "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
            },
        },
        "spec": {
            "failurePolicy": {"maxRestarts": config.restarts},
            "replicatedJobs": [
                {"name": "slice", "replicas": config.slices, "template": {"spec": job}}
            ],
        },
    }


def as_yaml(config: JobSetConfig, command: Sequence[str]) -> str:
    """The manifest as a file for `kubectl apply -f`."""
    return yaml.safe_dump(manifest(config, command), sort_keys=False, width=100)


def _annotations(config: JobSetConfig) -> dict[str, str]:
    return {"gke-gcsfuse/volumes": "true"} if config.runs.startswith("gs://") else {}


def _pod(config: JobSetConfig, command: Sequence[str]) -> dict[str, Any]:
    generation, _, shape = config.topology.partition(":")
    chips = {"google.com/tpu": config.chips_per_host}
    container = {
        "name": "loomax",
        "image": config.image,
        "command": ["loomax", *command],
        "ports": [{"containerPort": COORDINATOR_PORT}, {"containerPort": TPU_PORT}],
        "resources": {"requests": chips, "limits": dict(chips)},
        "volumeMounts": [{"name": "runs", "mountPath": "/runs"}],
    }
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": config.grace_s,
        "serviceAccountName": config.service_account,
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": ACCELERATORS[generation][0],
            "cloud.google.com/gke-tpu-topology": shape,
        },
        "containers": [container],
        "volumes": [{"name": "runs"} | _volume(config.runs)],
    }


def _volume(runs: str) -> dict[str, Any]:
    if runs.startswith("gs://"):
        attributes = {"bucketName": runs.removeprefix("gs://"), "mountOptions": "implicit-dirs"}
        return {"csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}}
    return {"persistentVolumeClaim": {"claimName": runs}}
