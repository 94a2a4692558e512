from registered import make_client, make_register, populated, two

__all__ = ["make_client", "make_register", "populated", "two"]
