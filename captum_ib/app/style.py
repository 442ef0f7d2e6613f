"""The looks of the page: its head and its style sheet. Fonts are those of the reader's machine."""

from __future__ import annotations

from captum_ib.app.cards import LIT

SANS = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Noto Sans",
    "DejaVu Sans",
    "sans-serif",
)
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

HEAD = """
<header class="ib-head">
  <h1>What does the model look at?</h1>
  <p>Choose a picture, a sound or a text, say what to look for, and see how much each region and
  each word passes on: in <b>bits</b>, where 0 means that nothing of it reaches the decision, or in
  signed units of the model's output. Nothing leaves this machine.</p>
</header>
"""

EMPTY = """
<div class="ib-start">
  <p>The maps appear here.</p>
  <p class="ib-quiet">Press <b>Explain</b> to start with the example that is chosen already. Each
  map has its own colour bar: read it before the colours, 0.3 bits can look as bright as 300.</p>
</div>
"""

CSS = """
.gradio-container { max-width: 1400px !important; margin: 0 auto !important;
  overflow: clip !important; } /* hidden would hold back what is sticky */
.ib-head h1 { font-size: 1.6rem; font-weight: 650; margin: .2rem 0 .3rem; }
.ib-head p { max-width: 52rem; margin: 0; line-height: 1.5; color: var(--body-text-color-subdued); }
.ib-head b { color: var(--body-text-color); }
.ib-quiet { color: var(--body-text-color-subdued); font-size: .85rem; }
.ib-cards { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); }
.ib-card { margin: 0; padding: .8rem; border: 1px solid var(--border-color-primary);
  border-radius: 10px; background: var(--background-fill-primary); min-width: 0; }
.ib-card h3 { margin: 0 0 .5rem; font-size: 1rem; font-weight: 600; }
.ib-card img { width: 100%; display: block; border-radius: 6px; margin: 0; }
.ib-question { margin-top: .6rem; font-weight: 600; overflow-wrap: anywhere; }
.ib-where { margin-top: .6rem; font-size: .75rem; line-height: 1.4; overflow-wrap: anywhere; }
.ib-empty { aspect-ratio: 1; display: grid; place-items: center; border-radius: 6px;
  background: var(--background-fill-secondary); color: var(--body-text-color-subdued);
  animation: ib-wait 1.6s ease-in-out infinite alternate; }
@keyframes ib-wait { from { opacity: .55 } to { opacity: 1 } }
@media (prefers-reduced-motion: reduce) { .ib-empty { animation: none } }
.ib-bar { display: grid; grid-template-columns: 1fr auto 1fr; margin-top: .5rem;
  font-size: .78rem; font-variant-numeric: tabular-nums; color: var(--body-text-color); }
.ib-bar div { grid-column: 1 / -1; height: 10px; border-radius: 3px; margin-bottom: .15rem; }
.ib-bar span:last-child { text-align: right; }
.ib-words { margin: .8rem 0 0; line-height: 1.9; font-family: var(--font-mono); font-size: .9rem; }
.ib-words span { padding: .15rem .35rem; border-radius: 4px; }
.ib-note { padding: .6rem .8rem; border-radius: 8px; line-height: 1.45; overflow-wrap: anywhere;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
.ib-error { background: #fdecea; border-color: #d9534f; color: #7a1512; }
.dark .ib-error { background: #431715; border-color: #b3403c; color: #ffd9d6; }
.ib-start { display: grid; place-content: center; text-align: center; min-height: 300px;
  border: 1px dashed var(--border-color-primary); border-radius: 10px; padding: 1rem; }
.ib-start p { max-width: 30rem; margin: .2rem auto; }
.ib-preview { display: flex; gap: .8rem; align-items: center; font-size: .85rem; line-height: 1.5;
  overflow-wrap: anywhere; }
.ib-preview audio { width: 100%; max-width: 260px; height: 36px; margin-top: .3rem; }
.ib-preview img { width: 96px; height: 96px; object-fit: contain; border-radius: 6px; margin: 0;
  background: var(--background-fill-secondary); flex: none; }
.ib-methods { margin: 0; padding-left: 1.1rem; font-size: .85rem; line-height: 1.45; }
.ib-methods li { margin: .15rem 0; }
.ib-downloads { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; margin-top: 1rem; }
.ib-downloads details { flex-basis: 100%; font-size: .9rem; }
.ib-downloads summary { cursor: pointer; }
.ib-downloads ul { margin: .4rem 0 0; padding-left: 1.2rem; }
a.ib-button { padding: .45rem .9rem; border-radius: 8px; text-decoration: none; font-weight: 600;
  background: var(--button-secondary-background-fill); color: var(--button-secondary-text-color);
  border: 1px solid var(--border-color-primary); }
a.ib-button:hover { background: var(--button-secondary-background-fill-hover); }
.ib-seen { position: relative; }
.ib-seen .ib-region { position: absolute; inset: 0; height: 100%; visibility: hidden; }
.ib-words span[tabindex] { cursor: help; }
.ib-words span[tabindex]:hover, .ib-words span[tabindex]:focus {
  outline: 2px solid var(--color-accent); }
.ib-wide { grid-template-columns: 1fr; }
.ib-wide .ib-empty { aspect-ratio: 6; }
.ib-note:has(.ib-pulse) { display: flex; flex-wrap: wrap; gap: .2rem 1rem;
  justify-content: space-between; }
.ib-pulse { display: inline-flex; gap: .6rem; align-items: center;
  font-variant-numeric: tabular-nums; }
.ib-pulse progress { width: 7rem; height: .5rem; accent-color: var(--color-accent); }
#ib-file [data-testid=upload-icon] { display: none; }
#ib-file [data-testid=upload-text] { font-size: .85rem; line-height: 1.4; padding-top: 1.2rem; }
#ib-upload { gap: .4rem; }
#ib-right { scroll-margin-top: .5rem; }
#ib-state:has(.ib-pulse) { position: sticky; top: 0; z-index: 10; }
#ib-preview:not(:has(.ib-preview)):not(:has(.ib-note)) { display: none; }
#ib-go { position: sticky; bottom: 0; z-index: 20; padding: .6rem 0;
  background: var(--body-background-fill); border-top: 1px solid var(--border-color-primary); }
#ib-state:not(:has(.ib-note)) { display: none; }
#ib-marks, #ib-pictures { display: none; }
#ib-examples { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: .4rem; }
#ib-examples button { min-width: 0 !important; width: 100%; aspect-ratio: 1; padding: 0;
  font-size: 0; border-radius: 8px; background-size: cover; background-position: center; }
#ib-examples button::before { font-size: .75rem; font-weight: 400; line-height: 1.3;
  white-space: pre-wrap; text-align: left; padding: .4rem; }
#ib-examples button:hover { filter: brightness(1.1); }
@media (max-width: 860px) {
  #ib-columns { flex-direction: column; flex-wrap: nowrap; }
  #ib-columns > * { min-width: 0 !important; width: 100%; flex: none; }
  #ib-go { position: fixed; left: 0; right: 0; padding: .6rem 1rem; }
  #ib-right { min-height: 85vh; }
  .gradio-container { padding-bottom: 4.5rem !important; }
}
"""

# Gradio cuts selectors at every comma, so none stands within brackets.
_LIT = "\n".join(
    f".ib-card:has(.ib-w{i}:hover) .ib-r{i}, .ib-card:has(.ib-w{i}:focus) .ib-r{i} "
    "{ visibility: visible; }"
    for i in range(LIT)
)
CSS += _LIT
