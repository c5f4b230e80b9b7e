"""Stages that run in other processes: simulators that are not JAX. Workers import no JAX."""
