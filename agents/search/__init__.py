"""Search agents: a world to search in, retrieval, the grammar of actions and their server."""
