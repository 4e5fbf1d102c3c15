"""The parts of the page that app.py serves; unlike the library, they use Gradio."""
