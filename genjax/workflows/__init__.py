"""Run the commands: each file wires data, models, training and evaluation for one of them.

    assemble   a config -> dataset, model and finished stages; a run directory -> the same with weights
    train      train a run, its stages first, or resume it
    sample     draw, show and save samples
    evaluate   score a run
    compare    train, sample and score several runs under one budget; its parts are entries (what is
               compared), validate (before the first is trained), previous (what an earlier session
               left) and budget
    convert    exchange runs with the directories of other libraries

Nothing here computes anything itself.
"""
