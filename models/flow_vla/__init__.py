"""Flow-matching vision-language-action policies: pi0, pi0.5 and small ones of the same shape."""
