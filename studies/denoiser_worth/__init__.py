"""Does the diffusion earn its place?  Its masks beside those of simpler laws, on phantom patients whose truth is known."""
