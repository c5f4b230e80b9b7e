"""Draws primitive scenes by ray casting, as pure functions inside a JAX program."""

from loomax.envs.render.frame import Frame, render, render_rgb
from loomax.envs.render.scene import Checker, Lighting, RenderScene

__all__ = ["Checker", "Frame", "Lighting", "RenderScene", "render", "render_rgb"]
