"""What PyTorch's autograd keeps and allocates, without PyTorch: a symbolic tape, its operations, and how they are executed."""
