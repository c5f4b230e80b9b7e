"""Names of mesh axes and of array axes, and the rules between them; plain data, no JAX.

Mesh (physical) axes, from the slowest link to the fastest:
    replica   copies of everything, one per slice; only gradients cross it
    fsdp      data-parallel shards that also hold a slice of every large parameter
    context   shards of one sequence
    tensor    shards of one layer
    expert    shards of the experts of a mixture
    subnet    subnets of a supernet, evaluated side by side
"""

import dataclasses
import math

REPLICA = "replica"
FSDP = "fsdp"
CONTEXT = "context"
TENSOR = "tensor"
EXPERT = "expert"
SUBNET = "subnet"

# One array axis is spread over no mesh axis, one, or several (first is outermost).
Physical = str | tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes. One of them may be -1: it takes the devices that are left."""

    replica: int = 1
    fsdp: int = -1
    tensor: int = 1
    context: int = 1

    @property
    def least(self) -> int:
        """The fewest devices that such a mesh can have."""
        return math.prod(max(getattr(self, f.name), 1) for f in dataclasses.fields(self))

    def sizes(self, devices: int) -> tuple[int, int, int, int]:
        """Returns (replica, fsdp, context, tensor) for `devices` devices, in the mesh's order.

        Raises:
            ValueError: a size is 0 or below -1, two are -1, or the product is not `devices`.
        """
        given = {
            REPLICA: self.replica,
            FSDP: self.fsdp,
            CONTEXT: self.context,
            TENSOR: self.tensor,
        }
        for name, size in given.items():
            if size == 0 or size < -1:
                raise ValueError(f"mesh.{name} is {size}: give a positive size, or -1 for the rest")
        free = [name for name, size in given.items() if size == -1]
        if len(free) > 1:
            raise ValueError(f"mesh.{free[0]} and mesh.{free[1]} are both -1: give one of them")
        fixed = 1
        for size in given.values():
            fixed *= max(size, 1)
        if free and devices % fixed == 0:
            given[free[0]] = devices // fixed
            fixed = devices
        if fixed != devices:
            # Most meshes do not split sequences; their users need not hear of it.
            shown = {name: size for name, size in given.items() if name != CONTEXT or size != 1}
            raise ValueError(
                f"a mesh of {' x '.join(map(str, shown.values()))} ({' x '.join(shown)}) "
                f"does not fit {devices} devices: change the sizes so that their product "
                f"{'divides' if free else 'is'} {devices}"
            )
        return given[REPLICA], given[FSDP], given[CONTEXT], given[TENSOR]


@dataclasses.dataclass(frozen=True)
class LogicalAxes:
    """Where each named array axis lives on the mesh. Models speak these names only."""

    batch: Physical = (REPLICA, FSDP)
    length: Physical = None
    embed: Physical = FSDP
    heads: Physical = TENSOR
    kv: Physical = None
    mlp: Physical = TENSOR
    vocab: Physical = TENSOR
    horizon: Physical = None
    action: Physical = None
