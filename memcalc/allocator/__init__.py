"""PyTorch's caching allocator as pure code: blocks, segments and pools, without a device."""
