"""Music as arrays of notes: four voices or piano rolls, drawn, written as MIDI, and heard.

A leaf: numpy alone, and Pillow or mido where they are needed. `genjax.music.save.save_music` writes all.
"""
