"""Represent music as arrays of notes (four voices or piano rolls), draw it, and write MIDI and sound.

Uses NumPy, and Pillow or mido where they are needed. `genjax.music.save.save` writes all forms at once.
"""
