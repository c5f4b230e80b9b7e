"""A JobSet for GKE: one pod for each host of a TPU slice, started again together when one fails.

Names are those of Google Kubernetes Engine's TPU node pools and of the JobSet API (v1alpha2).
"""

import math
import re
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
# Shapes that node pools have (GKE, "TPU configurations"). In three dimensions: up to 64 chips sides
# of 1, 2 or 4, beyond that multiples of 4, in rising order; and 2x2x1, which is one host.
FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
# Chips of the largest slice.
LARGEST = {"v4": 4096, "v5p": 6144}
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
        if not _is_offered(generation, shape):
            raise ValueError(
                f"--topology is {self.topology!r}: no such slice; {_offered(generation)}"
            )
        if not re.fullmatch(
            r"(gs://[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]|[a-z0-9][a-z0-9.-]*)", self.runs
        ):
            raise ValueError(
                f"--volume is {self.runs!r}: give the name of a volume claim, or gs://BUCKET"
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


def _is_offered(generation: str, shape: str) -> bool:
    if generation not in LARGEST:
        return shape in FLAT
    sides = [int(side) for side in shape.split("x")]
    chips = math.prod(sides)
    if shape == "2x2x1":
        return True
    if sides != sorted(sides) or not 4 < chips <= LARGEST[generation]:
        return False
    return all(side in (1, 2, 4) if chips <= 64 else side % 4 == 0 for side in sides)


def _offered(generation: str) -> str:
    if generation not in LARGEST:
        return f"{generation} has {', '.join(FLAT)}"
    return (
        f"{generation} has 2x2x1, up to 64 chips sides of 2 or 4 such as 2x2x4, and up to "
        f"{LARGEST[generation]} chips multiples of 4 such as 4x4x8, in rising order"
    )


def manifest(config: JobSetConfig, command: Sequence[str]) -> dict[str, Any]:
    """The JobSet that runs `loomax COMMAND` on every host.

    Raises:
        ValueError: the configuration is wrong.
    """
    config.validate()
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
