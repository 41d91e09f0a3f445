"""What engines write when they start, and what training loops write of memory: quantities and settings, line by line."""
