"""`bitsandbytes.autograd`: a package of one module, `_functions`."""
