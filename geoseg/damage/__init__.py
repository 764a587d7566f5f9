"""How badly buildings are damaged, one by one."""
