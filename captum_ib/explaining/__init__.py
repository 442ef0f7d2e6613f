"""From a picture and a question to maps and files: what the command line and the page share.

``subject`` makes tensors of a picture and its question and runs a method on them, ``choices`` says
which methods, devices and dtypes there are, ``pictures`` reads images, ``results`` and ``output``
write what was found.
"""
