"""The store that all managers keep their sessions in."""

from __future__ import annotations

from mutual_forcing.demo.session_store import SessionStore


def test_the_oldest_items_are_released_beyond_the_limit():
    released = []
    store = SessionStore[str]("test", 2, lambda session_id, item: released.append(item))
    for session_id, item in (("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")):
        store.put(session_id, item)
    assert released == ["1", "2"], (
        "a new item replaces the session's last one and makes it the newest"
    )
    assert store.items() == [("a", "3"), ("c", "4")] and store.get("b") is None


def test_a_popped_item_is_not_released_and_close_leaves_nothing():
    released = []
    store = SessionStore[str]("test", 2, lambda session_id, item: released.append(session_id))
    store.put("a", "1")
    store.put("b", "2")
    store.drop("somebody else")
    assert store.pop("a") == "1" and not released
    clip = store.new_clip("talk")
    clip.write_bytes(b"")
    assert clip.name.startswith("talk-") and clip != store.new_clip("talk")
    store.close()
    assert released == ["b"] and not store.folder.exists()
    store.close()
