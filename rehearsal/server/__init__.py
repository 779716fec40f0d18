"""The servers: containers, their disks and what boots them."""
