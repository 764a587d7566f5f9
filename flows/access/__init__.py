"""What flows may touch: lists of a deployment, secrets by name, paths and addresses within roots."""
