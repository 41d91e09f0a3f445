"""What models are made of. A block knows its weights, the tensors autograd saves for it, its cache and its FLOPs."""
