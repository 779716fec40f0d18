# Kernel modules of a virtual machine; a container has none.
{ }
