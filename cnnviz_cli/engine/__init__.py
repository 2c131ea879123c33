"""Carries out plans; the only room with autograd. It knows needs, never a method's name."""
