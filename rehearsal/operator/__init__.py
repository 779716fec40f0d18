"""The operator: the stack, its keys, edits of the program, leaks of secrets."""
