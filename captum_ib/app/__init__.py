"""The page to play with, ``captum-ib app``: pictures and words in, maps in bits out.

``offers`` holds the models and what each admits, ``uploads`` reads files from strangers, ``asking``
answers a question, ``results`` keeps files for download, ``running`` ends what is no longer wanted,
``page`` joins them to what happens when the page is used; none of them knows a web framework.
``cards`` and ``style`` are the looks, ``choices`` and ``layout`` Gradio's components.

In front of Gradio stands ``guard``: ``routes`` says which requests are let in, ``messages`` what
they may hold, ``visitors`` whose it is, ``files`` takes uploads and gives files, ``exchange`` is
HTTP itself. ``server`` puts all of it together.
"""
