"""The write side: what may happen. Deciders are pure; `submit` is the one way in."""
