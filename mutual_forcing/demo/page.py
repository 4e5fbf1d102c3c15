"""The layout and the theme of the page. The events are in events.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from . import about, comparison_tab, events, live_tab, runs, settings, talk_tab
from .blocks import Page
from .components import MODEL_QUEUE, read
from .events import Controls
from .sessions import SessionManager
from .texts import text, translations

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator

_FOLLOW_THE_LANGUAGE = """const follow = () => window.mutualForcing.speak(props.label);
watch("label", follow); follow();"""


def build_demo(generator: StreamingGenerator, sessions: SessionManager | None = None) -> Page:
    """Return the page for `generator`. Mount it with `mount_options(sessions)`."""
    sessions = sessions or SessionManager(generator)
    with Page(
        sessions.limits, title="Mutual Forcing", delete_cache=(900, 3600), analytics_enabled=False
    ) as demo:
        # The label is the language that Gradio chose; texts.js uses it for the rest of the page.
        gr.HTML(
            read("header.html"), label=text("mf.language"), js_on_load=_FOLLOW_THE_LANGUAGE,
        )  # fmt: skip
        with gr.Tabs():
            with gr.Tab(text("tab.talk"), id="talk"), gr.Row(equal_height=False):
                with gr.Column(scale=5, min_width=320):
                    fields, asked = talk_tab.request_column(generator)
                    runs.build(fields)
                    settings.panel(fields, demo, sessions)
                with gr.Column(scale=5, min_width=320):
                    stage = talk_tab.stage_column(generator)
            with gr.Tab(text("tab.compare"), id="compare"):
                comparison_tab.build(demo, sessions)
            with gr.Tab(text("tab.live"), id="live"):
                live_tab.build(demo, sessions)
            with gr.Tab(text("tab.about"), id="about"):
                about.build(generator)
        gr.HTML(read("footer.html"))
        controls = Controls(fields=fields, **asked, **stage)
        events.connect(demo, sessions, controls)
    for event in demo.fns.values():
        if event.concurrency_id == MODEL_QUEUE:
            event.concurrency_limit = generator.streams
    # Closed to calls that would not wait in the queue.
    demo.queue(max_size=sessions.limits.queue, api_open=False)
    return demo


def mount_options(sessions: SessionManager) -> dict[str, Any]:
    """Return the options of `gr.mount_gradio_app` besides the path."""
    return {
        "theme": _theme(),
        "css": read("page.css") + read("tabs.css") + read("small.css"),
        "head": f"<script>{read('texts.js')}{read('queue.js')}{read('replica.js')}</script>",
        "i18n": translations(),
        "ssr_mode": False,
        "show_error": True,
        "auth": sessions.limits.auth,
        "mcp_server": sessions.limits.mcp,
        "max_file_size": f"{sessions.limits.upload_mb}mb",
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
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        block_label_background_fill="*background_fill_primary",
        block_label_background_fill_dark="*background_fill_primary",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
    )
