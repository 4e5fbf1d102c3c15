"""The web page that app.py serves. Only this package uses Gradio."""
