"""Every ray of random scenes against a textbook ray caster in NumPy float64, world frame."""

import itertools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from loomax.envs.render import RenderScene, render

KINDS = ("plane", "sphere", "capsule", "ellipsoid", "cylinder", "box")
SIDE = 20

XML = """
<mujoco>
  <worldbody>
    <camera name="eye" fovy="50"/>
    <geom type="plane" size="0 0 .1"/>
    <geom type="plane" size=".5 .3 .1"/>
    <geom type="sphere" size=".2"/>
    <geom type="capsule" size=".1 .3"/>
    <geom type="capsule" size=".2 .05"/>
    <geom type="ellipsoid" size=".1 .2 .3"/>
    <geom type="cylinder" size=".2 .1"/>
    <geom type="cylinder" size=".05 .4"/>
    <geom type="box" size=".1 .2 .3"/>
    <geom type="box" size=".3 .3 .02"/>
  </worldbody>
</mujoco>
"""


def roots(a, b, c):
    """Real t with a t^2 + b t + c = 0."""
    square = b * b - 4 * a * c
    if abs(a) < 1e-14 or square < 0:
        return []
    return [(-b + sign * square**0.5) / (2 * a) for sign in (1, -1)]


def ball(o, d, centre, radii):
    p, q = (o - centre) / radii, d / radii
    for t in roots(q @ q, 2 * p @ q, p @ p - 1):
        yield t, (o + t * d - centre) / radii**2


def tube(o, d, radius, half):
    for t in roots(d[:2] @ d[:2], 2 * o[:2] @ d[:2], o[:2] @ o[:2] - radius**2):
        point = o + t * d
        if abs(point[2]) <= half:
            yield t, np.array([point[0], point[1], 0])


def face(o, d, axis, at, inside):
    """A flat face x[axis] = at, bounded by `inside(point)`."""
    if abs(d[axis]) > 1e-14:
        t = (at - o[axis]) / d[axis]
        if inside(o + t * d):
            yield t, np.sign(at) * np.eye(3)[axis]


def meets(kind, o, d, size):
    """All (t, outward gradient) at which the ray meets the geom's surface, in the geom's frame."""
    if kind == "plane":
        limit = [s if s > 0 else np.inf for s in size[:2]]
        if o[2] > 0 and d[2] < 0:
            t = -o[2] / d[2]
            if (abs((o + t * d)[:2]) <= limit).all():
                yield t, np.array([0.0, 0, 1])
    elif kind == "sphere":
        yield from ball(o, d, np.zeros(3), np.full(3, size[0]))
    elif kind == "ellipsoid":
        yield from ball(o, d, np.zeros(3), size)
    elif kind == "capsule":
        yield from tube(o, d, size[0], size[1])
        for end in (size[1], -size[1]):
            for t, normal in ball(o, d, np.array([0, 0, end]), np.full(3, size[0])):
                if abs((o + t * d)[2]) >= size[1]:
                    yield t, normal
    elif kind == "cylinder":
        yield from tube(o, d, size[0], size[1])
        for at in (size[1], -size[1]):
            yield from face(o, d, 2, at, lambda p: np.hypot(p[0], p[1]) <= size[0])
    elif kind == "box":
        for axis, sign in itertools.product(range(3), (1, -1)):
            rest = [i for i in range(3) if i != axis]
            bound = size[rest]
            yield from face(
                o, d, axis, sign * size[axis], lambda p, r=rest, b=bound: (abs(p[r]) <= b).all()
            )


def cast(model, pos, mat, cam_pos, cam_mat, ray, far):
    """Depth, geom id and world normal of the nearest hit of one ray, or None."""
    direction, hits = cam_mat @ ray, []
    for geom in range(model.ngeom):
        kind = KINDS[(0, 2, 3, 4, 5, 6).index(model.geom_type[geom])]
        o, d = mat[geom].T @ (cam_pos - pos[geom]), mat[geom].T @ direction
        for t, normal in meets(kind, o, d, model.geom_size[geom]):
            if 0 < t < far:
                hits.append((t, geom, mat[geom] @ normal / np.linalg.norm(normal)))
    return min(hits, key=lambda hit: hit[0]) if hits else None


def rotation(random):
    q, r = np.linalg.qr(random.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


def look_at(pos, target):
    back = (pos - target) / np.linalg.norm(pos - target)
    right = np.cross([0, 0, 1.0], back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back], 1)


def outside_everything(model, pos, mat, point):
    """The camera must not stand inside a solid: such solids are not drawn, by intention."""
    for geom in range(model.ngeom):
        size, local = model.geom_size[geom], mat[geom].T @ (point - pos[geom])
        if np.linalg.norm(local) < np.linalg.norm(size) + size.max() and model.geom_type[geom] != 0:
            return False
    return True


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_string(XML)


@pytest.fixture(scope="module")
def draw(model):
    scene = RenderScene.from_mujoco(model, "eye", SIDE, SIDE)
    return jax.jit(lambda *poses: render(scene, *poses))


def placed(model, seed):
    """Random poses: the first plane stays the floor, the rest floats above it."""
    random = np.random.default_rng(seed)
    pos = random.uniform([-0.7, -0.7, 0.2], [0.7, 0.7, 1.0], (model.ngeom, 3))
    mat = np.stack([rotation(random) for _ in range(model.ngeom)])
    pos[0], mat[0] = 0, np.eye(3)
    while True:
        cam_pos = random.uniform([-2, -2, 0.3], [2, 2, 2.0])
        if outside_everything(model, pos, mat, cam_pos):
            return pos, mat, cam_pos, look_at(cam_pos, np.array([0, 0, 0.5]))


@pytest.mark.parametrize("seed", range(6))
def test_frame_equals_reference(model, draw, seed):
    pos, mat, cam_pos, cam_mat = placed(model, seed)
    frame = draw(
        *(jnp.asarray(x, jnp.float32) for x in (pos, mat)),
        None,
        *(jnp.asarray(x, jnp.float32) for x in (cam_pos, cam_mat)),
    )
    half = np.tan(np.radians(25))
    ids, depth, normals = (np.asarray(x) for x in (frame.segmentation, frame.depth, frame.normals))
    far = float(model.vis.map.zfar * model.stat.extent)
    same, seen = 0, set()
    for row, column in itertools.product(range(SIDE), range(SIDE)):
        u, v = (((column + 0.5) * 2 / SIDE) - 1) * half, (1 - (row + 0.5) * 2 / SIDE) * half
        hit = cast(model, pos, mat, cam_pos, cam_mat, np.array([u, v, -1.0]), far)
        geom = -1 if hit is None else hit[1]
        # Rays that graze an edge may fall on either side of it in float32; they are counted.
        if ids[row, column] != geom:
            continue
        same += 1
        seen.add(geom)
        if hit is not None:
            np.testing.assert_allclose(depth[row, column], hit[0], rtol=2e-4)
            if abs(hit[2] @ cam_mat @ [u, v, -1]) > 0.1:
                np.testing.assert_allclose(normals[row, column], hit[2], atol=2e-3)
    assert same >= SIDE**2 - 1
    assert len(seen) >= 6


def test_normals_are_unit_and_face_the_camera(model, draw):
    pos, mat, cam_pos, cam_mat = placed(model, 11)
    frame = draw(
        *(jnp.asarray(x, jnp.float32) for x in (pos, mat)),
        None,
        *(jnp.asarray(x, jnp.float32) for x in (cam_pos, cam_mat)),
    )
    hit = np.asarray(frame.segmentation) >= 0
    normals = np.asarray(frame.normals)
    np.testing.assert_allclose(np.linalg.norm(normals[hit], axis=-1), 1, atol=1e-5)
    assert (normals[~hit] == 0).all()
    half = np.tan(np.radians(25))
    grid = ((np.arange(SIDE) + 0.5) * 2 / SIDE - 1) * half
    u, v = np.meshgrid(grid, -grid)
    rays = np.stack([u, v, -np.ones_like(u)], -1) @ cam_mat.T
    assert ((normals * rays).sum(-1)[hit] < 1e-3).all()
