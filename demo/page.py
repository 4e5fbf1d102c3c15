"""The page's layout and looks; what happens on a click is in events.py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import gradio as gr

from . import compare_tab, events, live_tab, settings, talk
from .events import Controls
from .parts import read
from .studio import Studio

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator


def build_demo(generator: StreamingGenerator, studio: Studio | None = None) -> gr.Blocks:
    """Return the page for `generator`; launch it with `launch_options(studio)`."""
    studio = studio or Studio(generator)
    with gr.Blocks(
        title="Mutual Forcing", delete_cache=(900, 3600), analytics_enabled=False
    ) as demo:
        gr.HTML(read("header.html"))
        with gr.Tabs():
            with gr.Tab("Talk", id="talk"), gr.Row(equal_height=False):
                with gr.Column(scale=5, min_width=320):
                    fields, preflight = talk.request_column(generator)
                    settings.panel(fields, demo, studio)
                with gr.Column(scale=5, min_width=320):
                    stage = talk.stage_column()
            with gr.Tab("Compare", id="compare"):
                compare_tab.build(demo, studio)
            with gr.Tab("Live", id="live"):
                live_tab.build(demo, studio)
        gr.HTML(read("footer.html"))
        controls = Controls(fields=fields, preflight=preflight, **stage)
        events.wire(demo, studio, controls)
    demo.queue(max_size=studio.limits.queue)
    return demo


def launch_options(studio: Studio) -> dict[str, Any]:
    """Return what `Blocks.launch` needs besides the address."""
    return {
        "theme": _theme(),
        "css": read("page.css") + read("tabs.css"),
        "app_kwargs": {"routes": [studio.shelf.route()]},
        "ssr_mode": False,
        "show_error": True,
        "auth": studio.limits.auth,
        "mcp_server": os.environ.get("MF_MCP") == "1",
        "max_file_size": f"{studio.limits.upload_mb}mb",
        "footer_links": ["api", "settings"],
    }


def _theme() -> gr.themes.Base:
    font = ["Inter", "system-ui", "-apple-system", "Segoe UI", "sans-serif"]
    return gr.themes.Soft(
        primary_hue="indigo",
        secondary_hue="violet",
        neutral_hue="slate",
        radius_size="lg",
        font=font,
        font_mono=["ui-monospace", "monospace"],
    ).set(
        body_background_fill="linear-gradient(180deg, *primary_50 0%, *neutral_50 320px)",
        body_background_fill_dark="linear-gradient(180deg, #171a2c 0%, *neutral_950 320px)",
        button_primary_background_fill="linear-gradient(90deg, *primary_500, *secondary_500)",
        button_primary_background_fill_hover="linear-gradient(90deg, *primary_600, *secondary_600)",
        button_primary_background_fill_dark="linear-gradient(90deg, *primary_600, *secondary_600)",
        button_primary_text_color="white",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_padding="0",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_title_text_weight="600",
        block_label_background_fill="*background_fill_primary",
        block_label_background_fill_dark="*background_fill_primary",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
    )
