"""Functions from clouds to clouds, and the step from a cloud to voxels."""
