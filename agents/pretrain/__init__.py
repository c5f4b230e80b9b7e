"""Pretraining of language models: documents, packed rows, the training loop, perplexity."""
