"""SIMULATION of speculating search agents: no model runs, costs are functions that are given."""
