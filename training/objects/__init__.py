"""Training of the embedded objects net on ray-traced procedural shapes."""
