"""What runs inside the confidential VM. All of it is measured, so all of it is small: standard library and `cryptography`."""
