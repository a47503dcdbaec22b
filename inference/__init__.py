"""What reported numbers say about the parameters, and the commands."""
