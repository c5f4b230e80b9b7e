"""Programs whose order of work, and so whose memory, is what was asked for."""
