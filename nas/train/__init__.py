"""Training of supernets: data, which nets a step takes, distillation, the loop, evaluation."""
