"""Any OpenAI-compatible endpoint as the engine of search agents."""
