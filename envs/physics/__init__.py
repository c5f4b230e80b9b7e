"""Physics back ends behind one small state."""
