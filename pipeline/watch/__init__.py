"""Watch: sources looked at again and again, and what is new mapped once."""
