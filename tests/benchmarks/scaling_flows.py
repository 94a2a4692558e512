def measure(*a): yield from ()
