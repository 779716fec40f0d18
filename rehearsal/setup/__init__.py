"""Set-up: programs, images and the machine's own requirements, made once and cached."""
