"""Text to token ids: an embedded byte-level BPE and the protocol of any other tokenizer."""

from loomax.models.tokenizer.bpe import BytePairTokenizer, Tokenizer, default_tokenizer

__all__ = ["BytePairTokenizer", "Tokenizer", "default_tokenizer"]
