"""The steps of the boot, one module each; `evident.guest.init` calls them in their order."""
