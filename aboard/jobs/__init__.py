"""One description of a job, and a job script for any machine.

description.py  `Job`: what is to run, in words that belong to no machine
rules.py        what a site would refuse, and why; the partition a job goes to
render.py       job and site → the script, each line with its reason
translate/      what people have from the cloud → `Job`, with notes on what has no counterpart
commands.py     `aboard job`, `aboard translate`
example/        a training that runs anywhere, stops when told, and goes on where it was
"""
