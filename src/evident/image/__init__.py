"""Images: from a small specification to a disk, a kernel and an initrd that anyone can build again, bit for bit."""
