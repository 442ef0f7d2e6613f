"""The page to play with, ``captum-ib app``: pictures and words in, maps in bits out.

``offers`` holds the models and what each admits, ``uploads`` reads files from strangers, ``asking``
answers a question, ``pulse`` says how far it is, ``results`` keeps files for download, ``views``
what each page shows, ``running`` ends what is no longer wanted, ``links`` reads addresses, ``page``
joins them to what happens when the page is used; none of them knows a web framework. ``cards``,
``notes``, ``parts`` and ``style`` are the looks, ``choices``, ``layout`` and ``events`` Gradio's
components.

In front of Gradio stands ``guard``: ``routes`` says which requests are let in, ``messages`` what
they may hold, ``visitors`` whose it is, ``files`` takes uploads and gives files, ``exchange`` is
HTTP itself. ``server`` puts all of it together.
"""
