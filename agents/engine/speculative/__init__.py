"""Speculative decoding: guessed tokens, verified in one step (Leviathan et al., arXiv 2211.17192).

A guess is accepted where it is the token that the model itself would have drawn with the noise of
that position. So the output is the same token for token, with or without guesses, whoever makes
them (the drafter-invariant coupling of Daliri et al., arXiv 2408.07978).
"""
