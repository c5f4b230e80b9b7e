"""The form of a program that fits: what is searched, and what the compiler says of it."""
