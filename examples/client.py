"""Ask a running page for a film: python examples/client.py http://127.0.0.1:7860 face.png "Hello!" """

import sys

from gradio_client import Client, handle_file

address, picture, text = sys.argv[1:4]
client = Client(address, verbose=False)  # behind a password: auth=("user", "password")
film = client.predict(
    picture=handle_file(picture), text=text, sound=None, sound_use="drives the lips",
    emotion="happy", motion="calm", steps=4, seed=0, guidance=0, seconds=0, window=0,
    size=512, framing="whole", face=1, api_name="/generate",
)  # fmt: skip
sys.stdout.write(f"{film}\n")
