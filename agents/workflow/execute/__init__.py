"""Running a workflow by a plan: fused, time-shared, on disjoint devices, or any mix."""
