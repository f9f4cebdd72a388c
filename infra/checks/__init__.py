"""What `thalweg doctor` looks at in the servers, one file each."""
