"""Software stand-ins with TEST roots of their own. Production trust refuses them; nothing here is hardware."""
