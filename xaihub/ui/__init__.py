"""The pages. The only importers of gradio; nothing here imports torch before a visitor, or the warm-up, needs it."""
